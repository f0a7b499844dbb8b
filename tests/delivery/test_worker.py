"""The worker and its store: leases, fences, failures of the database, defects of ours."""

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.test import override_settings
from django.utils import timezone

from drf_webhooks.conf import Config, config
from drf_webhooks.delivery.claims import lease
from drf_webhooks.delivery.leases import Leased, hand_back
from drf_webhooks.delivery.lost import end_lost
from drf_webhooks.delivery.results import Result, settle
from drf_webhooks.delivery.sender import attempt, attempted, judge
from drf_webhooks.delivery.transport import Answer, Failure, Transport
from drf_webhooks.delivery.wakeup import Listener
from drf_webhooks.delivery.worker import Worker
from drf_webhooks.models import Attempt, Delivery, Endpoint, EndpointHealth, Event
from drf_webhooks.session import disable_webhooks
from drf_webhooks.testing import WebhookReceiver, deliver_now
from tests.app.models import Deposit
from tests.factories import make_deposit, make_user

pytestmark = pytest.mark.django_db(transaction=True)

MINUTE = timedelta(minutes=1)


def make_deliveries(count: int, url: str = "https://a.example/") -> Endpoint:
    with disable_webhooks():
        tenant = make_deposit().tenant
    endpoint = Endpoint.objects.create(url=url, event_types=["core.deposit.created"])
    for _ in range(count):
        Deposit.objects.create(tenant=tenant, amount=1)
    return endpoint


def claim(
    limit: int = 10,
    *,
    each: int = 10,
    in_air: Mapping[uuid.UUID, int] | None = None,
    schedule: Sequence[timedelta] = (timedelta(0),) * 9,
) -> list[Leased]:
    return lease(
        limit, using="default", length=MINUTE, each=each, in_air=in_air or {}, schedule=schedule
    )


def result(leased: Leased, state: Delivery.State = Delivery.State.DELIVERED, **more: Any) -> Result:
    return Result(leased, datetime.now(tz=UTC), timedelta(0), state, **more)


def test_what_is_leased_is_not_due() -> None:
    make_deliveries(3)

    assert len(claim(2)) == 2
    assert len(claim(2)) == 1
    assert claim(2) == []


def test_a_lease_that_ended_is_due_again_with_a_higher_fence() -> None:
    make_deliveries(1)
    (first,) = claim()
    Delivery.objects.update(due_at=timezone.now() - MINUTE)
    (second,) = claim()

    assert second.fence == first.fence + 1
    assert settle([result(first)], using="default") == 1
    assert settle([result(first, Delivery.State.DEAD, reason="x")], using="default") == 1
    assert Delivery.objects.get().state == "waiting"
    assert settle([result(second)], using="default") == 0
    assert Delivery.objects.get().state == "delivered"
    assert Attempt.objects.count() == 4


def test_the_attempt_of_a_worker_that_is_lost_is_in_the_log() -> None:
    endpoint = make_deliveries(1)
    claim()
    started_at = Delivery.objects.get().leased_at
    Delivery.objects.update(due_at=timezone.now() - MINUTE)
    (second,) = claim()
    settle([result(second, status=200)], using="default")

    assert second.attempt_count == 1
    lost, told = Attempt.objects.order_by("number")
    assert (lost.number, lost.error, lost.started_at) == (1, "worker_lost", started_at)
    assert lost.url == endpoint.url
    assert (told.number, told.status) == (2, 200)
    delivery = Delivery.objects.get()
    assert (delivery.attempt_count, delivery.leased_at) == (2, None)


def test_what_costs_every_worker_its_life_is_dead_in_the_end() -> None:
    make_deliveries(2)
    for _ in range(3):
        assert len(claim(schedule=[timedelta(0)] * 2)) == 2
        Delivery.objects.update(due_at=timezone.now() - MINUTE)

    assert claim(schedule=[timedelta(0)] * 2) == []
    for delivery in Delivery.objects.all():
        assert (delivery.state, delivery.due_at, delivery.leased_at) == ("dead", None, None)
        assert delivery.reason.startswith("Given up after 3 attempts; the worker was lost")
        assert delivery.attempt_count == 3


def test_what_lost_its_worker_waits_by_the_schedule() -> None:
    make_deliveries(2)
    waits = [timedelta(hours=1), timedelta(hours=5)]
    first, second = claim()
    Delivery.objects.filter(pk=second.delivery).update(attempt_count=1)
    Delivery.objects.update(due_at=timezone.now() - MINUTE)

    assert claim(schedule=waits) == []

    for leased, wait in zip((first, second), waits, strict=True):
        delivery = Delivery.objects.get(pk=leased.delivery)
        assert delivery.leased_at is None
        assert delivery.due_at is not None
        assert abs(delivery.due_at - timezone.now() - wait) < MINUTE
    assert claim(schedule=waits) == []
    assert Attempt.objects.count() == 2


def test_what_another_worker_took_meanwhile_is_left_to_it() -> None:
    make_deliveries(1)
    (leased,) = claim()

    with transaction.atomic():
        end_lost([leased.delivery], using="default", now=timezone.now(), schedule=[])

    assert not Attempt.objects.exists()
    assert Delivery.objects.get().attempt_count == 0


def test_results_of_what_is_not_there_any_more_are_forgotten() -> None:
    endpoint = make_deliveries(1)
    claimed = claim()
    endpoint.delete()

    assert settle([result(each) for each in claimed], using="default") == 1
    assert not Attempt.objects.exists()


def test_what_was_handed_back_was_no_attempt() -> None:
    make_deliveries(1)
    hand_back(claim(), using="default")

    assert [each.attempt_count for each in claim()] == [0]
    assert not Attempt.objects.exists()


def test_a_result_that_is_stored_twice_counts_once() -> None:
    """D53: the connection broke after the commit, so nobody knew of it."""
    make_deliveries(1)
    (claimed,) = claim()
    failed = result(claimed, Delivery.State.WAITING, wait=MINUTE, error="timeout_total")

    assert settle([failed], using="default") == 0
    assert settle([failed], using="default") == 1
    assert Delivery.objects.get().attempt_count == 1


def test_each_of_a_batch_gets_its_own_outcome() -> None:
    make_deliveries(4)
    delivered, failed, dead, late = claim()
    Delivery.objects.filter(pk=late.delivery).update(fence=9)

    refused = settle(
        [
            result(delivered, status=204, headers=(("a", "\u0000b"),), body=b"\x00\xff"),
            result(failed, Delivery.State.WAITING, wait=MINUTE, error="x", detail="\u0000"),
            result(dead, Delivery.State.DEAD, reason="y" * 300),
            result(late),
        ],
        using="default",
    )

    now = timezone.now()
    rows = {each.pk: each for each in Delivery.objects.all()}
    assert refused == 1
    assert rows[delivered.delivery].settled_at
    assert rows[delivered.delivery].due_at is None
    assert rows[failed.delivery].settled_at is None
    due_at = rows[failed.delivery].due_at
    assert due_at is not None
    assert MINUTE / 2 < due_at - now < 2 * MINUTE
    assert (rows[dead.delivery].state, rows[dead.delivery].reason) == ("dead", "y" * 200)
    assert rows[late.delivery].attempt_count == 0
    first = Attempt.objects.get(delivery=delivered.delivery)
    assert (first.status, bytes(first.response_body), first.number) == (204, b"\x00\xff", 1)
    assert Attempt.objects.count() == 4


@pytest.mark.parametrize("count", [1, 40])
def test_statements_do_not_grow_with_the_batch(
    count: int, django_assert_max_num_queries: Any
) -> None:
    make_deliveries(count)

    # Of these, PostgreSQL takes 6 and two for the transaction.
    with django_assert_max_num_queries(16):
        claimed = claim(count, each=count)
        some = [Delivery.State.DELIVERED, Delivery.State.WAITING, Delivery.State.DEAD]
        settle(
            [
                result(each, state, wait=MINUTE if state == "waiting" else None)
                for each, state in zip(claimed, some * count, strict=False)
            ],
            using="default",
        )

    assert len(claimed) == count


def test_nothing_to_settle_costs_nothing() -> None:
    assert settle([], using="default") == 0


def test_one_endpoint_cannot_fill_a_claim() -> None:
    busy, other = make_deliveries(6), make_deliveries(2)
    Delivery.objects.filter(endpoint=other).exclude(event__deliveries__endpoint=busy)

    claimed = Counter(each.endpoint for each in claim(5, each=3))

    assert claimed[busy.pk] == 3
    assert claimed[other.pk] == 2
    assert {each.endpoint for each in claim(5, each=3, in_air={busy.pk: 3})} <= {other.pk}


def test_leases_are_handed_back() -> None:
    make_deliveries(2)
    claimed = claim()
    hand_back([], using="default")
    hand_back(claimed, using="default")

    assert [each.attempt_count for each in claim()] == [0, 0]


def test_an_endpoint_is_disabled_once() -> None:
    endpoint = make_deliveries(2)
    claimed = claim()

    settle(
        [result(each, Delivery.State.DEAD, reason="gone", disables="410") for each in claimed],
        using="default",
    )

    endpoint.refresh_from_db()
    assert (endpoint.state, endpoint.disabled_reason) == ("disabled", "410")


def test_what_can_never_be_sent_is_dead_and_says_why() -> None:
    endpoint = make_deliveries(3)
    first, second, third = Delivery.objects.order_by("pk")
    Event.objects.filter(pk=first.event_id).update(owner=make_user())
    Event.objects.filter(pk=second.event_id).update(body=None)
    Event.objects.filter(pk=third.event_id).update(type="x")
    Endpoint.objects.filter(pk=endpoint.pk).update(secret="broken")  # noqa: S106  # the point

    assert deliver_now() == 3

    reasons = [each.reason for each in Delivery.objects.order_by("pk")]
    assert reasons == [
        "The endpoint's owner does not own the object.",
        "The event has no message.",
        "The endpoint's secret cannot be read.",
    ]
    assert set(Delivery.objects.values_list("state", flat=True)) == {"dead"}


def test_a_worker_survives_a_database_that_fails() -> None:
    failures = [DatabaseError("gone"), DatabaseError("gone")]

    def keep_house() -> int:
        if failures:
            raise failures.pop()
        return 0

    with WebhookReceiver() as receiver:
        make_deliveries(3, receiver.url)
        worker = Worker("default", housekeeping=keep_house)
        asyncio.run(worker.run(until_empty=True))
        assert len(receiver.requests) == 3

    assert worker.attempts == 3


def test_results_are_kept_when_they_cannot_be_stored() -> None:
    blocked: list[Callable[..., Any]] = []

    class Failing(Worker):
        async def _settle(self) -> int:
            if self._done and not blocked:
                blocked.append(self._settle)
                self._done = [*self._done]
                Attempt.objects.model._meta.db_table = "there_is_no_such_table"
                try:
                    return await super()._settle()
                finally:
                    Attempt.objects.model._meta.db_table = "drf_webhooks_attempt"
            return await super()._settle()

    with WebhookReceiver() as receiver:
        make_deliveries(2, receiver.url)
        asyncio.run(Failing("default", housekeeping=int).run(until_empty=True))
        assert len(receiver.requests) == 2

    assert blocked
    assert Attempt.objects.count() == 2
    assert set(Delivery.objects.values_list("state", flat=True)) == {"delivered"}


def test_a_worker_that_is_stopped_while_it_claims_hands_back() -> None:
    make_deliveries(2)
    worker = Worker("default", housekeeping=lambda: worker.stop() or 0)

    asyncio.run(worker.run())

    assert worker.attempts == 0
    assert len(claim()) == 2


def test_what_was_leased_ahead_is_handed_back_at_the_end() -> None:
    with WebhookReceiver() as receiver:
        receiver.respond(delay=timedelta(milliseconds=300))
        make_deliveries(6, receiver.url)
        worker = Worker("default", housekeeping=int, concurrency=2)

        async def main() -> None:
            running = asyncio.create_task(worker.run())
            await asyncio.to_thread(receiver.wait_for, 1)
            worker.stop()
            await running

        asyncio.run(main())

    assert worker.attempts == 2
    assert len(claim()) == 4


def test_a_lease_that_grew_old_in_hand_is_handed_back() -> None:
    with (
        override_settings(
            DRF_WEBHOOKS={
                "ALLOWED_NETWORKS": ["127.0.0.0/8"],
                "REQUEST_TIMEOUT": timedelta(seconds=1),
                "LEASE": timedelta(seconds=1.2),
            }
        ),
        WebhookReceiver() as receiver,
    ):
        receiver.respond(delay=timedelta(milliseconds=400))
        make_deliveries(3, receiver.url)
        worker = Worker("default", housekeeping=int, concurrency=1)
        asyncio.run(worker.run(until_empty=True))

    assert worker.attempts == 3
    assert set(Delivery.objects.values_list("attempt_count", flat=True)) == {1}
    # What was leased ahead and waited was leased anew.
    assert max(Delivery.objects.values_list("fence", flat=True)) > 1


def test_a_worker_keeps_to_a_rate() -> None:
    with WebhookReceiver() as receiver:
        endpoint = make_deliveries(6, receiver.url)
        Endpoint.objects.filter(pk=endpoint.pk).update(rate=10)
        worker = Worker("default", housekeeping=int)
        began = timezone.now()
        asyncio.run(worker.run(until_empty=True))

    assert worker.attempts == 6
    # One at once, then one each tenth of a second.
    assert timezone.now() - began > timedelta(seconds=0.5)


def test_a_worker_that_empties_does_not_wait_for_a_disabled_endpoint() -> None:
    endpoint = make_deliveries(2)
    Endpoint.objects.filter(pk=endpoint.pk).update(state="disabled")
    worker = Worker("default", housekeeping=int)

    asyncio.run(asyncio.wait_for(worker.run(until_empty=True), 10))

    assert worker.attempts == 0


def test_an_endpoint_at_its_limit_is_asked_about_when_it_has_room_again() -> None:
    with WebhookReceiver() as receiver:
        receiver.respond(delay=timedelta(milliseconds=100))
        endpoint = make_deliveries(3, receiver.url)
        Endpoint.objects.filter(pk=endpoint.pk).update(concurrency=1)
        worker = Worker("default", housekeeping=int)
        asyncio.run(worker.run(until_empty=True))

    assert worker.attempts == 3


def test_a_worker_that_is_woken_for_an_endpoint_at_its_limit_sends_when_there_is_room() -> None:
    class Holding:
        """A transport that answers when it is told to."""

        begun, may_end, looked = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def send(self, *_: object, **__: object) -> Answer:
            self.begun.set()
            await self.may_end.wait()
            return Answer(200, (), b"")

    endpoint = make_deliveries(2)
    Endpoint.objects.filter(pk=endpoint.pk).update(concurrency=1)
    transport = Holding()

    async def main() -> list[int]:
        loop = asyncio.get_running_loop()

        def keep_house() -> int:
            if transport.begun.is_set():
                loop.call_soon_threadsafe(transport.looked.set)
            return 0

        worker = Worker("default", housekeeping=keep_house, transport=transport)
        running = asyncio.create_task(worker.run(until_empty=True))
        await transport.begun.wait()
        worker.wake()
        # It keeps house after the claim that it was woken for.
        await transport.looked.wait()
        attempts = [worker.attempts]
        transport.may_end.set()
        await running
        return [*attempts, worker.attempts]

    assert asyncio.run(asyncio.wait_for(main(), 20)) == [1, 2]


@pytest.mark.parametrize("is_woken", [False, True])
def test_what_housekeeping_has_released_is_claimed_at_once(*, is_woken: bool) -> None:
    released: list[int] = []

    def keep_house() -> int:
        if not released:
            make_deliveries(1, receiver.url)
            released.append(1)
            return 1
        return 0

    with WebhookReceiver() as receiver:
        worker = Worker("default", housekeeping=keep_house)
        if is_woken:
            worker.wake("deliveries")
            worker.wake("events")
        asyncio.run(worker.run(until_empty=True))

    assert worker.attempts == 1


def test_a_claim_that_fails_is_made_again() -> None:
    blocked: list[bool] = []

    class Failing(Worker):
        async def _claim(self, transport: Transport, *, only_air: bool) -> int | None:
            if blocked:
                return await super()._claim(transport, only_air=only_air)
            blocked.append(True)
            Delivery._meta.db_table = "there_is_no_such_table"
            try:
                return await super()._claim(transport, only_air=only_air)
            finally:
                Delivery._meta.db_table = "drf_webhooks_delivery"

    with WebhookReceiver() as receiver:
        make_deliveries(2, receiver.url)
        asyncio.run(Failing("default", housekeeping=int).run(until_empty=True))
        assert len(receiver.requests) == 2


def test_the_number_of_an_event_is_sent_if_it_has_one() -> None:
    make_deliveries(2)
    Event.objects.filter(pk=Event.objects.earliest("created_at").pk).update(sequence=None)
    sent: list[str | None] = []

    class Noting:
        async def send(
            self, url: str, *, method: str, headers: Mapping[str, str], body: bytes
        ) -> Answer | Failure:
            sent.append(headers.get("webhook-sequence"))
            return Answer(200, (), b"")

    for each in claim():
        asyncio.run(attempt(each, Noting(), config()))

    assert sorted(sent, key=str) == ["1", None]


def test_a_second_stop_ends_what_is_in_the_air() -> None:
    with WebhookReceiver() as receiver:
        receiver.respond(delay=timedelta(seconds=10))
        make_deliveries(1, receiver.url)
        worker = Worker("default", housekeeping=int)

        async def main() -> None:
            running = asyncio.create_task(worker.run())
            await asyncio.to_thread(receiver.wait_for, 1)
            worker.stop()
            worker.stop()
            await running

        asyncio.run(main())

    assert Delivery.objects.get().state == "waiting"
    assert not Attempt.objects.exists()


def test_a_worker_with_less_room_than_work() -> None:
    with WebhookReceiver() as receiver:
        make_deliveries(7, receiver.url)
        worker = Worker("default", housekeeping=int, concurrency=2)
        asyncio.run(worker.run(until_empty=True))
        assert len(receiver.requests) == 7


class Broken:
    """A transport with a defect."""

    async def send(
        self, url: str, *, method: str, headers: Mapping[str, str], body: bytes
    ) -> Answer | Failure:
        raise ZeroDivisionError


def test_a_defect_of_ours_costs_one_attempt(caplog: pytest.LogCaptureFixture) -> None:
    make_deliveries(1)
    (leased,) = claim()

    found = asyncio.run(attempted(leased, Broken(), config()))

    assert (found.state, found.error) == (Delivery.State.WAITING, "internal_error")
    assert "ZeroDivisionError" in found.detail
    assert "failed" in caplog.text


def test_the_time_of_an_attempt_is_signed() -> None:
    make_deliveries(1)
    (leased,) = claim()
    sent: dict[str, str] = {}

    class Noting:
        async def send(
            self, url: str, *, method: str, headers: Mapping[str, str], body: bytes
        ) -> Answer | Failure:
            sent.update(headers)
            return Answer(200, (), b"")

    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)
    asyncio.run(attempt(leased, Noting(), config(), now=noon))

    assert sent["webhook-timestamp"] == str(int(noon.timestamp()))
    assert sent["webhook-signature"].startswith("v1,")


@pytest.mark.parametrize("wish", ["abort-message", "disable"])
def test_a_wish_in_an_answer_ends_a_delivery(wish: str) -> None:
    verdict = judge(
        Answer(400, (("Webhook-Delivery", wish),), b""),
        attempts=1,
        age=timedelta(0),
        now=timezone.now(),
        chance=0,
        settings=Config(),
    )

    assert verdict.state == Delivery.State.DEAD
    assert bool(verdict.disables) is (wish == "disable")


def test_a_listener_is_woken_and_survives_the_loss_of_its_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> list[str]:
        woken = asyncio.Event()
        listener = Listener("default", lambda _: woken.set())
        seen = []
        await asyncio.to_thread(listener.connect)
        listener.attach()
        await asyncio.to_thread(notify)
        await asyncio.wait_for(woken.wait(), 10)
        seen.append("woken")
        woken.clear()
        await asyncio.to_thread(end_other_connections)
        async with asyncio.timeout(10):
            while listener._connection is not None:
                woken.clear()
                await woken.wait()
        seen.append("lost")
        await asyncio.to_thread(listener.connect)
        listener.attach()
        listener.close()
        return seen

    if connection.vendor == "postgresql":
        assert asyncio.run(main()) == ["woken", "lost"]
        assert "Lost the connection" in caplog.text
    else:
        # Nothing to listen to: the worker polls.
        listener = Listener("default", lambda _: None)
        listener.connect()
        listener.attach()
        listener.close()


def notify() -> None:
    in_own_connection("NOTIFY drf_webhooks")


def end_other_connections() -> None:
    in_own_connection(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN %%' "
        "AND datname = current_database()"
    )


def in_own_connection(statement: str) -> None:
    own = connection.copy()
    own.inc_thread_sharing()
    with own.cursor() as cursor:
        cursor.execute(statement)
    own.close()


def test_a_listener_that_cannot_connect_says_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Where a database is a file it would be made, and so not just anywhere.
    folder = "" if connection.vendor == "postgresql" else f"{tmp_path}/"
    monkeypatch.setitem(connection.settings_dict, "NAME", f"{folder}no_such_database")
    listener = Listener("default", lambda _: None)

    listener.connect()

    assert ("polling" in caplog.text) is (connection.vendor == "postgresql")


def test_failures_among_successes_of_one_claim_are_not_failures_in_a_row() -> None:
    """All were leased when nothing was counted against the endpoint."""
    endpoint = make_deliveries(12)
    Endpoint.objects.filter(pk=endpoint.pk).update(concurrency=12)
    statuses = iter([500, 200] * 6)

    class Alternating:
        async def send(
            self, url: str, *, method: str, headers: Mapping[str, str], body: bytes
        ) -> Answer | Failure:
            return Answer(next(statuses), (), b"")

    worker = Worker("default", housekeeping=int, transport=Alternating())
    asyncio.run(worker.run(until_empty=True))

    assert worker.attempts == 12
    health = EndpointHealth.objects.get(pk=endpoint.pk)
    assert (health.failures, health.paused_until) == (0, None)


class Willing:
    """Takes everything."""

    async def send(
        self, url: str, *, method: str, headers: Mapping[str, str], body: bytes
    ) -> Answer | Failure:
        return Answer(200, (), b"")


def test_one_round_of_an_endpoint_that_recovers_follows_the_other() -> None:
    endpoint = make_deliveries(4)
    EndpointHealth.objects.create(endpoint=endpoint, is_clean=False, ramp=1)

    asyncio.run(Worker("default", housekeeping=int, transport=Willing()).run(until_empty=True))

    assert not Delivery.objects.filter(state="waiting").exists()
    assert EndpointHealth.objects.get().ramp == 8


def test_a_worker_that_nobody_wakes_polls(settings: Any) -> None:
    settings.DRF_WEBHOOKS = {
        **settings.DRF_WEBHOOKS,
        "POLL_INTERVAL": timedelta(milliseconds=20),
    }
    calls = 0

    def keep_house() -> int:
        nonlocal calls
        calls += 1
        if calls == 3:
            worker.stop()
        return 0

    worker = Worker("default", housekeeping=keep_house, transport=Willing())
    asyncio.run(asyncio.wait_for(worker.run(), 30))

    assert calls == 3


def test_the_next_of_an_object_follows_at_once() -> None:
    """E60: of an endpoint with ordering one waits for the other, not for the worker to poll."""
    with disable_webhooks():
        deposit = make_deposit()
    receiver = WebhookReceiver()

    class Stopping(Worker):
        async def _settle(self) -> int:
            settled = await super()._settle()
            if len(receiver.requests) == 4:
                self.stop()
            return settled

    with (
        receiver,
        override_settings(
            DRF_WEBHOOKS={
                "POLL_INTERVAL": timedelta(hours=1),
                "ALLOWED_NETWORKS": ["127.0.0.0/8"],
            }
        ),
    ):
        Endpoint.objects.create(
            url=receiver.url, event_types=["core.deposit.updated"], ordering="object"
        )
        for number in range(4):
            deposit.note = str(number)
            deposit.save()
        asyncio.run(asyncio.wait_for(Stopping("default", housekeeping=int).run(), 60))

    assert Delivery.objects.filter(state="delivered").count() == 4
