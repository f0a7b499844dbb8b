"""What the worker is compared with: aiohttp that posts the same bytes, and does nothing else."""

import asyncio
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from multiprocessing.connection import Connection

import aiohttp

from benchmarks.processes import busy
from drf_webhooks.delivery.loops import loop_factory

__all__ = ["Bare", "running"]

_HEADERS = {
    "content-type": "application/json",
    "accept-encoding": "identity",
    "user-agent": "drf-webhooks/0",
    "webhook-id": f"evt_{'0' * 32}",
    "webhook-timestamp": "1700000000",
    "webhook-signature": f"v1,{'0' * 44}",
}


class Bare:
    """The near end of a bare client in another process."""

    def __init__(self, pipe: Connection, pid: int) -> None:
        self._pipe = pipe
        self.pid = pid

    def post(self, urls: list[str], body: bytes, *, count: int, concurrency: int) -> float:
        """Post a body to some URLs in turn; return the CPU time of one request, in seconds."""
        before = busy(self.pid)
        self._pipe.send((urls, body, count, concurrency))
        self._pipe.recv()
        return (busy(self.pid) - before) / count


@contextmanager
def running(*, is_quick: bool = False) -> Iterator[Bare]:
    """Start a client, and end it with the block.

    Args:
        is_quick: With the worker's event loop, which is uvloop if that is installed.

    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = multiprocessing.Pipe()
    process = context.Process(target=_serve, args=(theirs, is_quick), daemon=True)
    process.start()
    assert process.pid is not None
    try:
        yield Bare(ours, process.pid)
    finally:
        process.terminate()
        process.join(10)


def _serve(pipe: Connection, is_quick: bool) -> None:
    with asyncio.Runner(loop_factory=loop_factory() if is_quick else None) as runner:
        runner.run(_main(pipe))


def _received(pipe: Connection) -> "tuple[list[str], bytes, int, int] | None":
    try:
        found: tuple[list[str], bytes, int, int] = pipe.recv()
    except EOFError:
        return None
    return found


async def _main(pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    asked: asyncio.Queue[tuple[list[str], bytes, int, int] | None] = asyncio.Queue()
    # It ends with who started it, at the latest.
    loop.add_reader(pipe.fileno(), lambda: asked.put_nowait(_received(pipe)))
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
    ) as client:
        while (given := await asked.get()) is not None:
            urls, body, count, concurrency = given
            turns = iter(range(count))
            targets = cycle(urls)

            async def post_some(
                turns: Iterator[int] = turns, targets: Iterator[str] = targets, body: bytes = body
            ) -> None:
                for _ in turns:
                    async with client.post(next(targets), data=body, headers=_HEADERS) as response:
                        await response.read()

            await asyncio.gather(*(post_some() for _ in range(concurrency)))
            pipe.send(None)
