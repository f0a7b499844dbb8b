"""Deliver in shifts: for a limited time, on one event loop that a process keeps.

For engines, whose tasks come and go in a process that stays. The loop runs in a thread of its
own, and with it the HTTP client, so that connections to receivers outlive a task. Those to the
database do not: they belong to the thread of a worker, and end with it.
"""

import asyncio
import atexit
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from drf_webhooks.conf import Config, config
from drf_webhooks.delivery.transport import AiohttpTransport
from drf_webhooks.delivery.worker import Worker

__all__ = ["Shifts", "work"]

#: How long a process that ends waits for the loop.
_CLOSING_SECONDS = 2.0


@dataclass
class Client:
    """An open HTTP client, with the settings that it was made for."""

    settings: Config
    transport: AiohttpTransport
    users: int = 0

    async def close(self) -> None:
        """Close it, unless somebody uses it: then whoever is the last does so."""
        if not self.users:
            await self.transport.__aexit__(None, None, None)


class Shifts:
    """The event loop of a process, made when it is needed."""

    def __init__(self) -> None:
        self._inherited: list[Any] = []
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: Client | None = None

    def begin_anew(self) -> None:
        """Forget the parent's loop in a process that was forked, and keep its sockets open."""
        self._inherited.append((self._loop, self._client))
        self._begin()

    def work(self, using: str, *, housekeeping: Callable[[], int], limit: timedelta) -> bool:
        """Deliver until nothing is due or the time is over; return whether it was over.

        Several threads may do so at once. What is in the air when the time is over is
        finished, which takes up to ``REQUEST_TIMEOUT`` more. An exception that comes to the
        waiting thread, as a task's time limit, ends the shift in the same way.
        """
        loop = self._running_loop()
        over = asyncio.Event()

        async def shift() -> bool:
            async with self._lent() as transport:
                worker = Worker(using, housekeeping=housekeeping, transport=transport)
                bell = loop.call_later(limit.total_seconds(), over.set)
                waiting = asyncio.create_task(_stopped(worker, over))
                try:
                    await worker.run(until_empty=True)
                finally:
                    bell.cancel()
                    waiting.cancel()
                return over.is_set()

        future = asyncio.run_coroutine_threadsafe(shift(), loop)
        try:
            return future.result()
        except BaseException:
            # A loop that is closed has ended the shift already.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(over.set)
            raise

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_run, args=(self._loop,), name="drf_webhooks_shifts", daemon=True
                )
                self._thread.start()
            return self._loop

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[AiohttpTransport]:
        settings = config()
        before = client = self._client
        if client is None or client.settings != settings:
            client = Client(settings, await AiohttpTransport(settings).__aenter__())
            self._client = client
        client.users += 1
        try:
            if before is not None and before is not client:
                await before.close()
            yield client.transport
        finally:
            client.users -= 1
            if client is not self._client:
                await client.close()

    def close(self) -> None:
        """End the loop; what is in the air is sent again when its lease is over."""
        with self._lock:
            loop, self._loop = self._loop, None
            thread, self._thread = self._thread, None
            client, self._client = self._client, None
        if loop is not None and thread is not None:
            if client is not None and not client.users:
                closing = asyncio.run_coroutine_threadsafe(client.close(), loop)
                with suppress(TimeoutError):
                    closing.result(_CLOSING_SECONDS)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_CLOSING_SECONDS)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop until it is stopped, and end what runs in it."""
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(_cancel(asyncio.all_tasks(loop)))
        loop.close()


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _stopped(worker: Worker, over: asyncio.Event) -> None:
    """Stop a worker once: asked twice, it would drop what is in the air."""
    await over.wait()
    worker.stop()


_shifts = Shifts()
if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no fork
    os.register_at_fork(after_in_child=_shifts.begin_anew)
atexit.register(_shifts.close)


def work(using: str, *, housekeeping: Callable[[], int], limit: timedelta) -> bool:
    """Deliver for a limited time on this process's loop; see :meth:`Shifts.work`."""
    return _shifts.work(using, housekeeping=housekeeping, limit=limit)
