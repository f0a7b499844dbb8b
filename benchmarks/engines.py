"""How fast Celery delivers: ``python -m benchmarks.engines``, on PostgreSQL and Redis.

A Celery worker of two processes, a ``webhooks_worker`` and a bare aiohttp client that posts the
same bytes take turns, each with a receiver in another process. A rate is from the first to the
last arrival. Figures are medians of the rounds.
"""

import argparse
import asyncio
import multiprocessing
import os
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import aiohttp
import django
from django.db import connection

_BODY = b'{"type":"core.deposit.updated","data":"' + b"x" * 1459 + b'"}'
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
_ENDPOINTS = 100
_IN_AIR = 100
#: Ten times the best of the packages that deliver by Celery, on a machine like this.
_TARGET = 1020


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="Turns of each side.")
    parser.add_argument("--waiting", type=int, default=10_000, help="Deliveries in each turn.")
    options = parser.parse_args()
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.engines_settings"
    os.environ["BENCH_DB"] = f"drf_webhooks_bench_{secrets.token_hex(4)}"
    os.environ["BENCH_ENGINE"] = "postgresql"
    django.setup()
    with _database(), _receiver() as (port, receiver):
        urls = [f"http://127.0.0.1:{port}/{number}" for number in range(_ENDPOINTS)]
        _subscribe(urls)
        sides: dict[str, Callable[[], Any]] = {
            "bare aiohttp client": partial(_bare, urls, options.waiting),
            "webhooks_worker": _webhooks_worker,
            "Celery, 2 processes": _celery,
        }
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(options.rounds):
            for name, side in sides.items():
                if side is not sides["bare aiohttp client"]:
                    _fill(options.waiting)
                rates[name].append(_rate(receiver, options.waiting, side))
                print(f"  {name}: {rates[name][-1]:.0f}/s", file=sys.stderr, flush=True)
    bare = statistics.median(rates["bare aiohttp client"])
    print(f"{'side':24} {'deliveries/s':>13} {'of bare':>8} {'target':>7}")
    for name, found in rates.items():
        rate = statistics.median(found)
        target = f"{_TARGET:>7}" if name.startswith("Celery") else ""
        print(f"{name:24} {rate:13.0f} {rate / bare:8.2f} {target}")


def _rate(receiver: Connection, count: int, side: Callable[[], Any]) -> float:
    receiver.send(count)
    with side():
        if not receiver.poll(600):
            raise TimeoutError
        rate: float = receiver.recv()
    return rate


@contextmanager
def _bare(urls: list[str], count: int) -> Iterator[None]:
    process = multiprocessing.get_context("spawn").Process(target=_post, args=(urls, count))
    process.start()
    yield
    process.join()


def _post(urls: list[str], count: int) -> None:
    async def post() -> None:
        turns = iter(range(count))
        headers = {"content-type": "application/json"}

        async def some(client: aiohttp.ClientSession) -> None:
            for turn in turns:
                url = urls[turn % len(urls)]
                async with client.post(url, data=_BODY, headers=headers) as answer:
                    await answer.read()

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
            await asyncio.gather(*(some(client) for _ in range(_IN_AIR)))

    asyncio.run(post())


@contextmanager
def _process(*command: str) -> Iterator[None]:
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        stdout=subprocess.DEVNULL,
        stderr=None if "BENCH_LOG" in os.environ else subprocess.DEVNULL,
    ) as process:
        yield
        process.terminate()


@contextmanager
def _webhooks_worker() -> Iterator[None]:
    with _process("django", "webhooks_worker"):
        yield
        _wait_until_settled()


@contextmanager
def _celery() -> Iterator[None]:
    from benchmarks.engines_app import app  # noqa: PLC0415  # models exist only after setup()

    # A wake-up for each process, as two commits make them.
    for _ in range(2):
        app.send_task("drf_webhooks.deliver", ("default",), ignore_result=True)
    options = ("--concurrency", "2", "--without-gossip", "--without-mingle")
    with _process("celery", "-A", "benchmarks.engines_app", "worker", *options):
        yield
        _wait_until_settled()


def _wait_until_settled() -> None:
    from drf_webhooks.models import Delivery  # noqa: PLC0415  # as above

    while Delivery.objects.filter(state="waiting").exists():
        time.sleep(0.05)


@contextmanager
def _database() -> Iterator[None]:
    from django.core.management import call_command  # noqa: PLC0415  # as above

    name = connection.ops.quote_name(os.environ["BENCH_DB"])
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    try:
        call_command("migrate", verbosity=0)
        yield
    finally:
        connection.close()
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _subscribe(urls: list[str]) -> None:
    from drf_webhooks.models import Endpoint  # noqa: PLC0415  # as above

    for url in urls:
        Endpoint.objects.create(url=url, event_types=["core.deposit.*"])


def _fill(count: int) -> None:
    """Write deliveries that wait, one event each."""
    from django.utils import timezone  # noqa: PLC0415  # as above

    from drf_webhooks.models import Delivery, Endpoint, Event  # noqa: PLC0415  # as above

    now = timezone.now()
    endpoints = list(Endpoint.objects.all())
    events = Event.objects.bulk_create(
        [
            Event(
                type="core.deposit.updated",
                resource="core.deposit",
                object_key=str(number),
                sequence=1,
                body=_BODY,
                created_at=now,
            )
            for number in range(count)
        ],
        batch_size=1000,
    )
    Delivery.objects.bulk_create(
        [
            Delivery(
                event=event,
                endpoint=endpoints[number % len(endpoints)],
                due_at=now,
                created_at=now,
            )
            for number, event in enumerate(events)
        ],
        batch_size=1000,
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


@contextmanager
def _receiver() -> Iterator[tuple[int, Connection]]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(theirs,), daemon=True
    )
    process.start()
    try:
        yield ours.recv(), ours
    finally:
        process.terminate()
        process.join(10)


class _Receiving(asyncio.Protocol):
    """Answers each request at once; knows no more of HTTP than that takes."""

    def __init__(self, arrived: Callable[[], None]) -> None:
        self._arrived = arrived
        self._input = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._input += data
        while (end := self._input.find(b"\r\n\r\n")) >= 0:
            head = self._input[:end].lower()
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            if len(self._input) < end + 4 + length:
                return
            self._input = self._input[end + 4 + length :]
            self._transport.write(_ANSWER)
            self._arrived()


def _serve(pipe: Connection) -> None:
    """Receive as many requests as asked for, and answer at which rate they came."""

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        wanted = 0
        moments: list[float] = []

        def arrived() -> None:
            moments.append(time.perf_counter())
            if len(moments) == wanted:
                pipe.send((wanted - 1) / (moments[-1] - moments[0]))

        def begin() -> None:
            nonlocal wanted
            try:
                wanted = pipe.recv()
            except EOFError:
                loop.stop()
            moments.clear()

        server = await loop.create_server(lambda: _Receiving(arrived), "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        loop.add_reader(pipe.fileno(), begin)
        await server.serve_forever()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
