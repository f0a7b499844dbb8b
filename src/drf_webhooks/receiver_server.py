"""A real HTTP server on loopback that receives webhooks, and misbehaves if told to."""

import json
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

__all__ = ["Received", "WebhookReceiver"]


@dataclass(frozen=True)
class Received:
    """One request as it came in; the names of ``headers`` are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    received_at: datetime

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


@dataclass(frozen=True)
class _Answer:
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay: timedelta = timedelta(0)
    drip: timedelta | None = None
    reset: bool = False


class WebhookReceiver:
    """Records requests and answers as it is told; use it in ``with``.

    Args:
        port: By default a free one. A receiver that was down comes up again on its old port.

    """

    def __init__(self, port: int = 0) -> None:
        self.requests: list[Received] = []
        self._port = port
        self._changed = threading.Condition()
        self._answers: list[tuple[_Answer, int | None]] = [(_Answer(), None)]
        self._closing = threading.Event()
        self._server: ThreadingHTTPServer | None = None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._port

    @property
    def url(self) -> str:
        """Where to send webhooks to."""
        return f"http://127.0.0.1:{self._port}/"

    def __enter__(self) -> Self:
        self._closing.clear()
        self._server = _Server(
            ("127.0.0.1", self._port), type("Handler", (_Handler,), {"owner": self})
        )
        self._port = self._server.server_address[1]
        # The poll interval is what leaving the block waits for.
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def respond(
        self,
        status: int = 200,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        delay: timedelta = timedelta(0),
        drip: timedelta | None = None,
        reset: bool = False,
        times: int | None = None,
    ) -> None:
        """Say how to answer from now on.

        Args:
            status: The status.
            headers: More headers.
            body: The body.
            delay: How long to wait before the answer.
            drip: How long to wait before each byte of the body.
            reset: Reset the connection instead of answering.
            times: For so many requests; then as before. ``None`` for all.

        """
        answer = _Answer(status, headers or {}, body, delay, drip, reset)
        with self._changed:
            if times is None:
                self._answers = [(answer, None)]
            else:
                self._answers.append((answer, times))

    def wait_for(self, count: int, *, timeout: timedelta = timedelta(seconds=10)) -> list[Received]:
        """Wait until so many requests have come, and return all that came.

        Raises:
            TimeoutError: fewer came in time.

        """
        with self._changed:
            arrived = self._changed.wait_for(
                lambda: len(self.requests) >= count, timeout.total_seconds()
            )
            if not arrived:
                msg = f"{len(self.requests)} requests came within {timeout}, not {count}."
                raise TimeoutError(msg)
            return list(self.requests)

    def _record(self, received: Received) -> _Answer:
        with self._changed:
            self.requests.append(received)
            self._changed.notify_all()
            answer, times = self._answers[-1]
            if times is not None:
                self._answers[-1] = (answer, times - 1)
                if times == 1:
                    self._answers.pop()
            return answer

    def _wait(self, length: timedelta) -> None:
        self._closing.wait(length.total_seconds())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing when a sender goes away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: WebhookReceiver
    # Small answers would wait for the sender's acknowledgement.
    disable_nagle_algorithm = True

    def do_POST(self) -> None:  # http.server's name
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        answer = self.owner._record(
            Received(
                method=self.command,
                path=self.path,
                headers={key.lower(): value for key, value in self.headers.items()},
                body=body,
                received_at=datetime.now(tz=UTC),
            )
        )
        self.owner._wait(answer.delay)
        if answer.reset:
            self._reset()
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(answer.body)))
        self.end_headers()
        if answer.drip is None:
            self.wfile.write(answer.body)
            return
        for byte in answer.body:
            self.owner._wait(answer.drip)
            self.wfile.write(bytes([byte]))

    do_PUT = do_PATCH = do_POST  # noqa: N815  # http.server's names

    def _reset(self) -> None:
        # Closing with a linger time of zero sends RST instead of FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # http.server's name
        """Keep the terminal quiet."""
