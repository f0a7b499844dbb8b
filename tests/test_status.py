"""Status: right numbers, a constant number of queries, and a bounded cost of each."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext

from drf_webhooks import status
from drf_webhooks.clock import database_now
from drf_webhooks.models import Attempt, Delivery, Endpoint, EndpointHealth, Event
from drf_webhooks.status import Number, backlog, read

pytestmark = pytest.mark.django_db

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def make_endpoint(**fields: Any) -> Endpoint:
    return Endpoint.objects.create(**{"url": "https://a.example/", "event_types": ["*"], **fields})


def make_deliveries(
    endpoint: Endpoint, count: int = 1, *, due: timedelta | None = None, **fields: Any
) -> QuerySet[Delivery]:
    """Make deliveries that have been due for so long."""
    now = database_now("default")
    events = [
        Event(type="a.b", resource="a", object_key="1", body=b"{}", created_at=now)
        for _ in range(count)
    ]
    Event.objects.bulk_create(events)
    Delivery.objects.bulk_create(
        Delivery(
            event=each,
            endpoint=endpoint,
            due_at=None if due is None else now - due,
            created_at=now,
            **fields,
        )
        for each in events
    )
    return Delivery.objects.filter(event__in=events)


def make_attempts(delivery: Delivery, count: int, age: timedelta, status: int = 200) -> None:
    at = database_now("default") - age
    Attempt.objects.bulk_create(
        Attempt(
            delivery=delivery,
            number=1,
            started_at=at,
            duration=timedelta(0),
            url="x",
            status=status,
        )
        for _ in range(count)
    )


def test_nothing_is_there() -> None:
    found = read(using="default")

    assert found.backlog.waiting == found.dead == Number(0)
    assert found.backlog.oldest_due_at is None
    assert found.backlog.oldest_age == timedelta(0)
    assert found.endpoints == {"enabled": 0, "disabled": 0}
    assert str(found.last_hour) == "0.0/s, 0.0/s failed"
    assert found.behind == ()


def test_what_waits_fails_and_is_dead_is_counted() -> None:
    endpoint, asleep = make_endpoint(), make_endpoint(state="disabled")
    make_deliveries(endpoint, 3, due=MINUTE)
    make_deliveries(endpoint, 2, due=-HOUR, attempt_count=1)
    make_deliveries(asleep, 1, due=HOUR)
    now = database_now("default")
    make_deliveries(endpoint, 2, state="dead", settled_at=now - MINUTE)
    make_deliveries(endpoint, 1, state="dead", settled_at=now - 2 * HOUR)
    make_deliveries(endpoint, 1, state="dead", settled_at=now, replaced_by=endpoint.pk)
    make_deliveries(endpoint, 4, state="delivered", settled_at=now)

    found = read(using="default")

    assert (found.backlog.waiting, found.backlog.failing) == (Number(6), Number(2))
    assert MINUTE <= found.backlog.oldest_age < 2 * MINUTE
    assert (found.dead, found.dead_last_hour) == (Number(3), Number(2))
    assert found.endpoints == {"enabled": 1, "disabled": 1}
    assert [(each.endpoint, each.due, each.failing) for each in found.behind] == [
        (asleep.pk, 1, 0),
        (endpoint.pk, 3, 0),
    ]


def test_beyond_the_limit_numbers_are_marked() -> None:
    endpoint = make_endpoint()
    make_deliveries(endpoint, 5, due=MINUTE)
    make_deliveries(endpoint, 5, state="dead", settled_at=database_now("default"))

    found = read(using="default", limit=4)

    assert str(found.backlog.waiting) == str(found.dead) == str(found.dead_last_hour) == "4+"
    assert str(read(using="default", limit=6).dead) == "5"
    assert found.behind[0].due == 4


def test_what_waits_for_a_pause_to_end_is_not_late() -> None:
    paused = make_endpoint()
    make_deliveries(paused, 3, due=HOUR)
    pause = EndpointHealth.objects.create(
        endpoint=paused, paused_until=database_now("default") + HOUR
    )
    assert backlog(using="default").oldest_due_at is None

    make_deliveries(make_endpoint(), due=MINUTE)
    assert MINUTE <= backlog(using="default").oldest_age < 2 * MINUTE

    EndpointHealth.objects.filter(pk=pause.pk).update(paused_until=database_now("default"))
    assert backlog(using="default").oldest_age >= HOUR


def test_an_alarm_sees_past_what_waits_for_disabled_endpoints() -> None:
    make_deliveries(make_endpoint(state="disabled"), 5, due=HOUR)
    assert backlog(using="default", limit=4).oldest_due_at is None
    make_deliveries(make_endpoint(), due=MINUTE)

    assert MINUTE <= backlog(using="default", limit=4).oldest_age < 2 * MINUTE


def test_rates_of_the_last_minute_and_hour() -> None:
    delivery = make_deliveries(make_endpoint()).get()
    make_attempts(delivery, 60, 2 * HOUR)
    make_attempts(delivery, 36, HOUR / 2, 500)
    make_attempts(delivery, 36, HOUR / 2)
    make_attempts(delivery, 6, MINUTE / 2)

    found = read(using="default")

    assert found.last_minute.per_second == pytest.approx(0.1)
    assert found.last_minute.failed_per_second == 0
    assert found.last_hour.per_second == pytest.approx(78 / 3600)
    assert found.last_hour.failed_per_second == pytest.approx(0.01)
    assert not found.last_hour.is_estimate


def test_a_rate_of_more_than_is_read_is_an_estimate() -> None:
    delivery = make_deliveries(make_endpoint()).get()
    make_attempts(delivery, 100, 10 * MINUTE)
    make_attempts(delivery, 50, 5 * MINUTE)

    found = read(using="default", limit=100)

    # The 100 newest ones took ten minutes.
    assert found.last_hour.per_second == pytest.approx(100 / 600, rel=0.1)
    assert str(found.last_hour) == "~0.2/s, ~0.0/s failed"
    assert not found.last_minute.is_estimate


def test_queries_do_not_grow_with_what_there_is() -> None:
    counts = []
    for count in (1, 30):
        for number in range(count):
            make_deliveries(make_endpoint(url=f"https://{number}.example/"), due=MINUTE)
        with CaptureQueriesContext(connection) as queries:
            found = read(using="default")
        counts.append(len(queries))

    assert counts == [13, 13]
    assert len(found.behind) == status.NAMED


@pytest.mark.skipif(connection.vendor != "postgresql", reason="its plans are asserted")
def test_e65_nothing_is_counted_by_reading_a_whole_table() -> None:
    endpoint = make_endpoint()
    delivered = make_deliveries(endpoint, 3000, state="delivered")
    make_attempts(delivered[0], 3000, HOUR)
    make_deliveries(endpoint, 20, due=MINUTE)
    make_deliveries(endpoint, 20, state="dead", settled_at=database_now("default"))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE drf_webhooks_delivery, drf_webhooks_attempt")
    with CaptureQueriesContext(connection) as queries:
        read(using="default", limit=100)

    plans = []
    for query in queries.captured_queries:
        if "drf_webhooks_delivery" in query["sql"] or "drf_webhooks_attempt" in query["sql"]:
            with connection.cursor() as cursor:
                cursor.execute("EXPLAIN " + query["sql"])
                plans.append("\n".join(row[0] for row in cursor.fetchall()))

    assert len(plans) == 10
    assert not [each for each in plans if "Seq Scan on drf_webhooks_delivery" in each]
    assert not [each for each in plans if "Seq Scan on drf_webhooks_attempt" in each]
    used = "\n".join(plans)
    for index in ("drf_webhooks_delivery_lane", "drf_webhooks_delivery_dead", "attempt_pkey"):
        assert index in used
