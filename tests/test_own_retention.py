"""Events that are kept as long as their resource says, and not as the settings say."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from drf_webhooks.housekeeping import Housekeeper
from drf_webhooks.models import Attempt, Delivery, Endpoint, Event, EventBody
from drf_webhooks.registry import registry
from drf_webhooks.retention import Bite, count, prune
from drf_webhooks.session import disable_webhooks
from tests.app.models import Deposit
from tests.declaring import declare, recorded, statements
from tests.factories import make_deposit

pytestmark = pytest.mark.django_db(transaction=True)

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _isolated(everything: Endpoint) -> Iterator[None]:
    with registry.isolated():
        yield


@pytest.fixture
def deposit() -> Deposit:
    with disable_webhooks():
        return make_deposit()


def settle() -> None:
    """Let nobody need the events any more: neither a delivery nor a second look."""
    Event.objects.update(recheck_at=None)
    Delivery.objects.update(state="delivered", due_at=None, settled_at=timezone.now())


def forget(after: timedelta, **more: Any) -> Bite:
    given = {"payloads": 30 * DAY, "events": 90 * DAY, **more}
    return sum(prune(using="default", now=timezone.now() + after, **given), Bite())


def test_an_event_is_kept_whole_for_as_long_as_its_resource_says(deposit: Deposit) -> None:
    declare(retention=365 * DAY)
    deposit.save()
    settle()

    assert forget(364 * DAY) == Bite()
    assert recorded()[0].body is not None
    assert forget(366 * DAY) == Bite(deliveries=1, events=1)


def test_it_may_be_kept_shorter_than_others(deposit: Deposit) -> None:
    declare(retention=DAY)
    declare(base_name="core.other")
    deposit.save()
    settle()
    (own,) = Event.objects.filter(resource="core.deposit")
    Attempt.objects.create(
        delivery=own.deliveries.get(),
        number=1,
        started_at=timezone.now(),
        duration=timedelta(0),
        url="x",
    )

    assert forget(2 * DAY, payloads=None, events=None) == Bite(attempts=1, deliveries=1, events=1)
    assert [each.resource for each in recorded()] == ["core.other"]


def test_what_waits_to_be_delivered_is_kept(deposit: Deposit) -> None:
    declare(retention=timedelta(hours=1))
    deposit.save()

    assert forget(DAY) == Bite()


def test_what_could_not_be_written_is_forgotten_too(deposit: Deposit) -> None:
    declare(retention=DAY)
    Deposit.objects.update(note="boom")
    settle()

    assert recorded()[0].error
    assert forget(2 * DAY) == Bite(events=1)


def test_all_ways_to_write_it_go_with_it(deposit: Deposit) -> None:
    declare(retention=DAY, thin=True)
    deposit.save()
    settle()

    forget(2 * DAY)

    assert not EventBody.objects.exists()


def test_it_is_counted(deposit: Deposit) -> None:
    declare(retention=DAY)
    deposit.save()
    settle()
    given: dict[str, Any] = {"using": "default", "now": timezone.now() + 100 * DAY}

    assert count(**given, payloads=DAY, events=None) == Bite(events=1)
    assert count(**given, payloads=DAY, events=1000 * DAY) == Bite(events=1)


def test_many_are_forgotten_in_lots_and_each_once(deposit: Deposit) -> None:
    declare(retention=DAY)
    for _ in range(7):
        deposit.save()
    settle()
    Event.objects.filter(sequence=3).update(held_until=timezone.now() + 10 * DAY)

    assert forget(2 * DAY, size=2) == Bite(deliveries=6, events=6)


def test_a_worker_forgets_it(deposit: Deposit) -> None:
    declare(retention=DAY)
    deposit.save()
    settle()
    Event.objects.update(kept_until=timezone.now() - DAY)
    now = 0.0
    keeper = Housekeeper("default", clock=lambda: now)

    while now < 10:
        keeper()
        now += 1

    assert not Event.objects.exists()


def test_a_new_retention_holds_for_new_events(deposit: Deposit) -> None:
    webhook = declare(retention=DAY)
    deposit.save()
    webhook.retention = 5 * DAY
    deposit.save()
    settle()

    assert forget(2 * DAY) == Bite(deliveries=1, events=1)
    assert json.loads(bytes(recorded()[0].body))["sequence"] == 2


def test_it_costs_no_statement_to_keep_and_one_to_look(deposit: Deposit) -> None:
    costs = []
    for chosen in ({}, {"retention": DAY}):
        with registry.isolated():
            declare(**chosen)
            with statements() as found:
                deposit.save()
        costs.append(len(found))
    with statements() as looked:
        forget(timedelta(0))

    assert costs[0] == costs[1]
    assert len([each for each in looked if "ORDER BY" in each and "kept_until" in each]) == 3
