"""Retention: messages first, events later, never a live delivery, and nobody waits."""

import threading
import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from drf_webhooks import housekeeping, retention
from drf_webhooks.conf import mistakes
from drf_webhooks.housekeeping import Housekeeper
from drf_webhooks.models import Attempt, BaseObject, Delivery, Endpoint, Event, Notice
from drf_webhooks.retention import Bite, prune
from drf_webhooks.session import disable_webhooks
from drf_webhooks.testing import WebhookReceiver, deliver_now
from tests.app.models import Deposit, Tenant
from tests.factories import make_deposit

pytestmark = pytest.mark.django_db(transaction=True)

DAY = timedelta(days=1)


def forget(**more: Any) -> Bite:
    given = {"now": timezone.now(), "payloads": 30 * DAY, "events": 90 * DAY, **more}
    return sum(prune(using="default", **given), Bite())


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint.objects.create(url="https://a.example/", event_types=["core.deposit.*"])


def make_events(age: timedelta, count: int = 1, *, state: str = "delivered") -> list[Event]:
    """Make events so old, each with a delivery and an attempt at it."""
    at = timezone.now() - age
    (endpoint,) = Endpoint.objects.all()
    events = [
        Event(
            type="core.deposit.created",
            resource="core.deposit",
            object_key=str(number),
            body=b'{"data":{}}',
            created_at=at + timedelta(microseconds=number),
        )
        for number in range(count)
    ]
    Event.objects.bulk_create(events)
    is_waiting = state == "waiting"
    Delivery.objects.bulk_create(
        Delivery(
            event=each,
            endpoint=endpoint,
            state=state,
            due_at=at if is_waiting else None,
            settled_at=None if is_waiting else at,
            created_at=at,
        )
        for each in events
    )
    Attempt.objects.bulk_create(
        Attempt(delivery_id=pk, number=1, started_at=at, duration=timedelta(0), url="x")
        for pk in Delivery.objects.filter(event__in=events).values_list("pk", flat=True)
    )
    return events


def test_notices_that_everybody_has_go_with_the_events(endpoint: Endpoint) -> None:
    def note(age: timedelta, due_at: datetime | None = None) -> Notice:
        return Notice.objects.create(
            endpoint=endpoint, kind="failing", created_at=timezone.now() - age, due_at=due_at
        )

    kept = [note(89 * DAY), note(91 * DAY, due_at=timezone.now())]
    note(91 * DAY)

    assert forget() == Bite(notices=1)
    assert list(Notice.objects.order_by("pk")) == kept
    assert forget(events=None) == Bite()


def test_messages_and_attempts_go_first_and_the_rest_later(endpoint: Endpoint) -> None:
    make_events(29 * DAY)
    (retired,) = make_events(31 * DAY, state="dead")
    make_events(91 * DAY)

    assert forget() == Bite(messages=2, attempts=2, deliveries=1, events=1)
    assert forget() == Bite()

    retired.refresh_from_db()
    assert (retired.body, retired.data) == (None, None)
    assert retired.retired_at is not None
    assert Event.objects.count() == Delivery.objects.count() == 2
    assert Attempt.objects.count() == 1


def test_e64_what_waits_is_never_forgotten(endpoint: Endpoint) -> None:
    live = make_events(400 * DAY, 3, state="waiting")
    make_events(399 * DAY, 2)
    Endpoint.objects.update(state="disabled")

    assert forget(size=1, rows=1) == Bite(messages=2, attempts=2, deliveries=2, events=2)

    assert set(Event.objects.values_list("pk", flat=True)) == {each.pk for each in live}
    assert not Event.objects.filter(body=None).exists()
    assert Attempt.objects.count() == 3


def test_an_event_with_one_live_delivery_stays_whole(endpoint: Endpoint) -> None:
    (event,) = make_events(100 * DAY)
    other = Endpoint.objects.create(url="https://b.example/", event_types=["x"])
    Delivery.objects.create(event=event, endpoint=other, created_at=event.created_at)

    assert forget() == Bite()


@pytest.mark.parametrize("column", ["held_until", "recheck_at"])
def test_what_somebody_will_read_yet_stays(endpoint: Endpoint, column: str) -> None:
    make_events(100 * DAY)
    Event.objects.update(**{column: timezone.now()})

    assert forget() == Bite()


def test_e64_no_message_is_left_without_a_delivery(endpoint: Endpoint) -> None:
    make_events(40 * DAY, 2)
    endpoint.delete()

    assert Event.objects.exclude(body=None).count() == 2
    assert forget() == Bite(messages=2)


def test_one_event_of_many_deliveries_is_forgotten_little_at_a_time(endpoint: Endpoint) -> None:
    (event,) = make_events(100 * DAY)
    endpoints = [Endpoint(url="https://b.example/", event_types=["x"]) for _ in range(9)]
    Endpoint.objects.bulk_create(endpoints)
    Delivery.objects.bulk_create(
        Delivery(event=event, endpoint=each, state="dead", created_at=event.created_at)
        for each in endpoints
    )

    bites = list(prune(using="default", now=timezone.now(), payloads=None, events=90 * DAY, rows=4))

    assert bites == [
        Bite(attempts=1),
        Bite(deliveries=4),
        Bite(deliveries=4),
        Bite(deliveries=2),
        Bite(events=1),
    ]


def test_what_is_kept_for_ever_is_kept(endpoint: Endpoint) -> None:
    make_events(1000 * DAY)

    assert forget(events=None, payloads=None) == Bite()
    assert forget(events=None) == Bite(messages=1, attempts=1)
    assert forget(events=None) == Bite()


def test_numbers_go_on_after_everything_is_forgotten(endpoint: Endpoint) -> None:
    with disable_webhooks():
        deposit = make_deposit()
    deposit.save()
    Delivery.objects.update(state="delivered", due_at=None)
    Event.objects.update(recheck_at=None)
    forget(now=timezone.now() + 100 * DAY)
    assert not Event.objects.exists()
    assert BaseObject.objects.exists()

    deposit.save()

    assert Event.objects.get().sequence == 2


def test_the_statements_of_a_bite_do_not_grow_with_it(endpoint: Endpoint) -> None:
    counts = []
    for size in (1, 40):
        make_events(100 * DAY, size)
        with CaptureQueriesContext(connection) as queries:
            forget()
        counts.append(len(queries))

    assert counts[0] == counts[1]


@pytest.mark.skipif(connection.vendor == "sqlite", reason="it has one writer at a time")
def test_e64_what_somebody_holds_is_left_for_the_next_time(endpoint: Endpoint) -> None:
    held, _ = make_events(40 * DAY, 2)
    is_locked, is_over = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Event.objects.select_for_update().get(pk=held.pk)
            is_locked.set()
            is_over.wait(30)
        connections.close_all()

    thread = threading.Thread(target=hold)
    thread.start()
    is_locked.wait(30)
    try:
        assert forget().messages == 1
    finally:
        is_over.set()
        thread.join(30)
    assert forget().messages == 1


def limit_waits(milliseconds: int) -> None:
    """Let this connection fail if it waits for a lock for so long."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"SET lock_timeout = {milliseconds}")
        elif connection.vendor == "mysql":
            cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {max(1, milliseconds // 1000)}")


def test_e64_prune_while_delivering_and_recording(settings: Any) -> None:
    """E64: it keeps up with twice the inserts, nobody waits long, no live delivery goes."""
    # What is to be looked at once more is kept until then.
    settings.DRF_WEBHOOKS = {**settings.DRF_WEBHOOKS, "RECHECK_AFTER": None}
    recorded, failures = 0, []
    is_over = threading.Event()
    with disable_webhooks():
        tenant: Tenant = make_deposit().tenant

    def guarded(act: Any) -> Any:
        def run() -> None:
            try:
                limit_waits(1000)
                act()
            except BaseException as error:  # noqa: BLE001  # told below
                failures.append(error)
            finally:
                connections.close_all()

        return run

    def record() -> None:
        nonlocal recorded
        try:
            for _ in range(15):
                with transaction.atomic():
                    for _ in range(10):
                        Deposit.objects.create(tenant=tenant, amount=1)
                recorded += 10
        finally:
            is_over.set()

    def deliver() -> None:
        while (
            not is_over.is_set()
            or Delivery.objects.filter(state="waiting", endpoint__state="enabled").exists()
        ):
            deliver_now()

    with WebhookReceiver() as receiver:
        asleep = Endpoint.objects.create(
            url=receiver.url, event_types=["core.deposit.*"], state="disabled"
        )
        Endpoint.objects.create(url=receiver.url, event_types=["core.deposit.*"])
        # Beforehand as many as will be recorded: in all, twice what is inserted meanwhile.
        with transaction.atomic():
            for number in range(150):
                Deposit.objects.create(tenant=tenant, amount=number)
        deliver_now()
        kept = Event.objects.latest("created_at")
        Delivery.objects.create(event=kept, endpoint=asleep, created_at=kept.created_at)
        started_at = time.monotonic()
        threads = [threading.Thread(target=guarded(act)) for act in (record, deliver)]
        for each in threads:
            each.start()
        later = timezone.now() + 365 * DAY
        forgotten = Bite()
        while any(each.is_alive() for each in threads):
            forgotten += forget(now=later, payloads=timedelta(0), events=timedelta(0), size=50)
        for each in threads:
            each.join()
        took = time.monotonic() - started_at
        forgotten += forget(now=later, payloads=timedelta(0), events=timedelta(0))
        in_vain = len(receiver.requests) - len({each.body for each in receiver.requests})

    assert failures == []
    assert recorded == 150
    assert len(receiver.requests) == 300
    assert in_vain == 0
    assert (forgotten.events, forgotten.deliveries) == (299, 299)
    assert list(Event.objects.values_list("pk", flat=True)) == [kept.pk]
    assert bytes(Event.objects.get().body or b"") == bytes(kept.body or b"?")
    assert took < 120


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_worker_forgets_a_little_at_a_time(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "EVENTS", 2)
    make_events(40 * DAY, 3)
    clock = Clock()
    keeper = Housekeeper("default", clock=clock)

    def left() -> tuple[int, int]:
        keeper()
        return Attempt.objects.count(), Event.objects.exclude(body=None).count()

    seen = [left(), left()]
    for _ in range(4):
        clock.now += 1
        seen.append(left())
    make_events(41 * DAY)
    clock.now += 1
    resting = left()
    clock.now += 60
    seen += [left()]

    assert seen[:6] == [(1, 3), (1, 3), (1, 1), (0, 1), (0, 0), (0, 0)]
    assert resting == (1, 1)
    assert seen[6] == (0, 1)


def test_a_worker_goes_on_after_an_error(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    keeper = Housekeeper("default", clock=clock)
    make_events(40 * DAY)
    table = Attempt._meta.db_table

    with monkeypatch.context() as patch:
        patch.setattr(Attempt._meta, "db_table", "there_is_no_such_table")
        with pytest.raises(Exception, match="there_is_no_such_table"):
            keeper()
    assert Attempt._meta.db_table == table
    for _ in range(4):
        clock.now += 100
        keeper()

    assert not Event.objects.exclude(body=None).exists()


def test_a_worker_forgets_nothing_if_told_so(endpoint: Endpoint, settings: Any) -> None:
    settings.DRF_WEBHOOKS = {**settings.DRF_WEBHOOKS, "PRUNE_IN_WORKER": False}
    make_events(40 * DAY)

    Housekeeper("default")()

    assert Attempt.objects.exists()


@pytest.mark.parametrize("key", ["PAYLOAD_RETENTION", "EVENT_RETENTION"])
def test_a_retention_is_longer_than_nothing(key: str) -> None:
    (said,) = mistakes({key: timedelta(0)})

    assert key in said
    assert mistakes({key: None}) == []


@pytest.mark.skipif(connection.vendor != "postgresql", reason="its plans are asserted")
def test_what_is_old_is_found_by_an_index(endpoint: Endpoint) -> None:
    make_events(40 * DAY, 10)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO drf_webhooks_event "
            "(id, type, resource, object_key, error, created_at, retired_at) "
            "SELECT gen_random_uuid(), 'a.b', 'a', '1', '', now() - n * '1 minute'::interval, "
            "CASE WHEN n > 10000 THEN now() END FROM generate_series(1, 30000) n"
        )
        cursor.execute("ANALYZE drf_webhooks_event")
    kept = Event.objects.filter(retired_at=None, created_at__lt=timezone.now() - 7 * DAY)

    plan = kept.order_by("retired_at", "created_at", "pk")[: retention.EVENTS].explain()

    assert "drf_webhooks_event_kept" in plan
    assert "Seq Scan" not in plan


def test_a_count_says_what_would_go(endpoint: Endpoint) -> None:
    make_events(40 * DAY)
    make_events(100 * DAY)
    make_events(100 * DAY, state="waiting")
    ages: dict[str, Any] = {"using": "default", "now": timezone.now()}

    assert retention.count(**ages, payloads=30 * DAY, events=90 * DAY) == Bite(messages=2, events=1)
    assert retention.count(**ages, payloads=None, events=None) == Bite()
