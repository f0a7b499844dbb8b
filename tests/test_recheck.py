"""Two transactions at the same time do not see each other's part: objects are looked at again."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.core import serializers
from django.db import connection, connections, transaction
from django.test import override_settings
from django.utils import timezone

from drf_webhooks import pipeline
from drf_webhooks.models import BaseObject, Endpoint, Event
from drf_webhooks.session import disable_webhooks, webhook_signal_session
from drf_webhooks.transactions import log_of
from tests.app.models import Address, Deposit, Document, RentalUnit, Tag, Tenant, User
from tests.app.webhooks import DepositWebhook, LandlordWebhook
from tests.factories import make_deposit, make_user

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor == "sqlite", reason="it has one writer at a time"),
]


@contextmanager
def unnoticed() -> Iterator[None]:
    """Let changes that send no signal pass, as those of other programs do."""
    with override_settings(DRF_WEBHOOKS={**settings.DRF_WEBHOOKS, "CAPTURE_BULK": False}):
        yield


def at_the_same_time(act: Callable[[], Any]) -> None:
    """Do something on another connection, while the transaction of this one is open."""

    def run() -> None:
        try:
            act()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


def a_while_later() -> int:
    Event.objects.filter(recheck_at__isnull=False).update(
        recheck_at=timezone.now() - timedelta(days=1)
    )
    return pipeline.recheck_due()


def said() -> list[tuple[str, Any]]:
    return [(each.type, each.data) for each in Event.objects.order_by("sequence", "created_at")]


@pytest.fixture
def tenant(everything: Endpoint) -> Tenant:
    with disable_webhooks():
        deposit = make_deposit()
        deposit.delete()
    return deposit.tenant


def test_what_another_transaction_changed_meanwhile_is_said_later(tenant: Tenant) -> None:
    address = tenant.address
    with transaction.atomic():
        with webhook_signal_session():
            deposit = Deposit.objects.create(tenant=tenant)
        # It does not see the deposit, and the deposit did not see its street.
        at_the_same_time(lambda: Address.objects.filter(pk=address.pk).update(street="new"))
    before = said()

    assert a_while_later() == 1
    assert a_while_later() == 0
    assert [data["tenant"]["address"]["street"] for _, data in before] == ["Tenant 1"]
    (kind, data) = said()[-1]
    assert (kind, data["tenant"]["address"]["street"]) == ("core.deposit.updated", "new")
    assert BaseObject.objects.get(object_key=str(deposit.pk)).sequence == 2
    assert Event.objects.count() == 2


def test_nothing_is_said_of_what_is_as_it_was_said(tenant: Tenant) -> None:
    deposit = Deposit.objects.create(tenant=tenant)

    assert a_while_later() == 1
    assert [kind for kind, _ in said()] == ["core.deposit.created"]
    assert BaseObject.objects.get(object_key=str(deposit.pk)).sequence == 1


def test_what_was_said_since_makes_it_needless(tenant: Tenant) -> None:
    deposit = Deposit.objects.create(tenant=tenant)
    first = Event.objects.get()
    deposit.save()
    with unnoticed():
        Address.objects.update(street="unsaid")
    Event.objects.exclude(pk=first.pk).update(recheck_at=None)

    assert a_while_later() == 1
    assert Event.objects.count() == 2
    assert BaseObject.objects.get(object_key=str(deposit.pk)).sequence == 2


def test_the_last_of_several_events_is_compared(tenant: Tenant) -> None:
    deposit = Deposit.objects.create(tenant=tenant)
    deposit.save()
    with unnoticed():
        Address.objects.update(street="new")

    assert a_while_later() == 2
    assert [data["tenant"]["address"]["street"] for _, data in said()] == [
        *["Tenant 1", "Tenant 1"],
        "new",
    ]


def test_an_object_that_is_gone_is_left_to_who_deleted_it(tenant: Tenant) -> None:
    deposit = Deposit.objects.create(tenant=tenant)
    with unnoticed():
        Deposit.objects.filter(pk=deposit.pk)._raw_delete("default")

    assert a_while_later() == 1
    assert [kind for kind, _ in said()] == ["core.deposit.created"]


def test_each_owner_is_told_what_was_wrong_of_what_it_was_told(transactional_db: None) -> None:
    ada, bob = make_user(username="ada"), make_user(username="bob")
    Endpoint.objects.create(url="https://a.example/", event_types=["*"], owner=ada)
    Endpoint.objects.create(url="https://b.example/", event_types=["*"], owner=bob)
    with transaction.atomic():
        document = Document.objects.create(title="x", user=ada)
        document.readers.add(bob)
    with unnoticed():
        Document.readers.through.objects.all()._raw_delete("default")

    assert a_while_later() == 1
    assert [each.owner_id for each in Event.objects.all()] == [ada.pk, ada.pk]
    with unnoticed():
        Document.readers.through.objects.bulk_create(
            [Document.readers.through(document=document, user=bob)]
        )
        Document.objects.update(user=bob)
    Event.objects.filter(sequence=2).update(recheck_at=timezone.now())
    # Bob was told nothing that could be wrong.
    assert a_while_later() == 1
    assert Event.objects.count() == 2


def test_who_wants_nothing_looked_at_again_gets_that(tenant: Tenant, settings: Any) -> None:
    DepositWebhook.recheck = False
    try:
        Deposit.objects.create(tenant=tenant)
    finally:
        del DepositWebhook.recheck
    settings.DRF_WEBHOOKS = {**settings.DRF_WEBHOOKS, "RECHECK_AFTER": None}
    Deposit.objects.create(tenant=tenant)

    assert a_while_later() == 0
    assert User.objects.exists()


@pytest.fixture
def two(tenant: Tenant) -> tuple[Deposit, Deposit]:
    """Two deposits of which events tell, under tenants and units of their own."""
    with disable_webhooks():
        first, second = make_deposit(), make_deposit()
    DepositWebhook.trigger(first, "updated")
    DepositWebhook.trigger(second, "updated")
    return first, second


def test_what_is_not_to_be_said_is_not_said_by_the_second_look(
    two: tuple[Deposit, Deposit],
) -> None:
    first, second = two
    with disable_webhooks():
        first.save()
        first.tenant.address.street = "unsaid"
        first.tenant.address.save()
        first.tenant.save()
    with unnoticed():
        Address.objects.update(street="new")

    # The other one is still looked at.
    assert a_while_later() == 1
    assert [each.object_key for each in Event.objects.filter(sequence=2)] == [str(second.pk)]


def test_what_one_resource_does_not_say_another_does(two: tuple[Deposit, Deposit]) -> None:
    with disable_webhooks(DepositWebhook):
        two[0].save()
    assert a_while_later() == 1

    with disable_webhooks(LandlordWebhook):
        two[0].save()
    assert a_while_later() == 1


def test_links_that_are_moved_in_silence_are_not_said(two: tuple[Deposit, Deposit]) -> None:
    first, second = two
    first.unit.tags.add(Tag.objects.create(name="quiet"))
    DepositWebhook.trigger(first, "updated")
    with disable_webhooks():
        RentalUnit.tags.through.objects.update(rentalunit=second.unit)

    assert a_while_later() == 0


def test_a_silent_change_that_is_undone_leaves_the_second_look(
    two: tuple[Deposit, Deposit],
) -> None:
    with transaction.atomic(), disable_webhooks():
        Address.objects.update(street="unsaid")
        transaction.set_rollback(True)

    assert a_while_later() == 2


def test_what_a_transaction_says_itself_is_looked_at_again(tenant: Tenant) -> None:
    with transaction.atomic():
        with disable_webhooks():
            Address.objects.update(street="old")
        Deposit.objects.create(tenant=tenant)
    with unnoticed():
        Address.objects.update(street="new")

    assert a_while_later() == 1
    assert said()[-1][1]["tenant"]["address"]["street"] == "new"


def test_outside_sessions_nothing_is_said_if_asked_so(
    two: tuple[Deposit, Deposit], settings: Any
) -> None:
    settings.DRF_WEBHOOKS = {**settings.DRF_WEBHOOKS, "IMPLICIT_SESSIONS": False}
    two[0].save()

    assert a_while_later() == 1


def test_fixtures_are_as_silent(two: tuple[Deposit, Deposit]) -> None:
    fixture = serializers.serialize("json", [two[0]])
    # As loaddata does.
    with transaction.atomic():
        for each in serializers.deserialize("json", fixture):
            each.save()

    assert a_while_later() == 1


def test_silence_costs_a_statement_if_nothing_waits(
    tenant: Tenant, django_assert_num_queries: Any
) -> None:
    with disable_webhooks(), transaction.atomic(), django_assert_num_queries(4):
        for _ in range(3):
            tenant.save()
        # The fourth is asked before the commit.
        log_of("default").before_commit()()


def test_nobody_subscribed_any_more(tenant: Tenant) -> None:
    Deposit.objects.create(tenant=tenant)
    Endpoint.objects.all().delete()
    with unnoticed():
        Address.objects.update(street="new")

    assert a_while_later() == 1
    assert Event.objects.count() == 1


def test_a_resource_that_is_gone_and_an_event_that_was_parked(tenant: Tenant) -> None:
    Deposit.objects.create(tenant=tenant, note="boom")
    Deposit.objects.create(tenant=tenant)
    Event.objects.exclude(body=None).update(resource="gone")

    assert a_while_later() == 2
    assert Event.objects.count() == 2


def test_many_are_looked_at_in_lots(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "CHUNK", 2)
    with transaction.atomic():
        for _ in range(3):
            Deposit.objects.create(tenant=tenant)

    assert a_while_later() == 3
