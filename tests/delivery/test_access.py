"""Owners that may not receive any more: asked when sending, once for many, kept for a while."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.models import QuerySet
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from drf_webhooks.delivery.access import KEPT, Access, active
from drf_webhooks.delivery.claims import claim
from drf_webhooks.models import Attempt, Delivery, Endpoint
from drf_webhooks.testing import WebhookReceiver, deliver_now
from tests.app.models import Document, User
from tests.factories import make_address, make_user

pytestmark = pytest.mark.django_db(transaction=True)


def paying(owners: QuerySet[User]) -> Iterable[Any]:
    """Return those that pay, as instances."""
    return [each for each in owners if each.last_name == "Paying"]


def paying_keys(owners: QuerySet[User]) -> Iterable[Any]:
    return {each.pk for each in paying(owners)}


def broken(owners: QuerySet[User]) -> Iterable[Any]:
    msg = "The plan cannot be read."
    raise LookupError(msg)


HERE = "tests.delivery.test_access"


@pytest.mark.security
def test_f74_an_owner_that_is_deactivated_receives_nothing_and_the_reason_is_seen() -> None:
    ada, bea = make_user(username="ada"), make_user(username="bea")
    with WebhookReceiver() as receiver:
        for owner in (ada, bea):
            Endpoint.objects.create(
                owner=owner, url=f"{receiver.url}{owner.username}", event_types=["*"]
            )
            Document.objects.create(title="Lease", user=owner)
        # Recorded before, and sent after.
        User.objects.filter(pk=ada.pk).update(is_active=False)
        assert deliver_now() == 2
        assert [each.path for each in receiver.requests] == ["/bea"]

        stopped = Delivery.objects.get(endpoint__owner=ada)
        reason = "The endpoint's owner may not receive any more (OWNER_MAY_RECEIVE)."
        assert (stopped.state, stopped.reason) == ("dead", reason)
        assert Attempt.objects.get(delivery=stopped).detail == reason
        # Not a fault of the endpoint: nothing is charged.
        assert not hasattr(stopped.endpoint, "health")

        User.objects.filter(pk=ada.pk).update(is_active=True)
        assert Delivery.objects.filter(pk=stopped.pk).send_again() == 1
        assert deliver_now() == 1
        assert [each.path for each in receiver.requests] == ["/bea", "/ada"]


@pytest.mark.parametrize("name", ["paying", "paying_keys"])
def test_f74_the_project_says_who_may_receive(name: str) -> None:
    ada = make_user(username="ada", last_name="Paying", is_active=False)
    bea = make_user(username="bea")
    with WebhookReceiver() as receiver:
        for owner in (ada, bea):
            Endpoint.objects.create(
                owner=owner, url=f"{receiver.url}{owner.username}", event_types=["*"]
            )
            Document.objects.create(title="Lease", user=owner)
        with override_settings(DRF_WEBHOOKS={**ALLOWED, "OWNER_MAY_RECEIVE": f"{HERE}.{name}"}):
            deliver_now()

    assert [each.path for each in receiver.requests] == ["/ada"]


ALLOWED = {"ALLOWED_NETWORKS": ["127.0.0.0/8", "::1/128"]}


def test_f74_nothing_is_sent_to_owners_while_the_function_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with WebhookReceiver() as receiver:
        ada = make_user(username="ada")
        Endpoint.objects.create(
            owner=ada, url=f"{receiver.url}ada", event_types=["core.document.*"]
        )
        Endpoint.objects.create(url=f"{receiver.url}nobody", event_types=["core.deposit.*"])
        Document.objects.create(title="Lease", user=ada)
        hook = {"OWNER_MAY_RECEIVE": f"{HERE}.broken"}
        with override_settings(DRF_WEBHOOKS={**ALLOWED, **hook}):
            assert deliver_now() == 0
            found = claim(
                10,
                using="default",
                length=timedelta(minutes=1),
                each=10,
                in_air={},
                schedule=[],
            )
            assert (found.leased, found.is_all, found.again_in) == ([], False, KEPT)
            make_open_delivery()
            assert deliver_now() == 1
        assert [each.path for each in receiver.requests] == ["/nobody"]
        assert Delivery.objects.get(endpoint__owner=ada).state == "waiting"
        assert "broken failed" in caplog.text
        deliver_now()

    assert [each.path for each in receiver.requests] == ["/nobody", "/ada"]


def make_open_delivery() -> None:
    from_then = timezone.now() - timedelta(hours=1)
    endpoint = Endpoint.objects.get(owner=None)
    event = Delivery.objects.get().event
    event.pk, event.owner, event.created_at = None, None, from_then
    event.save(force_insert=True)
    Delivery.objects.create(
        event=event, endpoint=endpoint, due_at=from_then, created_at=timezone.now()
    )


def test_f74_one_query_for_many_owners_none_while_it_is_known_and_none_when_it_is_off() -> None:
    owners = [make_user(username=f"u{number}") for number in range(5)]
    User.objects.filter(pk=owners[0].pk).update(is_active=False)
    keys = [each.pk for each in owners]
    now = [0.0]
    access = Access(clock=lambda: now[0])

    def asked(some: list[Any]) -> tuple[Any, int]:
        with CaptureQueriesContext(connection) as queries:
            refused = access.refused(some, using="default")
        return refused, len(queries)

    assert asked(keys) == ({keys[0]}, 1)
    assert asked(keys[:3]) == ({keys[0]}, 0)
    User.objects.update(is_active=False)
    assert asked(keys[1:3]) == (set(), 0)
    now[0] = KEPT.total_seconds()
    assert asked(keys[1:3]) == ({keys[1], keys[2]}, 1)
    assert asked([]) == (set(), 0)
    # Who is gone may not receive either.
    assert asked([-1]) == ({-1}, 1)
    with override_settings(DRF_WEBHOOKS={"OWNER_MAY_RECEIVE": None}):
        assert asked(keys) == (set(), 0)


def test_answers_are_bounded() -> None:
    access = Access(clock=lambda: 0.0, most=3)

    for key in range(-9, 0):
        access.refused([key], using="default")

    assert len(access) == 3


@override_settings(DRF_WEBHOOKS={"OWNER_MODEL": "core.Address"})
def test_owners_without_the_column_are_not_asked_for() -> None:
    address = make_address()

    with CaptureQueriesContext(connection) as queries:
        assert Access().refused([address.pk], using="default") == frozenset()

    assert len(queries) == 0


def test_a_claim_asks_once() -> None:
    ada = make_user(username="ada")
    for number in range(3):
        Endpoint.objects.create(owner=ada, url=f"https://a{number}.example/", event_types=["*"])
    Document.objects.create(title="Lease", user=ada)

    with CaptureQueriesContext(connection) as queries:
        found = claim(
            10, using="default", length=timedelta(minutes=1), each=10, in_air={}, schedule=[]
        )

    assert len(found.leased) == 3
    table = connection.ops.quote_name(User._meta.db_table)
    assert len([each for each in queries if f"FROM {table}" in each["sql"]]) == 1
    assert active(User.objects.all())


def unreachable(owners: QuerySet[User]) -> Iterable[Any]:
    msg = "The server is gone."
    raise OperationalError(msg)


def test_an_error_of_the_database_is_the_workers_business() -> None:
    hook = {"OWNER_MAY_RECEIVE": f"{HERE}.unreachable"}
    with override_settings(DRF_WEBHOOKS=hook), pytest.raises(OperationalError):
        Access().refused([1], using="default")
