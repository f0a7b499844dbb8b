"""Two transactions at the same time do not see each other's part: objects are looked at again."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from drf_webhooks import pipeline
from drf_webhooks.models import BaseObject, Endpoint, Event
from drf_webhooks.session import disable_webhooks, webhook_signal_session
from tests.app.models import Address, Deposit, Document, Tenant, User
from tests.app.webhooks import DepositWebhook
from tests.factories import make_deposit, make_user

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor == "sqlite", reason="it has one writer at a time"),
]


@pytest.fixture(autouse=True)
def _is_asked_for(settings: Any) -> None:
    settings.DRF_WEBHOOKS = {**settings.DRF_WEBHOOKS, "RECHECK_AFTER": timedelta(minutes=1)}


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
    with disable_webhooks():
        Address.objects.update(street="unsaid")
    Event.objects.exclude(pk=first.pk).update(recheck_at=None)

    assert a_while_later() == 1
    assert Event.objects.count() == 2
    assert BaseObject.objects.get(object_key=str(deposit.pk)).sequence == 2


def test_the_last_of_several_events_is_compared(tenant: Tenant) -> None:
    deposit = Deposit.objects.create(tenant=tenant)
    deposit.save()
    with disable_webhooks():
        Address.objects.update(street="new")

    assert a_while_later() == 2
    assert [data["tenant"]["address"]["street"] for _, data in said()] == [
        *["Tenant 1", "Tenant 1"],
        "new",
    ]


def test_an_object_that_is_gone_is_left_to_who_deleted_it(tenant: Tenant) -> None:
    deposit = Deposit.objects.create(tenant=tenant)
    with disable_webhooks():
        deposit.delete()

    assert a_while_later() == 1
    assert [kind for kind, _ in said()] == ["core.deposit.created"]


def test_each_owner_is_told_what_was_wrong_of_what_it_was_told(transactional_db: None) -> None:
    ada, bob = make_user(username="ada"), make_user(username="bob")
    Endpoint.objects.create(url="https://a.example/", event_types=["*"], owner=ada)
    Endpoint.objects.create(url="https://b.example/", event_types=["*"], owner=bob)
    with transaction.atomic():
        document = Document.objects.create(title="x", user=ada)
        document.readers.add(bob)
    with disable_webhooks():
        document.readers.clear()

    assert a_while_later() == 1
    assert [each.owner_id for each in Event.objects.all()] == [ada.pk, ada.pk]
    with disable_webhooks():
        document.readers.add(bob)
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


def test_nobody_subscribed_any_more(tenant: Tenant) -> None:
    Deposit.objects.create(tenant=tenant)
    Endpoint.objects.all().delete()
    with disable_webhooks():
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
