"""What a worker shows while it works: a line that changes on a terminal, elsewhere a log line."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Protocol

from django.db import Error, connections

from drf_webhooks import status
from drf_webhooks.management.terminal import Line, age
from drf_webhooks.status import Backlog

__all__ = ["Live"]

#: How often the line changes, and how often the database is asked.
_REDRAWN = timedelta(seconds=1)
_ASKED = timedelta(seconds=5)


class Counts(Protocol):
    """What is asked of a worker."""

    attempts: int

    @property
    def in_air(self) -> int:
        """How many requests are in the air."""
        ...


class Live:
    """Shows how fast a worker is, and what waits, until it is cancelled.

    The database is asked by a thread and a connection of its own, so that no delivery waits
    for the answer, and only shortly before something is shown.

    Args:
        worker: Whose work.
        line: Where it is shown.
        using: The database.
        clock: Seconds that only grow.
        redrawn: How often the line changes.
        asked: How often the database is asked at most.

    """

    def __init__(
        self,
        worker: Counts,
        line: Line,
        *,
        using: str,
        clock: Callable[[], float] = time.monotonic,
        redrawn: timedelta = _REDRAWN,
        asked: timedelta = _ASKED,
    ) -> None:
        self._worker = worker
        self._line = line
        self._using = using
        self._clock = clock
        self._redrawn = redrawn.total_seconds()
        self._asked = asked.total_seconds()
        self._backlog: Backlog | None = None
        self._asked_at = float("-inf")
        self._counted = (clock(), worker.attempts)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="drf_webhooks_status")

    async def run(self) -> None:
        """Show it, once a second, or as often as the line wants."""
        try:
            while True:
                await asyncio.sleep(self._redrawn)
                if self._line.is_due:
                    await self._show()
        finally:
            self._line.clear()
            self.close()

    def close(self) -> None:
        """Close the connection."""
        self._pool.submit(connections.close_all)
        self._pool.shutdown()

    async def _show(self) -> None:
        now = self._clock()
        if now - self._asked_at >= self._asked:
            self._asked_at = now
            loop = asyncio.get_running_loop()
            self._backlog = await loop.run_in_executor(self._pool, self._ask)
        since, before = self._counted
        self._counted = now, self._worker.attempts
        rate = (self._worker.attempts - before) / max(now - since, 0.001)
        parts = [f"{rate:.0f}/s", f"{self._worker.in_air} in the air"]
        if self._backlog is not None:
            parts += [f"{self._backlog.waiting} waiting", f"oldest {age(self._backlog.oldest_age)}"]
        self._line.show(", ".join(parts))

    def _ask(self) -> Backlog | None:
        try:
            return status.backlog(using=self._using)
        except Error:
            # The worker tells of it, and tries again.
            connections[self._using].close_if_unusable_or_obsolete()
            return None
