"""Payload versions: each endpoint is sent the form that it is pinned to."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.test import override_settings
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st
from rest_framework import serializers
from rest_framework.versioning import URLPathVersioning

from drf_webhooks import pipeline, subscriptions, versions
from drf_webhooks.contexts import context_of
from drf_webhooks.models import Delivery, Endpoint, Event, EventBody
from drf_webhooks.registry import registry
from drf_webhooks.replay import count_missing, replay_chosen, replay_missing, span
from drf_webhooks.resources import ModelSerializerWebhook
from drf_webhooks.retention import prune
from drf_webhooks.session import disable_webhooks, webhook_signal_session
from drf_webhooks.testing import WebhookReceiver, capture_events, deliver_now
from drf_webhooks.transactions import log_of
from tests.app.models import Deposit, RentalUnit, Tenant
from tests.declaring import names, owned_by, recorded, statements
from tests.factories import make_deposit, make_tenant, make_user

pytestmark = pytest.mark.django_db(transaction=True)

OLD, NEW = "2025-01", "2026-01"
DAY = timedelta(days=1)


class OldForm(serializers.ModelSerializer[Deposit]):
    tenant = serializers.CharField(source="tenant.name")

    class Meta:
        model = Deposit
        fields: ClassVar = ["id", "tenant"]


class NewForm(serializers.ModelSerializer[Deposit]):
    cents = serializers.SerializerMethodField()
    unit = serializers.CharField(source="unit.name")

    class Meta:
        model = Deposit
        fields: ClassVar = ["id", "cents", "unit"]

    def get_cents(self, deposit: Deposit) -> int:
        return int(deposit.amount * 100)


@pytest.fixture(autouse=True)
def _isolated() -> Iterator[None]:
    with registry.isolated():
        yield


def declare(**attributes: Any) -> Any:
    return type(
        "DepositWebhook",
        (ModelSerializerWebhook,),
        {
            "versions": {OLD: OldForm, NEW: NewForm},
            "depends_on": ["unit"],
            **{
                name: classmethod(each) if type(each).__name__ == "function" else each
                for name, each in attributes.items()
            },
        },
    )


@pytest.fixture
def webhook() -> Any:
    return declare()


@pytest.fixture
def deposit() -> Deposit:
    with disable_webhooks():
        return make_deposit()


def subscribe(version: str = "", **fields: Any) -> Endpoint:
    given = {"url": "https://x.example/", "event_types": ["core.*"], "version": version, **fields}
    return Endpoint.objects.create(**given)


def heard_by(endpoint: Endpoint) -> list[Any]:
    """Return the messages that an endpoint has to get, decoded."""
    rows = Delivery.objects.filter(endpoint=endpoint).order_by("sequence", "pk")
    return [json.loads(each.body or b"null") for each in rows.select_related("event")]


def test_endpoints_on_two_versions_get_each_its_own(webhook: Any, deposit: Deposit) -> None:
    with WebhookReceiver() as first, WebhookReceiver() as second:
        subscribe(OLD, url=first.url)
        subscribe(NEW, url=second.url)
        deposit.save()
        assert deliver_now() == 2
        (old,), (new,) = first.requests, second.requests

    assert old.headers["webhook-id"] == new.headers["webhook-id"]
    assert old.json["data"] == {"id": deposit.pk, "tenant": "Ada"}
    assert new.json["data"] == {"id": deposit.pk, "cents": 10000, "unit": "Top 5"}
    assert (old.json["version"], new.json["version"]) == (OLD, NEW)
    assert list(EventBody.objects.values_list("variant", flat=True)) == [OLD]


def test_each_attempt_has_the_same_bytes_though_the_endpoint_is_pinned_anew(
    webhook: Any, deposit: Deposit
) -> None:
    with WebhookReceiver() as receiver:
        receiver.respond(500)
        endpoint = subscribe(OLD, url=receiver.url)
        subscribe(NEW)
        deposit.save()
        Delivery.objects.exclude(endpoint=endpoint).delete()
        deliver_now()
        endpoint.version = NEW
        endpoint.save()
        Delivery.objects.update(due_at=timezone.now() - DAY)
        deliver_now()
        first, second = receiver.requests
        deposit.save()

    assert first.body == second.body
    assert [each["version"] for each in heard_by(endpoint)] == [OLD, NEW]


def test_a_version_that_nobody_needs_is_not_written(webhook: Any, deposit: Deposit) -> None:
    subscribe(OLD)

    deposit.save()

    assert recorded()[0].version == OLD
    assert not EventBody.objects.exists()


@pytest.mark.parametrize(
    ("pinned", "meant"),
    [
        pytest.param("", OLD, id="made before there were versions"),
        pytest.param("2024-01", OLD, id="before the first"),
        pytest.param(OLD, OLD, id="the first"),
        pytest.param("2025-07", OLD, id="one that another resource has"),
        pytest.param(NEW, NEW, id="the last"),
        pytest.param("2027-01", NEW, id="after the last"),
    ],
)
def test_an_endpoint_gets_the_newest_that_is_not_newer(
    webhook: Any, pinned: str, meant: str
) -> None:
    assert webhook.version_for(pinned) == meant


def test_an_endpoint_is_pinned_to_the_newest_when_it_is_made(webhook: Any, settings: Any) -> None:
    first = subscribe()
    with override_settings(DRF_WEBHOOKS={**settings.DRF_WEBHOOKS, "DEFAULT_VERSION": OLD}):
        second = subscribe()
    declare(base_name="core.other", versions={"2026-07": type("Other", (OldForm,), {})})
    third = subscribe()
    for endpoint in (first, second, third):
        endpoint.refresh_from_db()

    assert [each.version for each in (first, second, third)] == [NEW, OLD, "2026-07"]


def test_without_versions_nothing_is_pinned_and_the_message_has_none(deposit: Deposit) -> None:
    type("Plain", (ModelSerializerWebhook,), {"serializer_class": OldForm})
    endpoint = subscribe()

    deposit.save()

    assert endpoint.version == ""
    assert "version" not in heard_by(endpoint)[0]


def test_versions_that_come_later_change_nothing_for_who_was_there(deposit: Deposit) -> None:
    with registry.isolated():
        type("Plain", (ModelSerializerWebhook,), {"serializer_class": OldForm})
        endpoint = subscribe()
        deposit.save()
    declare()

    deposit.save()

    first, second = heard_by(endpoint)
    assert first["data"] == second["data"]


def test_a_version_that_nothing_has_is_refused(webhook: Any) -> None:
    endpoint = subscribe(OLD)

    with pytest.raises(ValidationError, match=r"no version '2030'\. Known: 2025-01, 2026-01"):
        subscribe("2030")
    endpoint.version = "2030"
    with pytest.raises(ValidationError, match="no version '2030'"):
        endpoint.full_clean()
    with pytest.raises(ValidationError, match="no version '2030'"):
        endpoint.save()
    with registry.isolated(), pytest.raises(ValidationError, match="Known: none"):
        subscribe(OLD)


def test_an_endpoint_on_a_version_that_is_no_more_can_be_saved(webhook: Any) -> None:
    pk = subscribe(OLD).pk
    with registry.isolated():
        found = Endpoint.objects.get(pk=pk)
        found.description = "x"
        found.save()
        partial = Endpoint.objects.only("description").get(pk=pk)
        partial.save(update_fields=["description"])

    assert Endpoint.objects.get(pk=pk).version == OLD


@pytest.mark.parametrize("field", ["tenant", "unit"])
def test_a_change_that_only_one_version_shows_is_noticed(deposit: Deposit, field: str) -> None:
    declare(skip_unchanged=True)
    subscribe(OLD)
    subscribe(NEW)

    Tenant.objects.update(notes="not in any form")
    RentalUnit.objects.update(landlord=None)
    nothing = names()
    {"tenant": Tenant, "unit": RentalUnit}[field]._default_manager.update(name="Bea")

    assert (nothing, names()) == ([], ["updated"])


def test_what_no_needed_version_shows_is_no_news(deposit: Deposit) -> None:
    declare(skip_unchanged=True)
    subscribe(OLD)

    RentalUnit.objects.update(name="Bea")

    assert names() == []


def test_only_fields_may_be_members_of_any_version(deposit: Deposit) -> None:
    declare(only_fields=["cents", "tenant"])
    subscribe(OLD)
    subscribe(NEW)

    RentalUnit.objects.update(name="Bea")
    Tenant.objects.update(name="Bea")
    Deposit.objects.update(amount=1)

    assert names() == ["updated", "updated"]


def test_a_condition_is_asked_with_the_newest_version(deposit: Deposit) -> None:
    found: list[Any] = []

    def condition(cls: Any, change: Any) -> bool:
        found.append((change.before, change.after))
        return True

    declare(condition=condition)
    subscribe(OLD)

    Deposit.objects.update(amount=1)

    ((before, after),) = found
    assert (before["cents"], after["cents"]) == (10000, 100)


def test_each_version_has_its_own_previous_attributes(deposit: Deposit) -> None:
    declare(previous_attributes=True)
    old, new = subscribe(OLD), subscribe(NEW)

    for amount in (1, 2):
        Deposit.objects.update(amount=amount)
        Tenant.objects.update(name=f"Bea {amount}")

    assert [each["previous_attributes"] for each in heard_by(old)] == [
        {},
        {"tenant": "Ada"},
        {},
        {"tenant": "Bea 1"},
    ]
    assert [each["previous_attributes"] for each in heard_by(new)] == [
        {"cents": 10000},
        {},
        {"cents": 100},
        {},
    ]


@pytest.mark.parametrize("in_session", [False, True])
def test_the_whole_form_of_what_is_deleted_is_kept_in_each_version(
    deposit: Deposit, *, in_session: bool
) -> None:
    declare(deleted_payload="full")
    old, new = subscribe(OLD), subscribe(NEW)

    if in_session:
        with webhook_signal_session():
            deposit.delete()
    else:
        deposit.delete()

    assert heard_by(old)[0]["data"]["tenant"] == "Ada"
    assert heard_by(new)[0]["data"]["cents"] == 10000
    kept = EventBody.objects.get()
    assert str(kept) == f"{kept.event_id} {OLD}"


def test_owners_get_what_their_own_endpoints_need(deposit: Deposit) -> None:
    with disable_webhooks():
        ada, bea = make_user(username="ada"), make_user(username="bea")
    declare(get_owner=owned_by(ada, bea))
    first, second, third = subscribe(OLD, owner=ada), subscribe(OLD, owner=bea), None
    third = subscribe(NEW, owner=bea)

    deposit.save()

    assert {each.owner_id: each.version for each in recorded()} == {ada.pk: OLD, bea.pk: NEW}
    assert EventBody.objects.count() == 1
    assert [heard_by(each)[0]["version"] for each in (first, second, third)] == [OLD, OLD, NEW]


def test_one_serializer_may_tell_versions_apart_as_in_drf(deposit: Deposit) -> None:
    class Form(serializers.ModelSerializer[Deposit]):
        class Meta:
            model = Deposit
            fields: ClassVar = ["id", "amount"]

        def to_representation(self, instance: Any) -> Any:
            data = super().to_representation(instance)
            if self.context["request"].version == OLD:
                data["old"] = self.context["version"]
            return data

    type("W", (ModelSerializerWebhook,), {"versions": {OLD: Form, NEW: Form}})
    old, new = subscribe(OLD), subscribe(NEW)

    deposit.save()

    assert heard_by(old)[0]["data"] == {"id": deposit.pk, "amount": "100.00", "old": OLD}
    assert heard_by(new)[0]["data"] == {"id": deposit.pk, "amount": "100.00"}


def test_links_are_those_of_the_version_if_the_api_has_it(
    webhook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Versioning(URLPathVersioning):
        allowed_versions = (NEW,)

    with override_settings(REST_FRAMEWORK={"DEFAULT_VERSIONING_CLASS": Versioning}):
        found = [
            context_of(webhook, version=version, base_url=base)["request"]
            for version, base in ((OLD, None), (NEW, "https://api.example"))
        ]

    assert [type(each.versioning_scheme).__name__ for each in found] == ["NoneType", "Versioning"]
    assert found[0].build_absolute_uri("/x/") == "/x/"
    assert found[1].build_absolute_uri("/x/") == "https://api.example/x/"


def test_an_endpoint_that_changes_its_version_meanwhile_gets_one_that_was_written(
    webhook: Any, deposit: Deposit
) -> None:
    endpoint = subscribe(OLD)

    with transaction.atomic():
        deposit.save()
        # What another process does: nobody forgets what was asked.
        subscriptions.wanted(["core.deposit.updated"], "default", log_of("default").interest)
        Endpoint.objects.filter(pk=endpoint.pk).update(version=NEW)

    assert [each["version"] for each in heard_by(endpoint)] == [OLD]


def test_many_endpoints_are_asked_for_their_versions_too(
    webhook: Any, deposit: Deposit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "_MOST_LISTS", 1)
    old, new = subscribe(OLD), subscribe(NEW)

    deposit.save()

    assert [heard_by(each)[0]["version"] for each in (old, new)] == [OLD, NEW]


def test_a_worker_asks_for_itself(deposit: Deposit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "_MOST_LISTS", 1)
    declare(serialize="deferred")
    old, new = subscribe(OLD), subscribe(NEW)

    deposit.save()
    pipeline.release_due()

    assert [heard_by(each)[0]["version"] for each in (old, new)] == [OLD, NEW]


def test_captured_events_are_in_the_default_version(webhook: Any, deposit: Deposit) -> None:
    with capture_events() as events:
        deposit.save()

    assert "cents" in events[0].data


def test_what_was_missed_is_replayed_in_the_version_of_the_endpoint(
    webhook: Any, deposit: Deposit
) -> None:
    since = timezone.now() - DAY
    subscribe(OLD)
    deposit.save()
    subscribe(NEW)
    deposit.save()
    late = {each: subscribe(each) for each in (OLD, NEW)}

    for endpoint in late.values():
        list(replay_missing(endpoint, span(since, using="default"), using="default"))

    assert [each["version"] for each in heard_by(late[OLD])] == [OLD, OLD]
    # The first one was not written in that version.
    assert [each["version"] for each in heard_by(late[NEW])] == [NEW]


def test_what_was_missed_is_made_thin_from_the_message_in_the_right_version(
    webhook: Any, deposit: Deposit
) -> None:
    since = timezone.now() - DAY
    subscribe(OLD)
    subscribe(NEW)
    deposit.save()
    late = {each: subscribe(each, is_thin=True) for each in (OLD, NEW)}

    for endpoint in late.values():
        list(replay_missing(endpoint, span(since, using="default"), using="default"))

    for version, endpoint in late.items():
        (message,) = heard_by(endpoint)
        assert (message["version"], message["thin"]) == (version, True)
        assert message["data"] == {"id": deposit.pk}


def test_thin_messages_are_no_form_to_compare_with(deposit: Deposit) -> None:
    declare(previous_attributes=True)
    old, thin = subscribe(OLD), subscribe(NEW, is_thin=True)

    Tenant.objects.update(name="Bea")
    Tenant.objects.update(name="Cleo")

    assert heard_by(old)[1]["previous_attributes"] == {"tenant": "Bea"}
    assert [each["data"] for each in heard_by(thin)] == [{"id": deposit.pk}] * 2


@pytest.mark.parametrize("count", [1, 20])
def test_previous_attributes_of_versions_cost_a_statement_more(
    deposit: Deposit, count: int
) -> None:
    with disable_webhooks():
        for _ in range(count - 1):
            make_deposit(tenant=deposit.tenant, unit=deposit.unit)
    subscribe("")
    costs = []
    for chosen in (False, True):
        with registry.isolated():
            resource = declare(previous_attributes=chosen)
            resource.trigger(Deposit.objects.all())
            with statements() as found:
                resource.trigger(Deposit.objects.all())
        costs.append(len(found))

    # By hand: no form before is looked at.
    assert costs[1] == costs[0] + 2


def test_what_was_made_before_there_were_versions_is_replayed_as_the_oldest(
    deposit: Deposit,
) -> None:
    since = timezone.now() - DAY
    with registry.isolated():
        type("Plain", (ModelSerializerWebhook,), {"serializer_class": OldForm})
        subscribe()
        deposit.save()
    declare()
    late = {each: subscribe(each) for each in (OLD, NEW)}

    for endpoint in late.values():
        list(replay_missing(endpoint, span(since, using="default"), using="default"))

    assert [len(heard_by(each)) for each in late.values()] == [1, 0]
    assert count_missing(late[NEW], span(since, using="default"), using="default") == 1


def test_what_is_said_anew_is_said_in_the_version_of_each_endpoint(
    webhook: Any, deposit: Deposit
) -> None:
    old, new = subscribe(OLD), subscribe(NEW)
    deposit.save()
    deposit.delete()
    with disable_webhooks():
        Deposit.objects.create(pk=1_000_000, tenant=make_tenant())
    pks = list(Delivery.objects.filter(sequence=2).values_list("pk", flat=True))

    replay_chosen(pks, using="default", is_anew=True)

    for endpoint, version in ((old, OLD), (new, NEW)):
        last = heard_by(endpoint)[-1]
        assert (last["type"], last["version"], last["replay"]) == (
            "core.deposit.deleted",
            version,
            True,
        )


def test_what_is_changed_is_said_anew_in_the_version_of_each_endpoint(
    webhook: Any, deposit: Deposit
) -> None:
    old, new = subscribe(OLD), subscribe(NEW)
    deposit.save()

    replay_chosen(Delivery.objects.values_list("pk", flat=True), using="default", is_anew=True)

    assert [heard_by(each)[-1]["version"] for each in (old, new)] == [OLD, NEW]
    assert [len(heard_by(each)) for each in (old, new)] == [2, 2]


def test_a_message_that_is_forgotten_is_forgotten_in_each_version(
    webhook: Any, deposit: Deposit
) -> None:
    old = subscribe(OLD)
    subscribe(NEW)
    deposit.save()
    Delivery.objects.update(state="delivered", due_at=None, settled_at=timezone.now())
    Event.objects.update(recheck_at=None)
    later = timezone.now() + 31 * DAY

    list(prune(using="default", now=later, payloads=30 * DAY, events=None))

    assert not EventBody.objects.exists()
    assert heard_by(old) == [None]
    Event.objects.all().delete()


def test_a_delivery_whose_message_is_gone_is_dead_and_says_so(
    webhook: Any, deposit: Deposit
) -> None:
    old = subscribe(OLD)
    subscribe(NEW)
    deposit.save()
    EventBody.objects.all().delete()
    Delivery.objects.exclude(endpoint=old).delete()

    deliver_now()

    assert Delivery.objects.get().reason == "The event has no message."


@pytest.mark.skipif(connection.vendor == "sqlite", reason="it has one writer at a time")
def test_a_second_look_compares_each_version(webhook: Any, deposit: Deposit) -> None:
    subscribe(OLD)
    subscribe(NEW)

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


@pytest.mark.parametrize("count", [1, 20])
def test_two_versions_cost_one_statement_more_than_one(
    webhook: Any, deposit: Deposit, count: int
) -> None:
    with disable_webhooks():
        for _ in range(count - 1):
            make_deposit(tenant=deposit.tenant, unit=deposit.unit)

    def cost(resource: Any) -> int:
        with statements() as found:
            resource.trigger(Deposit.objects.all())
        return len(found)

    with registry.isolated():
        subscribe()
        without = cost(declare(versions={}, serializer_class=NewForm))
    Endpoint.objects.all().delete()
    subscribe(OLD)
    one = cost(webhook)
    subscribe(NEW)
    two = cost(webhook)

    assert (one, two) == (without, without + 1)


@pytest.mark.parametrize("count", [1, 20])
def test_a_worker_reads_versions_in_one_statement(
    webhook: Any, deposit: Deposit, count: int
) -> None:
    def cost() -> int:
        for _ in range(count):
            deposit.save()
        with statements() as found:
            deliver_now()
        return len([each for each in found if "eventbody" in each])

    with WebhookReceiver() as receiver:
        subscribe(NEW, url=receiver.url)
        without = cost()
        subscribe(OLD, url=receiver.url)
        assert (without, cost()) == (0, 1)


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), unique=True, min_size=1))
def test_numbers_in_versions_count_by_their_value(numbers: list[int]) -> None:
    names = [f"v{each}" for each in numbers]

    assert sorted(names, key=versions.order) == [f"v{each}" for each in sorted(numbers)]
    assert versions.newest(names) == f"v{max(numbers)}"


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("2025-01", True),
        ("v1.2_x", True),
        ("", False),
        ("a/b", False),
        ("x" * 33, False),
        (1, False),
    ],
)
def test_what_can_name_a_version(text: Any, *, is_one: bool) -> None:
    assert versions.is_version(text) is is_one
