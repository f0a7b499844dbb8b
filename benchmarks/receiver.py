"""A receiver that is not the bottleneck: a bare asyncio protocol, in a process of its own.

``/anything`` is answered at once, ``/wait/100/anything`` after 100 ms, ``/never/anything`` never.
"""

import asyncio
import multiprocessing
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["Arrivals", "Receiver", "running"]

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"


@dataclass(frozen=True)
class Arrivals:
    """What came since the last :meth:`Receiver.forget`, in the order of arrival.

    Moments are of ``time.monotonic()``, which all processes of a machine share.
    """

    at: list[float]
    paths: list[str]
    ids: list[str]

    @property
    def rate(self) -> float:
        """How many came in a second, from the first to the last."""
        return (len(self.at) - 1) / (self.at[-1] - self.at[0])


class Receiver:
    """The near end of a receiver in another process."""

    def __init__(self, pipe: Connection, port: int) -> None:
        self._pipe = pipe
        self.port = port

    def url(self, path: str = "/") -> str:
        """Return a URL of it."""
        return f"http://127.0.0.1:{self.port}{path}"

    def _ask(self, what: str) -> Any:
        self._pipe.send(what)
        return self._pipe.recv()

    def forget(self) -> None:
        """Begin anew."""
        self._ask("forget")

    def count(self) -> int:
        """Return how many requests have come."""
        return int(self._ask("count"))

    def arrivals(self) -> Arrivals:
        """Return what has come."""
        return Arrivals(*self._ask("arrivals"))

    def wait_for(
        self, count: int, *, seconds: float = 600, meanwhile: Callable[[], Any] = bool
    ) -> None:
        """Wait until as many have come, and do something meanwhile, again and again.

        Raises:
            TimeoutError: they did not.

        """
        until = time.monotonic() + seconds
        while self.count() < count:
            if time.monotonic() > until:
                msg = f"{self.count()} of {count} requests came in {seconds} s"
                raise TimeoutError(msg)
            meanwhile()
            time.sleep(0.05)


@contextmanager
def running() -> Iterator[Receiver]:
    """Start a receiver, and end it with the block."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = multiprocessing.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield Receiver(ours, ours.recv())
    finally:
        process.terminate()
        process.join(10)


class _Log:
    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.at = array("d")
        self.paths: list[str] = []
        self.ids: list[str] = []


def _serve(pipe: Connection) -> None:
    asyncio.run(_main(pipe))


async def _main(pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    log = _Log()
    server = await loop.create_server(lambda: _Protocol(log), "127.0.0.1", 0, backlog=1000)

    def asked() -> None:
        try:
            what = pipe.recv()
        except EOFError:
            # Whoever started it is gone.
            loop.remove_reader(pipe.fileno())
            server.close()
            return
        if what == "forget":
            log.forget()
            pipe.send(None)
        elif what == "count":
            pipe.send(len(log.at))
        else:
            pipe.send((log.at.tolist(), log.paths, log.ids))

    loop.add_reader(pipe.fileno(), asked)
    pipe.send(server.sockets[0].getsockname()[1])
    with suppress(asyncio.CancelledError):
        await server.serve_forever()


class _Protocol(asyncio.Protocol):
    def __init__(self, log: _Log) -> None:
        self._log = log
        self._buffer = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._buffer[:end].lower() + b"\r\n"
            whole = end + 4 + int(_header(head, b"content-length") or 0)
            if len(self._buffer) < whole:
                return
            self._buffer = self._buffer[whole:]
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        path = head.split(b" ", 2)[1].decode()
        self._log.at.append(time.monotonic())
        self._log.paths.append(path)
        self._log.ids.append(_header(head, b"webhook-id").decode())
        if path.startswith("/never"):
            return
        if path.startswith("/wait/"):
            seconds = int(path.split("/")[2]) / 1000
            asyncio.get_running_loop().call_later(seconds, self._transport.write, _ANSWER)
        else:
            self._transport.write(_ANSWER)


def _header(head: bytes, name: bytes) -> bytes:
    start = head.find(b"\r\n" + name + b":")
    if start < 0:
        return b""
    start += len(name) + 3
    return head[start : head.find(b"\r\n", start)].strip()
