"""Endpoints' health in the database: claims that respect it, results that count once."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from drf_webhooks.delivery.claims import lease
from drf_webhooks.delivery.leases import Leased, hand_back
from drf_webhooks.delivery.results import Result, settle
from drf_webhooks.models import Attempt, Delivery, Endpoint, EndpointHealth, Event, Notice
from drf_webhooks.testing import WebhookReceiver, deliver_now

pytestmark = pytest.mark.django_db(transaction=True)

AT_ONCE = [timedelta(0)] * 98
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


def make_endpoint(**fields: Any) -> Endpoint:
    return Endpoint.objects.create(**{"url": "https://a.example/", "event_types": ["*"], **fields})


def make_waiting(endpoint: Endpoint, count: int, *, event_type: str = "a.b") -> list[Delivery]:
    """Deliveries that are due, without the half that records."""
    now = timezone.now() - DAY
    events = Event.objects.bulk_create(
        Event(
            type=event_type,
            resource="a",
            object_key=str(number),
            body=b'{"data": 1}',
            created_at=now,
        )
        for number in range(count)
    )
    rows = [
        Delivery(event=each, endpoint=endpoint, due_at=now, created_at=timezone.now())
        for each in events
    ]
    return Delivery.objects.bulk_create(rows)


def claim(limit: int = 100, *, each: int = 10) -> list[Leased]:
    return lease(limit, using="default", length=MINUTE, each=each, in_air={}, schedule=AT_ONCE)


def result(leased: Leased, status: int | None = 200, **more: Any) -> Result:
    is_success = status is not None and 200 <= status < 300
    state = Delivery.State.DELIVERED if is_success else Delivery.State.WAITING
    wait = None if is_success else timedelta(0)
    return Result(
        leased,
        datetime.now(tz=UTC),
        timedelta(0),
        state,
        **{"wait": wait, "status": status, "error": "" if status else "timeout_total", **more},
    )


def settle_all(leased: list[Leased], status: int | None = 200, **more: Any) -> int:
    return settle([result(each, status, **more) for each in leased], using="default")


def health(endpoint: Endpoint) -> Any:
    return EndpointHealth.objects.get(pk=endpoint.pk)


def end_pause(endpoint: Endpoint) -> None:
    """Let the time pass until an endpoint's pause is over."""
    EndpointHealth.objects.filter(pk=endpoint.pk).update(paused_until=timezone.now() - MINUTE)


def shift(endpoint: Endpoint, length: timedelta) -> None:
    """Let an endpoint have failed for longer."""
    row = health(endpoint)
    row.failing_since -= length
    row.warned_at = None if row.warned_at is None else row.warned_at - length
    row.save()


def touched(action: Callable[[], object]) -> list[str]:
    """Return the statements of an action that concern health."""
    with CaptureQueriesContext(connection) as queries:
        action()
    found = [each["sql"] for each in queries if "endpointhealth" in each["sql"].lower()]
    return [each for each in found if not each.startswith(("SELECT", "EXPLAIN"))]


def test_c40_the_whole_endpoint_waits_when_it_says_429() -> None:
    endpoint, other = make_endpoint(), make_endpoint(url="https://b.example/")
    make_waiting(endpoint, 20)
    (first, *_) = claim(1)

    settle([result(first, 429, headers=(("Retry-After", "600"),))], using="default")
    make_waiting(other, 2)

    assert {each.endpoint for each in claim()} == {other.pk}
    left = health(endpoint).paused_until - timezone.now()
    assert timedelta(seconds=590) < left <= timedelta(seconds=600)
    assert set(Delivery.objects.values_list("attempt_count", flat=True)) == {0, 1}


@pytest.mark.parametrize("status", [429, 503])
def test_c40_a_receiver_that_asks_for_rest_has_it(status: int) -> None:
    with WebhookReceiver() as receiver:
        endpoint = make_endpoint(url=receiver.url, overrides={"RETRY_AFTER_LIMIT": 60})
        make_waiting(endpoint, 1)
        receiver.respond(status, headers={"retry-after": "7200"})
        deliver_now()
        make_waiting(endpoint, 5)
        assert deliver_now() == 0
        left = health(endpoint).paused_until - timezone.now()
        assert timedelta(seconds=30) < left <= MINUTE
        receiver.respond(200)
        end_pause(endpoint)
        assert deliver_now() == 5

    assert Delivery.objects.get(attempt_count=1, state="waiting").due_at is not None


def test_d51_a_backlog_of_10_000_never_exceeds_the_ramp() -> None:
    endpoint = make_endpoint()
    make_waiting(endpoint, 10_000)
    settle_all(claim(5), 500)
    assert claim() == []
    end_pause(endpoint)
    sizes = []
    for _ in range(4):
        round_ = claim()
        assert claim() == []
        sizes.append(len(round_))
        settle_all(round_)

    assert sizes == [1, 2, 4, 8]
    assert health(endpoint).is_clean
    assert len(claim()) == 10


def test_d51_a_failed_probe_doubles_the_pause() -> None:
    endpoint = make_endpoint()
    make_waiting(endpoint, 10)
    settle_all(claim(), None)
    pauses = []
    for _ in range(3):
        pauses.append(health(endpoint).paused_until - timezone.now())
        end_pause(endpoint)
        settle_all(claim(), None)

    for number, pause in enumerate(pauses):
        assert 2**number * MINUTE - MINUTE / 4 < pause < 2**number * MINUTE * 1.25


def test_d51_of_two_workers_one_has_the_probe() -> None:
    endpoint = make_endpoint()
    make_waiting(endpoint, 10)
    settle_all(claim(5), 500)
    end_pause(endpoint)

    assert len(claim()) == 1
    assert claim() == []
    end_pause(endpoint)
    assert len(claim()) == 1


def test_d51_a_claim_that_chose_before_another_began_the_round_gets_nothing() -> None:
    endpoint = make_endpoint()
    make_waiting(endpoint, 10)
    settle_all(claim(5), 500)
    end_pause(endpoint)
    others: list[list[Leased]] = []

    def meanwhile(execute: Any, sql: str, params: Any, many: Any, context: Any) -> Any:
        if sql.startswith("UPDATE") and "endpointhealth" in sql and not others:
            others.append([])
            others[0] = claim()
        return execute(sql, params, many, context)

    with connection.execute_wrapper(meanwhile):
        assert claim() == []

    assert len(others[0]) == 1
    assert health(endpoint).round_left == 1


def test_d51_what_a_person_asks_for_is_no_part_of_a_round() -> None:
    endpoint = make_endpoint()
    make_waiting(endpoint, 10)
    settle_all(claim(5), 500)
    EndpointHealth.objects.update(paused_until=None, ramp=4)
    asked = Delivery.objects.filter(attempt_count=0).latest("pk")
    Delivery.objects.filter(pk=asked.pk).update(is_by_hand=True, lane=Delivery.Lane.BY_HAND)

    first, *others = claim()

    assert (first.delivery, first.standing.round) == (asked.pk, None)
    assert len(others) == health(endpoint).round_left == 3
    assert None not in {each.standing.round for each in others}


@pytest.mark.skipif(connection.vendor == "sqlite", reason="it has one writer at a time")
def test_d51_workers_at_the_same_instant_share_one_ramp() -> None:
    recovering = [make_endpoint(url=f"https://{number}.example/") for number in range(3)]
    for each in recovering:
        make_waiting(each, 40)
    settle_all(claim(15, each=5), 500)
    EndpointHealth.objects.update(paused_until=None, ramp=4)
    start = threading.Barrier(6)

    def work(_: int) -> list[Leased]:
        start.wait(10)
        try:
            return claim()
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        leased = [each for found in pool.map(work, range(6)) for each in found]

    assert Counter(each.endpoint for each in leased) == {each.pk: 4 for each in recovering}
    assert set(EndpointHealth.objects.values_list("round_left", flat=True)) == {4}


def test_d51_leases_that_are_handed_back_leave_the_round_to_others() -> None:
    endpoint = make_endpoint()
    make_waiting(endpoint, 10)
    settle_all(claim(5), 500)
    end_pause(endpoint)

    hand_back(claim(), using="default")

    assert [each.standing.round is not None for each in claim()] == [True]


def test_d51_a_round_that_lost_its_deliveries_is_over_at_once() -> None:
    endpoint = make_endpoint()
    make_waiting(endpoint, 6)
    settle_all(claim(5), 500)
    end_pause(endpoint)

    class Gone:
        """Deletes what waits, between the choice and the lease."""

        def __call__(self, execute: Any, sql: str, params: Any, many: Any, context: Any) -> Any:
            if sql.startswith("UPDATE") and "endpointhealth" in sql and not done:
                done.append(sql)
                with connection.cursor() as cursor:
                    cursor.execute("UPDATE drf_webhooks_delivery SET due_at = NULL")
            return execute(sql, params, many, context)

    done: list[str] = []
    with connection.execute_wrapper(Gone()):
        assert claim() == []

    assert (health(endpoint).paused_until, health(endpoint).round_left) == (None, 0)


def test_d52_endpoints_that_take_turns_do_not_mix() -> None:
    good, bad = make_endpoint(), make_endpoint(url="https://b.example/")
    for _ in range(6):
        make_waiting(good, 1)
        make_waiting(bad, 1)
        claimed = claim()
        settle(
            [result(each, 200 if each.endpoint == good.pk else 500) for each in claimed],
            using="default",
        )

    assert not EndpointHealth.objects.filter(pk=good.pk).exists()
    assert health(bad).failures >= 5
    assert health(bad).ramp == 1


def test_d52_a_success_of_an_endpoint_that_is_well_costs_no_statement() -> None:
    endpoint = make_endpoint()
    make_waiting(endpoint, 30)
    claimed = claim(each=30)

    with CaptureQueriesContext(connection) as queries:
        settle_all(claimed)

    assert not any("endpointhealth" in each["sql"] for each in queries)


def test_d52_a_batch_costs_one_update_for_each_endpoint_that_is_not_well() -> None:
    endpoints = [make_endpoint(url=f"https://{each}.example/") for each in range(3)]
    for each in endpoints:
        make_waiting(each, 8)
    settle_all(claim(6, each=2), 500)
    claimed = claim(each=4)
    assert len(claimed) == 12

    assert len(touched(lambda: settle_all(claimed, 500))) == 3
    assert {each.failures for each in EndpointHealth.objects.all()} == {6}


def test_d53_a_result_that_is_settled_twice_counts_once() -> None:
    endpoint = make_endpoint()
    make_waiting(endpoint, 1)
    claimed = claim()

    assert settle_all(claimed, 500) == 0
    assert settle_all(claimed, 500) == 1

    assert health(endpoint).failures == 1
    assert Delivery.objects.get().attempt_count == 1


@pytest.mark.parametrize("status", [200, 500])
def test_d53_a_result_that_is_too_late_says_nothing_of_the_endpoint(status: int) -> None:
    endpoint = make_endpoint()
    make_waiting(endpoint, 3)
    settle_all(claim(1), 500)
    late, fresh = claim(2)
    Delivery.objects.filter(pk=late.delivery).update(fence=99)

    assert settle_all([late], status) == 1
    assert health(endpoint).failures == 1

    assert settle_all([late, fresh]) == 1
    assert health(endpoint).failures == 0


def test_d54_a_warning_is_stored_once_and_the_endpoint_disabled_later() -> None:
    endpoint = make_endpoint(overrides={"BREAKER_FAILURES": 100, "BREAKER_SAMPLE": 100})
    make_waiting(endpoint, 1)
    settle_all(claim(), 500)
    for length in (timedelta(hours=1), timedelta(0), timedelta(hours=71), 2 * DAY):
        shift(endpoint, length)
        settle_all(claim(), 500)

    kinds = list(Notice.objects.order_by("pk").values_list("kind", flat=True))
    assert kinds == ["failing", "failing"]
    # The owner has not got the warnings yet.
    endpoint.refresh_from_db()
    assert endpoint.state == "enabled"

    Notice.objects.update(due_at=None)
    settle_all(claim(), 500)

    endpoint.refresh_from_db()
    assert endpoint.state == "disabled"
    assert endpoint.disabled_reason.startswith("Nothing was delivered since ")
    last = Notice.objects.latest("pk")
    assert (last.kind, last.reason) == ("disabled", endpoint.disabled_reason)
    assert last.due_at is not None


def test_c39_a_receiver_that_is_gone_is_disabled_with_a_notice() -> None:
    with WebhookReceiver() as receiver:
        make_waiting(make_endpoint(url=receiver.url), 2)
        receiver.respond(410)
        deliver_now()

    assert Endpoint.objects.get().state == "disabled"
    notice = Notice.objects.get()
    assert (notice.kind, notice.reason) == ("disabled", "The receiver answered status 410.")


def test_c41_a_receiver_that_asks_for_it_is_disabled_with_a_notice() -> None:
    with WebhookReceiver() as receiver:
        make_waiting(make_endpoint(url=receiver.url), 1)
        receiver.respond(200, headers={"webhook-delivery": "disable"})
        deliver_now()

    assert Endpoint.objects.get().state == "disabled"
    assert Notice.objects.get().kind == "disabled"


def test_c41_an_aborted_message_ends_alone() -> None:
    with WebhookReceiver() as receiver:
        endpoint = make_endpoint(url=receiver.url)
        make_waiting(endpoint, 6)
        receiver.respond(404, headers={"webhook-delivery": "abort-message"})
        deliver_now()

    assert set(Delivery.objects.values_list("state", flat=True)) == {"dead"}
    assert not EndpointHealth.objects.exists()


def test_c39_what_refuses_messages_gets_them_again_and_the_others_meanwhile() -> None:
    with WebhookReceiver() as receiver:
        endpoint = make_endpoint(url=receiver.url)
        make_waiting(endpoint, 8)
        receiver.respond(422)
        assert deliver_now() == 8
        receiver.respond(200)
        make_waiting(endpoint, 1)
        assert deliver_now() == 1

    assert Delivery.objects.filter(state="waiting", attempt_count=1).count() == 8
    assert Delivery.objects.filter(state="delivered").count() == 1


def test_d57_the_endpoint_stays_enabled_and_the_type_is_reported() -> None:
    endpoint = make_endpoint()
    for _ in range(8):
        make_waiting(endpoint, 1, event_type="a.bad")
        make_waiting(endpoint, 1)
        settle(
            [result(each, 422 if each.standing.event_type == "a.bad" else 200) for each in claim()],
            using="default",
        )

    endpoint.refresh_from_db()
    assert endpoint.state == "enabled"
    notice = Notice.objects.get()
    assert (notice.kind, notice.event_type) == ("type_failing", "a.bad")


@pytest.mark.parametrize("status", [200, 500])
def test_results_of_an_endpoint_that_was_deleted_meanwhile_keep_nobody_up(status: int) -> None:
    gone, other = make_endpoint(), make_endpoint(url="https://b.example/")
    make_waiting(gone, 1)
    make_waiting(other, 1)
    claimed = claim()
    gone.delete()

    assert settle_all(claimed, status) == 1

    assert Attempt.objects.get().delivery.endpoint == other


def test_an_endpoint_that_a_person_disables_meanwhile_keeps_the_reason() -> None:
    endpoint = make_endpoint()
    make_waiting(endpoint, 1)
    claimed = claim()
    done: list[str] = []

    def meanwhile(execute: Any, sql: str, params: Any, many: Any, context: Any) -> Any:
        if sql.startswith("UPDATE") and "disabled_reason" in sql and not done:
            done.append(sql)
            with connection.cursor() as cursor:
                cursor.execute(
                    "UPDATE drf_webhooks_endpoint SET state = 'disabled', disabled_reason = 'mine'"
                )
        return execute(sql, params, many, context)

    with connection.execute_wrapper(meanwhile):
        settle_all(claimed, 410, disables="The receiver answered status 410.")

    endpoint.refresh_from_db()
    assert endpoint.disabled_reason == "mine"
    assert not Notice.objects.exists()


def test_a_disabled_endpoint_is_not_warned_of() -> None:
    endpoint = make_endpoint()
    make_waiting(endpoint, 2)
    settle_all(claim(1), 500)
    shift(endpoint, 2 * DAY)
    claimed = claim()
    Endpoint.objects.update(state="disabled")

    settle_all(claimed, 500)

    assert not Notice.objects.exists()
