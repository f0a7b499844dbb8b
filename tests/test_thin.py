"""Thin messages: which object it is, for the receiver to fetch the rest."""

import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from django.conf import settings as django_settings
from django.db import connection, transaction
from django.test import override_settings
from django.urls import path
from django.utils import timezone
from rest_framework import serializers

from drf_webhooks import pipeline, subscriptions
from drf_webhooks.endpoints import disable
from drf_webhooks.models import Delivery, Endpoint, Event, EventBody
from drf_webhooks.notices import tell
from drf_webhooks.registry import registry
from drf_webhooks.replay import replay_chosen, replay_missing, span
from drf_webhooks.session import disable_webhooks
from drf_webhooks.testing import WebhookReceiver, deliver_now
from drf_webhooks.transactions import log_of
from tests.app.models import Deposit, Tenant
from tests.app.urls import urlpatterns as other_urls
from tests.declaring import DepositForm, declare, names, recorded, statements
from tests.factories import make_deposit, make_user

pytestmark = pytest.mark.django_db(transaction=True)

urlpatterns = [*other_urls, path("deposits/<pk>/", lambda request: None, name="deposit-detail")]  # type: ignore[return-value]  # never called
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _isolated() -> Iterator[None]:
    with registry.isolated():
        yield


@pytest.fixture
def deposit() -> Deposit:
    with disable_webhooks():
        return make_deposit()


def subscribe(**fields: Any) -> Endpoint:
    given = {"url": "https://x.example/", "event_types": ["core.*"], **fields}
    return Endpoint.objects.create(**given)


def heard_by(endpoint: Endpoint) -> list[Any]:
    rows = Delivery.objects.filter(endpoint=endpoint).order_by("sequence", "pk")
    return [json.loads(each.body or b"null") for each in rows.select_related("event")]


def without_time(content: Any) -> Any:
    return {name: value for name, value in content.items() if name != "timestamp"}


def test_an_endpoint_may_ask_for_thin_messages(deposit: Deposit) -> None:
    declare(previous_attributes=True)
    whole = subscribe()
    with WebhookReceiver() as receiver:
        subscribe(url=receiver.url, is_thin=True)
        deposit.save()
        Delivery.objects.filter(endpoint=whole).update(due_at=None)
        deliver_now()
        (request,) = receiver.requests

    assert without_time(request.json) == {
        "type": "core.deposit.updated",
        "sequence": 1,
        "thin": True,
        "data": {"id": deposit.pk},
    }
    assert heard_by(whole)[0]["data"]["amount"] == "100.00"
    assert "thin" not in heard_by(whole)[0]


class Linked(serializers.HyperlinkedModelSerializer[Deposit]):
    class Meta:
        model = Deposit
        fields: ClassVar = ["url", "amount"]


@pytest.mark.urls(__name__)
def test_the_url_of_the_object_is_kept(deposit: Deposit) -> None:
    declare(serializer_class=Linked, thin=True)
    endpoint = subscribe()
    links = {**django_settings.DRF_WEBHOOKS, "BASE_URL": "https://api.example"}

    with override_settings(DRF_WEBHOOKS=links):
        deposit.save()
        url = f"https://api.example/deposits/{deposit.pk}/"

        assert heard_by(endpoint)[0]["data"] == {"url": url}


def test_a_resource_may_be_thin_for_everybody(deposit: Deposit) -> None:
    declare(thin=True, previous_attributes=True)
    first, second = subscribe(), subscribe(is_thin=True)

    deposit.save()

    assert heard_by(first) == heard_by(second)
    assert heard_by(first)[0]["data"] == {"id": deposit.pk}
    assert EventBody.objects.count() == 1


def test_of_a_form_without_its_key_the_key_is_said(deposit: Deposit) -> None:
    class Bare(serializers.BaseSerializer[Deposit]):
        def to_representation(self, instance: Deposit) -> Any:
            return str(instance.amount)

        class Meta:
            model = Deposit

    declare(serializer_class=Bare, thin=True)
    endpoint = subscribe()

    deposit.save()

    assert heard_by(endpoint)[0]["data"] == {"id": deposit.pk}


def test_a_custom_event_has_no_other_member(deposit: Deposit) -> None:
    webhook = declare(events={"paid": None}, thin=True)
    endpoint = subscribe()

    webhook.emit(deposit, "paid", {"id": "of the payment", "amount": 1})

    assert heard_by(endpoint)[0]["data"] == {"id": deposit.pk}


def limited(size: int) -> Any:
    return override_settings(
        DRF_WEBHOOKS={**django_settings.DRF_WEBHOOKS, "PAYLOAD_MAX_BYTES": size}
    )


def test_a_message_that_is_too_large_is_sent_thin(
    deposit: Deposit, caplog: pytest.LogCaptureFixture
) -> None:
    declare()
    endpoint = subscribe()

    with limited(100), caplog.at_level(logging.WARNING):
        deposit.save()

    assert heard_by(endpoint)[0]["thin"] is True
    # What it said is known still.
    assert recorded()[0].data["amount"] == "100.00"
    assert "It is sent thin" in caplog.text


def test_one_that_just_fits_is_not(deposit: Deposit) -> None:
    declare()
    endpoint = subscribe()
    deposit.save()
    size = len(bytes(recorded()[0].body))

    with limited(size):
        deposit.save()
    with limited(size - 1):
        deposit.save()

    assert ["thin" in each for each in heard_by(endpoint)] == [False, False, True]


def test_a_large_object_does_not_make_others_thin(deposit: Deposit) -> None:
    declare()
    endpoint = subscribe()
    with disable_webhooks():
        other = make_deposit(note="x" * 50, tenant=Tenant.objects.create(name="y" * 50))
    deposit.save()
    size = len(bytes(recorded()[0].body))

    with limited(size):
        Deposit.objects.update(amount=1)

    found = {each["data"]["id"]: "thin" in each for each in heard_by(endpoint)[1:]}
    assert found == {deposit.pk: False, other.pk: True}


def test_it_is_thin_for_who_subscribes_meanwhile(deposit: Deposit) -> None:
    declare(thin=True)
    subscribe()

    with transaction.atomic():
        deposit.save()
        # What another process does: nobody asks again who wants it in which way.
        subscriptions.wanted(["core.deposit.updated"], "default", log_of("default").interest)
        Endpoint.objects.update(is_thin=True)

    assert heard_by(Endpoint.objects.get())[0]["thin"] is True


@pytest.mark.parametrize("is_thin", [False, True])
def test_what_was_missed_is_replayed_as_the_endpoint_wants_it(
    deposit: Deposit, *, is_thin: bool
) -> None:
    declare()
    since = timezone.now() - DAY
    subscribe(is_thin=not is_thin)
    deposit.save()
    late = subscribe(is_thin=is_thin)

    list(replay_missing(late, span(since, using="default"), using="default"))

    assert ["thin" in each for each in heard_by(late)] == [is_thin]


def test_what_is_too_large_is_replayed_thin(deposit: Deposit) -> None:
    declare()
    since = timezone.now() - DAY
    subscribe()
    with limited(100):
        deposit.save()
        late = subscribe()
        list(replay_missing(late, span(since, using="default"), using="default"))

    assert [each["thin"] for each in heard_by(late)] == [True]


def test_a_thin_resource_that_is_gone_is_replayed_with_the_key(deposit: Deposit) -> None:
    since = timezone.now() - DAY
    with registry.isolated():
        declare()
        subscribe()
        deposit.save()
    late = subscribe(is_thin=True)

    list(replay_missing(late, span(since, using="default"), using="default"))

    assert [each["data"] for each in heard_by(late)] == [{"key": deposit.pk}]


def test_of_a_resource_that_is_gone_what_was_thin_stays_thin(deposit: Deposit) -> None:
    since = timezone.now() - DAY
    with registry.isolated():
        declare(thin=True)
        subscribe()
        deposit.save()
    late = subscribe()

    list(replay_missing(late, span(since, using="default"), using="default"))

    assert [each["data"] for each in heard_by(late)] == [{"id": deposit.pk}]


def test_what_the_library_itself_says_is_never_thin() -> None:
    since = timezone.now() - DAY
    ada = make_user(username="ada")
    subscribe(owner=ada, event_types=["webhooks.*"])
    disable(subscribe(owner=ada), "a test")
    tell("default")
    late = subscribe(owner=ada, event_types=["webhooks.*"], is_thin=True)

    list(replay_missing(late, span(since, using="default"), using="default"))

    (message,) = heard_by(late)
    assert message["data"]["reason"] == "a test"


def test_what_is_said_anew_is_thin_too(deposit: Deposit) -> None:
    declare()
    endpoint = subscribe(is_thin=True)
    deposit.save()

    replay_chosen(Delivery.objects.values_list("pk", flat=True), using="default", is_anew=True)

    assert [(each["thin"], each.get("replay")) for each in heard_by(endpoint)] == [
        (True, None),
        (True, True),
    ]


@pytest.mark.parametrize("count", [1, 20])
def test_thin_messages_cost_one_statement(deposit: Deposit, count: int) -> None:
    with disable_webhooks():
        for _ in range(count - 1):
            make_deposit(tenant=deposit.tenant)
    declare()
    subscribe()

    def cost() -> int:
        with statements() as found:
            Deposit.objects.update(amount=1)
        return len(found)

    without = cost()
    subscribe(is_thin=True)

    assert cost() == without + 1


@pytest.mark.parametrize("count", [1, 20])
def test_a_worker_reads_thin_messages_and_versions_in_one_statement(
    deposit: Deposit, count: int
) -> None:
    declare(versions={"1": DepositForm, "2": DepositForm})

    def cost() -> int:
        for _ in range(count):
            deposit.save()
        with statements() as found:
            assert deliver_now()
        return len([each for each in found if "eventbody" in each])

    with WebhookReceiver() as receiver:
        subscribe(url=receiver.url)
        without = cost()
        subscribe(url=receiver.url, is_thin=True)
        thin = cost()
        subscribe(url=receiver.url, version="1")
        assert (without, thin, cost()) == (0, 1, 1)


@pytest.mark.skipif(connection.vendor == "sqlite", reason="it has one writer at a time")
def test_a_second_look_sees_through_thin_messages(deposit: Deposit) -> None:
    declare(thin=True)
    subscribe()

    def look_again() -> list[str]:
        Event.objects.filter(recheck_at__isnull=False).update(recheck_at=timezone.now() - DAY)
        pipeline.recheck_due()
        return names()

    deposit.save()
    unchanged = look_again()
    deposit.save()
    with override_settings(DRF_WEBHOOKS={"CAPTURE_BULK": False}):
        Tenant.objects.update(name="Bea")

    assert unchanged == ["updated"]
    assert look_again() == ["updated"] * 3
