"""The worker: lease what is due, send many at once, settle in batches, stop cleanly."""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import ParamSpec, TypeVar

from django.db import Error, connections

from drf_webhooks.conf import Config, config
from drf_webhooks.delivery.leases import Leased, hand_back, lease
from drf_webhooks.delivery.results import Result, settle
from drf_webhooks.delivery.sender import attempt, judge
from drf_webhooks.delivery.transport import AiohttpTransport, Failure, Transport
from drf_webhooks.delivery.wakeup import Listener

__all__ = ["Worker", "deliver_now"]

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger(__name__)

#: After a result, others are waited for this long, to settle them in one transaction.
_GATHER_SECONDS = 0.003
_BACK_OFF_SECONDS = (0.1, 0.5, 1, 2, 5, 10)


class Worker:
    """Delivers until it is stopped, or until nothing is due.

    Args:
        using: The database.
        housekeeping: Called at most once in each poll interval, and when the database says
            that something is due; runs in the thread that owns the connection.
        concurrency: Requests in the air at once; by default the setting.

    """

    def __init__(
        self, using: str, *, housekeeping: Callable[[], int], concurrency: int | None = None
    ) -> None:
        self.using = using
        self.attempts = 0
        self._settings: Config = config()
        self._concurrency = concurrency or self._settings.CONCURRENCY
        self._housekeeping = housekeeping
        self._kept_house_at = float("-inf")
        self._in_air: dict[asyncio.Task[None], Leased] = {}
        self._done: list[Result] = []
        self._is_stopping = False
        # One thread, and so one connection: no transaction is open while requests are.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="drf_webhooks_db")
        self._changed = asyncio.Event()
        self._is_woken = False

    def stop(self) -> None:
        """Finish what is in the air and end; called again, end at once.

        What is in the air then is sent again when its lease is over.
        """
        if self._is_stopping:
            for task in self._in_air:
                task.cancel()
        self._is_stopping = True
        self._changed.set()

    def wake(self) -> None:
        """Look for due deliveries now."""
        self._is_woken = True
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
        async with AiohttpTransport(self._settings) as transport:
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
                        await self._db(self._close_if_lost)
                        await asyncio.sleep(wait)
            finally:
                listener.close()
                await self._db(connections.close_all)
                self._pool.shutdown()

    async def _turn(self, transport: Transport, *, until_empty: bool, once: bool) -> bool:
        """Settle what is done and claim what there is room for; return whether to end."""
        self._changed.clear()
        await self._settle()
        if self._is_stopping:
            return await self._end()
        await self._keep_house()
        room = self._concurrency - len(self._in_air)
        claimed = await self._claim(room) if room else []
        if self._is_stopping:
            await self._db(hand_back, claimed, using=self.using)
            return False
        for each in claimed:
            task = asyncio.create_task(self._attempt(each, transport))
            self._in_air[task] = each
            task.add_done_callback(self._landed)
        if once:
            self._is_stopping = True
        elif until_empty and not claimed and not self._in_air and not self._done:
            return True
        else:
            # Woken by a result, by a notification, or at the latest to poll.
            await self._something(self._settings.POLL_INTERVAL.total_seconds())
        return False

    async def _end(self) -> bool:
        if not self._in_air and not self._done:
            return True
        await self._something(self._settings.POLL_INTERVAL.total_seconds())
        return False

    async def _keep_house(self) -> None:
        now = time.monotonic()
        interval = self._settings.POLL_INTERVAL.total_seconds()
        if self._is_woken or now - self._kept_house_at >= interval:
            self._is_woken = False
            self._kept_house_at = now
            await self._db(self._housekeeping)

    async def _claim(self, room: int) -> list[Leased]:
        in_air = Counter(each.endpoint for each in self._in_air.values())
        return await self._db(
            lease,
            room,
            using=self.using,
            length=self._settings.LEASE,
            each=self._settings.ENDPOINT_CONCURRENCY,
            in_air=in_air,
            attempts=len(self._settings.RETRY_SCHEDULE) + 1,
        )

    async def _settle(self) -> None:
        results, self._done = self._done, []
        try:
            await self._db(settle, results, using=self.using)
        except Error:
            # Kept for the next turn: the receivers have these already.
            self._done = results + self._done
            raise

    async def _attempt(self, leased: Leased, transport: Transport) -> None:
        self.attempts += 1
        result = await _attempted(leased, transport, self._settings)
        # Only now: the list is another one after each settling.
        self._done.append(result)

    def _landed(self, task: asyncio.Task[None]) -> None:
        del self._in_air[task]
        self._changed.set()

    async def _something(self, seconds: float) -> None:
        """Wait until something happens, and a moment more for others to happen too."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return
        if self._in_air:
            await asyncio.sleep(_GATHER_SECONDS)

    def _close_if_lost(self) -> None:
        # Looked up in the thread that owns it: each thread has connections of its own.
        connections[self.using].close_if_unusable_or_obsolete()

    async def _db(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: function(*args, **kwargs))


async def _attempted(leased: Leased, transport: Transport, settings: Config) -> Result:
    started_at = datetime.now(tz=UTC)
    try:
        return await attempt(leased, transport, settings)
    except Exception as error:
        # A defect of ours: the delivery takes its turn again, and the rest goes on.
        logger.exception("Attempt at delivery %s failed.", leased.delivery)
        failure = Failure("internal_error", f"{type(error).__name__}: {error}"[:500])
        verdict = judge(
            failure,
            attempts=leased.attempt_count + 1,
            age=leased.age,
            now=started_at,
            chance=random.random(),  # noqa: S311  # jitter
            settings=settings,
        )
        return Result(
            leased,
            started_at,
            timedelta(0),
            verdict.state,
            wait=verdict.wait,
            reason=verdict.reason,
            error=failure.error,
            detail=failure.detail,
        )


def deliver_now(using: str, *, housekeeping: Callable[[], int]) -> int:
    """Deliver what is due, with the database work in the calling thread.

    Returns:
        How many attempts there were.

    """
    settings = config()
    attempts = 0
    while True:
        housekeeping()
        leased = lease(
            settings.CONCURRENCY,
            using=using,
            length=settings.LEASE,
            each=settings.CONCURRENCY,
            in_air=Counter(),
            attempts=len(settings.RETRY_SCHEDULE) + 1,
        )
        if not leased:
            return attempts
        settle(asyncio.run(_send_all(leased, settings)), using=using)
        attempts += len(leased)


async def _send_all(leased: Sequence[Leased], settings: Config) -> list[Result]:
    async with AiohttpTransport(settings) as transport:
        return await asyncio.gather(*(_attempted(each, transport, settings) for each in leased))
