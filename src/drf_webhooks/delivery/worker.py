"""The worker: lease what is due, send many at once, settle in batches, stop cleanly."""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, cast

from django.db import Error, connections

from drf_webhooks.conf import Config, config
from drf_webhooks.delivery.access import Access
from drf_webhooks.delivery.claims import claim
from drf_webhooks.delivery.hand import Hand
from drf_webhooks.delivery.leases import Leased, hand_back
from drf_webhooks.delivery.results import Result, settle
from drf_webhooks.delivery.sender import attempted
from drf_webhooks.delivery.transport import AiohttpTransport, Transport
from drf_webhooks.delivery.turns import Turns
from drf_webhooks.delivery.wakeup import DELIVERIES, Listener
from drf_webhooks.models import Delivery

__all__ = ["Worker"]

A = TypeVar("A")
B = TypeVar("B")
R = TypeVar("R")

logger = logging.getLogger(__name__)

#: After a result, others are waited for this long, to settle them in one transaction: a
#: moment, and longer while there is enough to send.
_REST_SECONDS = 0.005
_GATHER_SECONDS = 0.05
#: So many times as many as may be in the air are settled without waiting for others.
_BATCH = 2
_GLANCE_SECONDS = 0.002
#: When only endpoints without room have something due, they are asked about no sooner again.
_FULL_SECONDS = 0.02
_BACK_OFF_SECONDS = (0.1, 0.5, 1, 2, 5, 10)


class Worker:
    """Delivers until it is stopped, or until nothing is due.

    It claims ahead: while some deliveries are in the air, the next are leased already, so
    that an answer makes room for another request at once.

    Args:
        using: The database.
        housekeeping: Called at most once in each poll interval, and when the database says
            that something is due; runs in the thread that owns the connection. Returns how
            much it did; a claim follows if that was anything.
        concurrency: Requests in the air at once; by default the setting.
        transport: An open one, which stays open; by default the worker opens its own.

    """

    def __init__(
        self,
        using: str,
        *,
        housekeeping: Callable[[], int],
        concurrency: int | None = None,
        transport: Transport | None = None,
    ) -> None:
        self.using = using
        self.attempts = 0
        self._settings: Config = config()
        self._concurrency = concurrency or self._settings.CONCURRENCY
        self._housekeeping = housekeeping
        self._transport = transport
        self._kept_house_at = float("-inf")
        self._hand = Hand(
            self._concurrency,
            # Later than that, an attempt could outlast its lease.
            patience=self._settings.LEASE - self._settings.REQUEST_TIMEOUT,
        )
        self._turns = Turns()
        self._access = Access()
        self._flights: set[asyncio.Task[None]] = set()
        self._done: list[Result] = []
        self._is_stopping = False
        # A connection for each thread, and no transaction is open while requests are. Where
        # writers do not wait for each other, what is done is settled while more is claimed.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="drf_webhooks_db")
        is_parallel = connections[using].vendor == "postgresql"
        self._settling = (
            ThreadPoolExecutor(1, thread_name_prefix="drf_webhooks_settle")
            if is_parallel
            else self._pool
        )
        self._changed = asyncio.Event()
        self._is_woken = False
        #: Whether something may be due that was not claimed, and when to look for it.
        self._is_more = True
        self._look_at = float("-inf")
        #: Endpoints that have something due, and all that they may have in hand.
        self._full: frozenset[uuid.UUID] = frozenset()
        #: Whether the last claim saw all that may be sent.
        self._has_seen_all = False

    @property
    def in_air(self) -> int:
        """How many requests are in the air."""
        return self._hand.flying

    def stop(self) -> None:
        """Finish what is in the air and end; called again, end at once.

        What is in the air then is sent again when its lease is over.
        """
        if self._is_stopping:
            for flight in self._flights:
                flight.cancel()
        self._is_stopping = True
        self._changed.set()

    def wake(self, what: str = "") -> None:
        """Look for due deliveries now, and for held events unless deliveries are meant."""
        self._is_woken = self._is_more = True
        self._look_at = float("-inf")
        if what != DELIVERIES:
            self._kept_house_at = float("-inf")
        self._changed.set()

    async def run(self, *, until_empty: bool = False, once: bool = False) -> None:
        """Deliver.

        Args:
            until_empty: End when nothing is due and nothing in the air. Retries of later
                do not count.
            once: End after one claim.

        """
        listener = Listener(self.using, self.wake)
        failures = 0
        given = self._transport
        async with nullcontext(given) if given else AiohttpTransport(self._settings) as transport:
            try:
                while True:
                    try:
                        await self._db(listener.connect)
                        listener.attach()
                        if await self._turn(transport, until_empty=until_empty, once=once):
                            return
                        failures = 0
                    except Error:
                        logger.exception("The database failed; trying again.")
                        wait = _BACK_OFF_SECONDS[min(failures, len(_BACK_OFF_SECONDS) - 1)]
                        failures += 1
                        for pool in {self._pool, self._settling}:
                            await self._db(self._close_if_lost, pool=pool)
                        await asyncio.sleep(wait)
            finally:
                listener.close()
                for pool in {self._pool, self._settling}:
                    await self._db(connections.close_all, pool=pool)
                    pool.shutdown()

    async def _turn(self, transport: Transport, *, until_empty: bool, once: bool) -> bool:
        """Settle what is done and claim what there is room for; return whether to end."""
        self._changed.clear()
        if self._is_stopping:
            await self._settle()
            return await self._end()
        if until_empty and self._hand.is_empty:
            self._is_more = True
        # After a notification deliveries come first: for them it was sent, as a rule.
        was_woken, self._is_woken = self._is_woken, False
        if not was_woken and await self._keep_house():
            self._is_more = True
        settled, claimed = await _both(self._settle(), self._claim(transport, only_air=once))
        if was_woken and await self._keep_house():
            self._is_more = True
            return False
        if once:
            self._is_stopping = True
        elif until_empty and not settled and self._is_empty(claimed):
            return True
        # What was settled may have made something due that the claim beside it did not see.
        elif not (until_empty and settled):
            await self._something()
        return False

    def _is_empty(self, claimed: int | None) -> bool:
        """Tell whether nothing is left; ``None`` if it was not yet time to claim."""
        is_none_due = claimed == 0 and self._has_seen_all
        return is_none_due and not self._done and self._hand.is_empty

    async def _end(self) -> bool:
        """Hand back what was not begun, and wait for what is in the air."""
        await self._db(hand_back, self._hand.drop(), using=self.using)
        if self._hand.is_empty and not self._done:
            return True
        await self._wait(self._settings.POLL_INTERVAL.total_seconds())
        return False

    async def _keep_house(self) -> int:
        since = time.monotonic() - self._kept_house_at
        if since < self._settings.POLL_INTERVAL.total_seconds():
            return 0
        self._kept_house_at = time.monotonic()
        return await self._db(self._housekeeping)

    def _is_time_to_claim(self) -> bool:
        return self._is_more and self._hand.is_low and time.monotonic() >= self._look_at

    async def _claim(self, transport: Transport, *, only_air: bool) -> int | None:
        """Lease what there is room for, and begin to send it.

        Returns:
            How many were leased; ``None`` if it was not yet time to claim.

        """
        self._send(transport)
        if not self._is_time_to_claim():
            return None
        began = time.monotonic()
        # Before the claim: a notification may come while it runs.
        self._is_more = False
        try:
            found = await self._db(
                claim,
                min(self._hand.room, self._concurrency) if only_air else self._hand.room,
                using=self.using,
                length=self._settings.LEASE,
                each=self._settings.ENDPOINT_CONCURRENCY,
                in_air=self._hand.counts(),
                schedule=self._settings.RETRY_SCHEDULE,
                turns=self._turns,
                rate=self._settings.ENDPOINT_RATE,
                access=self._access,
            )
        except Error:
            self._is_more = True
            raise
        self._hand.take(found.leased, now=began)
        self._has_seen_all = found.is_all
        if found.is_all:
            pass
        elif found.is_spent:
            # Only of endpoints that have all they may have: until one has room again.
            self._full = found.full
            if not found.leased:
                self._look_at = time.monotonic() + _FULL_SECONDS
        elif found.leased or self._turns.visited or found.again_in is None:
            self._is_more = True
        else:
            self._is_more = True
            self._look_at = time.monotonic() + found.again_in.total_seconds()
        self._send(transport)
        return len(found.leased)

    def _send(self, transport: Transport) -> None:
        """Begin as many attempts as may be in the air."""
        while (leased := self._next()) is not None:
            flight = asyncio.create_task(self._fly(leased, transport))
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)

    def _next(self) -> Leased | None:
        return None if self._is_stopping else self._hand.next(now=time.monotonic())

    async def _fly(self, first: Leased, transport: Transport) -> None:
        """Make an attempt, and in the same task the ones that follow in its place."""
        leased: Leased | None = first
        while leased is not None:
            took = None
            try:
                took = await self._attempt(leased, transport)
            finally:
                self._hand.landed(leased, took=took)
                if leased.endpoint in self._full:
                    self._is_more, self._full = True, frozenset()
                self._changed.set()
            leased = self._next()

    async def _attempt(self, leased: Leased, transport: Transport) -> timedelta | None:
        """Make an attempt; return how long a success took."""
        self.attempts += 1
        result = await attempted(leased, transport, self._settings)
        is_taken = result.state == Delivery.State.DELIVERED
        if self._hand.hear(leased, is_taken=is_taken):
            result = replace(result, leased=leased.unwell())
        # Only now: the list is another one after each settling.
        self._done.append(result)
        return result.duration if is_taken else None

    async def _settle(self) -> int:
        """Store what came of attempts, and return how many they were."""
        late = self._hand.drop_late()
        if late:
            await self._db(hand_back, late, using=self.using, pool=self._settling)
        results, self._done = self._done, []
        if results:
            try:
                await self._db(settle, results, using=self.using, pool=self._settling)
            except Error:
                # Kept for the next turn: the receivers have these already.
                self._done = results + self._done
                raise
        if any(each.leads_on for each in results):
            self._is_more, self._look_at = True, float("-inf")
        return len(results)

    async def _something(self) -> None:
        """Wait until something happens, and a moment more for others to happen too."""
        if self._is_urgent():
            return
        seconds = self._settings.POLL_INTERVAL.total_seconds()
        if self._is_more and self._hand.is_low:
            seconds = min(seconds, max(0.0, self._look_at - time.monotonic()))
        await self._wait(seconds)
        until = time.monotonic() + (_GATHER_SECONDS if self._hand.has_more else _REST_SECONDS)
        # An event for each answer would cost more.
        while self._hand.flying and time.monotonic() < until and not self._is_urgent():  # noqa: ASYNC110
            await asyncio.sleep(_GLANCE_SECONDS)

    def _is_urgent(self) -> bool:
        return (
            self._is_stopping
            or self._is_woken
            or self._is_time_to_claim()
            or len(self._done) >= _BATCH * self._concurrency
        )

    async def _wait(self, seconds: float) -> None:
        """Wait for a change; if none comes in time, it is time to poll."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            self._is_more = True

    def _close_if_lost(self) -> None:
        # Looked up in the thread that owns it: each thread has connections of its own.
        connections[self.using].close_if_unusable_or_obsolete()

    async def _db(
        self,
        function: Callable[..., R],
        *args: Any,
        pool: ThreadPoolExecutor | None = None,
        **more: Any,
    ) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(pool or self._pool, partial(function, *args, **more))


async def _both(first: Awaitable[A], second: Awaitable[B]) -> tuple[A, B]:
    """Wait for both, also if one of them fails."""
    one, other = await asyncio.gather(first, second, return_exceptions=True)
    for each in (one, other):
        if isinstance(each, BaseException):
            raise each
    return cast("A", one), cast("B", other)
