"""aiohttp's connections, watched: how far a request got, and whether it may be sent once more.

Leans on what aiohttp does not document: ``_factory``, which makes the protocol of a connection,
and the protocol's class. The tests of connections say so if a new aiohttp differs.
"""

import asyncio
import enum
import errno
import ipaddress
import os
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

from drf_webhooks.addresses import Address, is_public
from drf_webhooks.delivery.failures import Timing
from drf_webhooks.destination_rules import DestinationRefusedError

__all__ = ["HEAD_BYTES", "Connector", "HeaderTooLargeError", "Phase", "Trip", "current"]

#: More than any receiver needs, for all of an answer that comes before its body.
HEAD_BYTES = 64 * 1024
_END_OF_HEAD = b"\r\n\r\n"
#: A receiver closes an idle connection and we use it, at the same moment: then the end of the
#: connection is here after one round trip. Later ends are those of a receiver that has read the
#: request, and may have acted on it.
_CROSSED_SECONDS = 1.0


class HeaderTooLargeError(aiohttp.ClientError):
    """An answer that has no end of its headers within the limit."""


class Phase(enum.Enum):
    """What a request waits for."""

    LOOK_UP = enum.auto()
    CONNECT = enum.auto()
    HANDSHAKE = enum.auto()
    ANSWER = enum.auto()


@dataclass(frozen=True, slots=True)
class Found:
    """What a look-up gave, and when; of a host that is an address, that address."""

    name: tuple[str, int]
    addresses: frozenset[Address]
    at: float


@dataclass(slots=True)
class Trip:
    """How far one request got. Its moments are those of the event loop's clock, in seconds."""

    began: float
    phase: Phase = Phase.ANSWER
    is_over: bool = False
    is_new: bool = False
    is_again: bool = False
    is_looked_up: bool = False
    head_bytes: int = 0
    has_head: bool = False
    #: So many bytes of a body are taken yet, with what is written around its chunks.
    body_room: int = 0
    #: Whether there were more.
    is_full: bool = False
    connecting_at: float | None = None
    found: Found | None = None
    ready_at: float | None = None
    first_byte_at: float | None = None
    transport: asyncio.Transport | None = None
    #: Whether the address that it came to is on the public internet.
    is_public: bool | None = None

    def cut(self) -> None:
        """End the connection at once. To close it would wait for a receiver that reads nothing."""
        assert self.transport is not None  # noqa: S101  # whoever cuts one has one
        self.transport.abort()

    def may_go_again(self, now: float) -> bool:
        """Tell whether the request crossed with the end of a connection that was idle.

        So it was used before, nothing at all came on it in answer, and its end was here at
        once. All else may have reached the receiver, and is not repeated within an attempt.
        """
        return (
            not self.is_new
            and not self.is_again
            and self.first_byte_at is None
            and now - self.began < _CROSSED_SECONDS
        )

    def timing(self) -> Timing:
        """Return how long the parts took, as far as they came to an end."""
        if not self.is_new:
            return Timing(None, None, _between(self.began, self.first_byte_at))
        found_at = None if self.found is None or not self.is_looked_up else self.found.at
        return Timing(
            look_up=_between(self.connecting_at, found_at),
            connect=_between(found_at or self.connecting_at, self.ready_at),
            answer=_between(self.ready_at, self.first_byte_at),
        )


def _between(start: float | None, end: float | None) -> timedelta | None:
    return None if start is None or end is None else timedelta(seconds=max(end - start, 0))


#: The trip of the request that the running task is sending.
current: ContextVar[Trip] = ContextVar("drf_webhooks_trip")


class _WatchedProtocol(ResponseHandler):
    """Counts what comes before an answer's body, and takes nothing that was not asked for."""

    trip: Trip | None = None
    #: What the connection was made by, and the address that it leads to.
    found: Found | None = None
    peer: Address | None = None
    is_public: bool | None = None

    def data_received(self, data: bytes) -> None:
        trip = self.trip
        if trip is None:
            # A proxy's answer to CONNECT, before there is a request.
            super().data_received(data)
            return
        if trip.is_over:
            # Bytes between two requests would be taken for the answer to the next one.
            self.force_close()
            trip.cut()
            return
        if trip.first_byte_at is None:
            trip.first_byte_at = self._loop.time()
        start = 0
        while not trip.has_head and start < len(data):
            # Apart from its head, a body that is wrong leaves the status right.
            found = data.find(_END_OF_HEAD, start)
            end = len(data) if found < 0 else found + len(_END_OF_HEAD)
            trip.head_bytes += end - start
            super().data_received(data[start:end])
            start = end
            if trip.head_bytes > HEAD_BYTES and not trip.has_head:
                msg = f"More than {HEAD_BYTES} bytes came before the end of the headers."
                self.set_exception(HeaderTooLargeError(msg))
                trip.cut()
                return
        if start < len(data):
            super().data_received(data[start : start + max(trip.body_room, 0)])
            trip.body_room -= len(data) - start
            if trip.body_room < 0:
                self._stop(trip)
        if self._exception is not None:
            self._break_off(self._exception)

    def _stop(self, trip: Trip) -> None:
        """Let a body end here. One of tiny chunks would be many objects for each read."""
        self.force_close()
        payload = self._payload
        if payload is not None and not payload.is_eof() and payload.exception() is None:
            trip.is_full = True
            payload.feed_eof()

    def _break_off(self, error: BaseException) -> None:
        """Tell who reads a body that no more of it can be understood; aiohttp does not."""
        payload = self._payload
        if payload is not None and not payload.is_eof() and payload.exception() is None:
            payload.set_exception(aiohttp.ClientPayloadError(getattr(error, "message", "")))

    def feed_data(self, data: Any, size: int = 0) -> None:
        # What is 1xx, save 101, comes before the answer proper.
        code = data[0].code
        if self.trip is not None and (code >= 200 or code == 101):  # noqa: PLR2004  # HTTP's
            self.trip.has_head = True
        super().feed_data(data, size)


@dataclass
class _TimedResolver(AbstractResolver):
    """Notes what a request waits for, and that a name was looked up."""

    inner: AbstractResolver

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        trip = current.get()
        trip.phase = Phase.LOOK_UP
        found = await self.inner.resolve(host, port, family)
        trip.is_looked_up = True
        trip.phase = Phase.CONNECT
        return found

    async def close(self) -> None:
        """Nothing is kept open."""


class Connector(aiohttp.TCPConnector):
    """Makes connections within a time of their own, and tells the trip of a request about it.

    A connection leads to an address that the look-up gave. It is used again only while that
    answer is young, and the latest one for the name still has the address.

    Args:
        resolver: Asked once for each new connection, and not remembered.
        connect_timeout: For the look-up, the connection, a proxy's tunnel and TLS together.
        answer_lasts: How long a connection is used after its look-up.
        keeps: Keep connections open for the next request.
        more: As aiohttp has it.

    """

    def __init__(
        self,
        resolver: AbstractResolver,
        *,
        connect_timeout: timedelta,
        answer_lasts: timedelta,
        keeps: bool = True,
        **more: Any,
    ) -> None:
        super().__init__(
            resolver=_TimedResolver(resolver),
            limit=0,
            use_dns_cache=False,
            force_close=not keeps,
            **more,
        )
        self._seconds = connect_timeout.total_seconds()
        self._lasts_seconds = answer_lasts.total_seconds()
        self._latest: dict[tuple[str, int], Found] = {}
        self._factory = self._protocol  # type: ignore[assignment]  # a partial there

    def _protocol(self) -> _WatchedProtocol:
        """Make the protocol of a connection that has just been made, before TLS."""
        protocol = _WatchedProtocol(self._loop)
        trip = current.get()
        trip.phase = Phase.HANDSHAKE
        return protocol

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Connection:  # noqa: ASYNC109  # aiohttp's
        trip = current.get()
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = cast("_WatchedProtocol", connection.protocol)
            if trip.is_new or (not protocol.should_close and self._still_leads_there(protocol)):
                break
            # It leads elsewhere by now, or what came after the last answer would be taken for
            # the answer to this request.
            connection.close()
        protocol.trip = trip
        trip.transport = connection.transport
        trip.is_public = protocol.is_public
        trip.phase = Phase.ANSWER
        return connection

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> ResponseHandler:  # noqa: ASYNC109  # aiohttp's
        trip = current.get()
        trip.is_new = True
        trip.connecting_at = self._loop.time()
        trip.phase = Phase.CONNECT
        async with asyncio.timeout(self._seconds):
            protocol = await super()._create_connection(req, traces, timeout)
        trip.ready_at = self._loop.time()
        self._identify(cast("_WatchedProtocol", protocol), trip)
        return protocol

    async def _resolve_host(self, host: str, port: int, traces: Any = None) -> list[ResolveResult]:
        found = await super()._resolve_host(host, port, traces)
        addresses = frozenset(_address(each["host"]) for each in found)
        self._note(Found((host, port), addresses, self._loop.time()))
        return found

    def _note(self, found: Found) -> None:
        """Remember an answer, for as long as connections are used that came from it."""
        current.get().found = found
        self._latest.pop(found.name, None)
        self._latest[found.name] = found
        while True:
            oldest = next(iter(self._latest.values()))
            if oldest is found or found.at - oldest.at < self._lasts_seconds:
                break
            del self._latest[oldest.name]

    def _identify(self, protocol: _WatchedProtocol, trip: Trip) -> None:
        """Make sure that a connection leads where it was to lead.

        Raises:
            DestinationRefusedError: the other end has an address that nobody has looked at.
            ConnectionResetError: there is no other end any more.

        """
        assert protocol.transport is not None  # noqa: S101  # it has just been connected
        assert trip.found is not None  # noqa: S101  # else there was nothing to connect to
        peer = protocol.transport.get_extra_info("peername")
        if peer is None:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        protocol.found = trip.found
        protocol.peer = _address(peer[0])
        protocol.is_public = is_public(protocol.peer)
        if protocol.peer not in trip.found.addresses:
            protocol.transport.abort()
            msg = f"the connection leads to {protocol.peer}, and not where it was to"
            raise DestinationRefusedError(msg)

    def _still_leads_there(self, protocol: _WatchedProtocol) -> bool:
        found = protocol.found
        assert found is not None  # noqa: S101  # set for each connection that is made
        if self._loop.time() - found.at >= self._lasts_seconds:
            return False
        latest = self._latest.get(found.name, found)
        return latest is found or protocol.peer in latest.addresses


def _address(text: str) -> Address:
    return ipaddress.ip_address(text.partition("%")[0])
