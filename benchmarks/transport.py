"""What our transport costs beside the bare client: CPU for a request, in one run, by turns.

python -m benchmarks.transport [requests] [rounds]
"""

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection

import aiohttp
import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")
django.setup()

from drf_webhooks.conf import Config  # noqa: E402  # after setup()
from drf_webhooks.delivery.transport import AiohttpTransport, Answer  # noqa: E402  # as above

IN_THE_AIR = 20
BODY = b'{"type":"core.deposit.updated","data":"' + b"x" * 1460 + b'"}'
HEADERS = {
    "content-type": "application/json",
    "accept-encoding": "identity",
    "user-agent": "drf-webhooks",
    "webhook-id": "evt_0192f3a4b5c67d8e9f0a1b2c3d4e5f60",
    "webhook-timestamp": "1732500000",
    "webhook-signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
}
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"

Post = Callable[[], Awaitable[None]]


class Receiver(asyncio.Protocol):
    """Answers once for each request, as cheaply as can be."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.missing = 0

    def data_received(self, data: bytes) -> None:
        if not self.missing:
            head = data.index(b"\r\n\r\n") + 4
            self.missing = head + len(BODY)
        self.missing -= len(data)
        if not self.missing:
            self.transport.write(ANSWER)  # type: ignore[attr-defined]  # a Transport


def serve(pipe: Connection) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Receiver, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


async def measure(post: Post, requests: int) -> tuple[float, float]:
    """Return CPU seconds and seconds for one request."""
    left = requests

    async def one_after_the_other() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await post()

    cpu, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*(one_after_the_other() for _ in range(IN_THE_AIR)))
    return (time.process_time() - cpu) / requests, (time.perf_counter() - began) / requests


async def compare(url: str, requests: int, rounds: int) -> list[tuple[float, float]]:
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(connector=connector) as bare,
        AiohttpTransport(Config(ALLOWED_NETWORKS=("127.0.0.0/8",))) as ours,
    ):

        async def by_bare() -> None:
            async with bare.post(url, data=BODY, headers=HEADERS) as response:
                assert await response.read() == b"ok"

        async def by_ours() -> None:
            answer = await ours.send(url, method="POST", headers=HEADERS, body=BODY)
            assert isinstance(answer, Answer)
            assert answer.body == b"ok"

        found = []
        for _ in range(rounds):
            bare_cpu, _seconds = await measure(by_bare, requests)
            our_cpu, _seconds = await measure(by_ours, requests)
            found.append((bare_cpu * 1e6, our_cpu * 1e6))
        return found


def main() -> None:
    requests, rounds = (*map(int, sys.argv[1:]), 3000, 7)[:2] if sys.argv[1:] else (3000, 7)
    ours, theirs = Pipe()
    receiver = Process(target=serve, args=(theirs,), daemon=True)
    receiver.start()
    url = f"http://127.0.0.1:{ours.recv()}/hook?tenant=1"
    found = asyncio.run(compare(url, requests, rounds))
    receiver.terminate()
    bare, our = (statistics.median(each[side] for each in found) for side in (0, 1))
    ratio = statistics.median(each[1] / each[0] for each in found)
    print(f"CPU for a request, µs: aiohttp {bare:.0f}, our transport {our:.0f}, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
