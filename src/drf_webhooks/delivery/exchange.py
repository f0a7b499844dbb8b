"""One exchange on a connection: write a request, read its answer, give the connection back.

aiohttp makes connections, keeps them, and parses answers. Its session is left out: it prepares
each request anew, which is most of what a request costs, and those of a webhook are all alike.
Leans on the protocol of a connection, as :mod:`drf_webhooks.delivery.connections` does.
"""

from collections.abc import Mapping

import aiohttp
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader
from yarl import URL

from drf_webhooks.delivery.connections import HEAD_BYTES, Connector, Trip
from drf_webhooks.models import Attempt

__all__ = ["Exchange", "InvalidAnswerError", "Target"]

End = Attempt.End

#: The deadline around an exchange is ours, and exact; aiohttp's round up to whole seconds.
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)
_SWITCHING_PROTOCOLS = 101
_FINAL = 200
#: So much of a body is read without being kept: to open a connection anew costs more.
_SKIPPED_BYTES = 64 * 1024
#: For the sizes of chunks, where they are of any size that makes sense.
_FRAMING_BYTES = 4096
#: A larger body is not copied to leave together with the head.
_JOINED_BYTES = 64 * 1024


class InvalidAnswerError(aiohttp.ClientError):
    """An answer that is no HTTP; says why."""


class Target:
    """Where requests go, which is the same for many.

    Args:
        url: Checked.
        way: What aiohttp finds a connection by; nothing else of it is used.
        for_proxy: Headers for a proxy that passes requests on. They name the whole URL then
            (RFC 9112, section 3.2.2). ``None`` if there is none, or it is a tunnel.

    """

    __slots__ = ("_lines", "_start", "way")

    def __init__(
        self, url: URL, way: aiohttp.ClientRequest, *, for_proxy: Mapping[str, str] | None = None
    ) -> None:
        self.way = way
        form = url.raw_path_qs if for_proxy is None else str(url)
        own = {"Host": url.host_port_subcomponent, **(for_proxy or {})}
        self._start = f"{form} HTTP/1.1{_fields(own)}"
        #: Of a head without further headers, with the empty one.
        self._lines = len(own) + 3

    def head(self, method: str, headers: Mapping[str, str], *, length: int) -> bytes:
        """Return a request's head (RFC 9112, section 3).

        Args:
            method: The method.
            headers: Without ``Host`` and ``Content-Length``.
            length: Of the body, in bytes.

        Raises:
            ValueError: something in it would end a line.

        """
        text = f"{method} {self._start}{_fields(headers)}\r\nContent-Length: {length}\r\n\r\n"
        lines = self._lines + len(headers)
        if text.count("\r") != lines or text.count("\n") != lines or "\0" in text:
            wrong = [name for name, value in headers.items() if _ends_line(name + value)]
            msg = f"There is a line break or a NUL in {', '.join(map(repr, wrong)) or 'the URL'}."
            raise ValueError(msg)
        return text.encode()


def _fields(headers: Mapping[str, object]) -> str:
    return "".join([f"\r\n{name}: {value}" for name, value in headers.items()])


def _ends_line(text: str) -> bool:
    return any(each in text for each in "\r\n\0")


class Exchange:
    """A request and its answer, on one connection.

    Args:
        trip: Notes how far it gets.
        keep: So many bytes of an answer's body are kept.

    """

    __slots__ = ("_connection", "_is_through", "_keep", "_trip", "body", "end", "message")

    def __init__(self, trip: Trip, *, keep: int) -> None:
        trip.body_room = keep + _SKIPPED_BYTES + _FRAMING_BYTES
        self._trip = trip
        self._keep = keep
        self._connection: Connection | None = None
        #: Whether the answer was read to its end.
        self._is_through = False
        #: The head of the answer, as soon as it is here.
        self.message: RawResponseMessage | None = None
        self.body = bytearray()
        self.end = End.BROKEN

    async def run(
        self, connector: Connector, way: aiohttp.ClientRequest, head: bytes, body: bytes
    ) -> None:
        """Send a request and read the answer; run :meth:`close` afterwards, whatever came of it.

        Raises:
            aiohttp.ClientError: there was no answer, or it broke off.
            OSError: likewise.

        """
        self.close()
        connection = self._connection = await connector.connect(way, [], _NO_TIMEOUT)
        protocol, transport = connection.protocol, connection.transport
        assert protocol is not None  # noqa: S101  # it has just been opened
        assert transport is not None  # noqa: S101  # likewise
        protocol.set_response_params(
            read_until_eof=True,
            auto_decompress=False,
            max_line_size=HEAD_BYTES,
            max_field_size=HEAD_BYTES,
        )
        if len(body) <= _JOINED_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)
        while True:
            try:
                message, payload = await protocol.read()
            except HttpProcessingError as error:
                raise InvalidAnswerError(error.message) from error
            # Others are interim (RFC 9110, section 15.2).
            if message.code >= _FINAL or message.code == _SWITCHING_PROTOCOLS:
                break
        self.message = message
        self.end = await self._read(payload)

    async def _read(self, payload: StreamReader) -> End:
        """Read a body as far as it is kept, and to its end if that is near."""
        skipped = 0
        while not payload.at_eof():
            chunk = await payload.readany()
            room = self._keep - len(self.body)
            self.body += chunk[:room]
            skipped += max(len(chunk) - room, 0)
            if skipped > _SKIPPED_BYTES:
                return End.CUT
        self._is_through = not self._trip.is_full
        return End.CUT if skipped or self._trip.is_full else End.WHOLE

    def close(self) -> None:
        """Give the connection back if another request can follow on it, or else cut it."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        transport = connection.transport
        # What the receiver has answered without reading it would go on to be written.
        if self._is_through and transport is not None and not transport.get_write_buffer_size():
            connection.release()
        else:
            self._trip.cut()
            connection.close()
