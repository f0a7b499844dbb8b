"""One HTTP request: bounded in time and memory, and every failure a short word."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache, partial
from types import TracebackType
from typing import Protocol, Self

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from drf_webhooks.conf import Config
from drf_webhooks.delivery.connections import Connector, Trip, current
from drf_webhooks.delivery.deadlines import Deadlines
from drf_webhooks.delivery.destinations import GuardedResolver, LookUp, look_up
from drf_webhooks.delivery.errors import failure
from drf_webhooks.delivery.exchange import Exchange, Target
from drf_webhooks.delivery.failures import NO_TIMING, Failure, Timing
from drf_webhooks.delivery.proxies import Proxy, ProxyResolver
from drf_webhooks.delivery.trust import tls_context
from drf_webhooks.destination_rules import DestinationRefusedError, Rules
from drf_webhooks.endpoint_urls import parse
from drf_webhooks.models import Attempt

__all__ = ["AiohttpTransport", "Answer", "Failure", "Timing", "Transport"]

End = Attempt.End

_HEADER_CHARACTERS = 200
_HEADERS_KEPT = 40
#: What decides about the delivery is kept wherever it stands.
_HEADERS_OBEYED = frozenset({"retry-after", "webhook-delivery"})
#: ``getaddrinfo()`` takes a thread each, and a name server that is silent keeps it for long.
_LOOK_UP_THREADS = 64
_PROXY_AUTH = 407
#: Shorter than most name servers let their answers be kept. A name that leads elsewhere now is
#: followed after this time at the latest, however busy its connections are.
ANSWER_LASTS = timedelta(seconds=60)


@dataclass(slots=True)
class Answer:
    """What a receiver answered, cut to what is kept.

    ``end`` is ``CUT`` if there was more of the body than is kept, and ``BROKEN`` if the body
    stopped too early, or did not end in time; then ``detail`` says how.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    end: End = End.WHOLE
    detail: str = ""
    timing: Timing = NO_TIMING
    #: Whether the address that answered is on the public internet; ``None`` behind a proxy.
    is_public: bool | None = None

    def header(self, name: str) -> str | None:
        """Return a header's first value; the name in lower case."""
        for key, value in self.headers:
            if key.lower() == name:
                return value
        return None


class Transport(Protocol):
    """What sends a request."""

    async def send(
        self, url: str, *, method: str, headers: Mapping[str, str], body: bytes
    ) -> Answer | Failure:
        """Send a request; never raises for what the other side does."""
        ...


class AiohttpTransport:
    """aiohttp: one client for the process, which keeps connections open.

    No redirects, no proxies or credentials or authorities from the environment, no
    decompression. A whole request ends within ``REQUEST_TIMEOUT``, and not much more than
    ``RESPONSE_LOG_BYTES`` of an answer are read.

    A request that crosses with the end of an idle connection is sent once more, on a new one.

    Args:
        settings: The settings.
        ask: What looks names up, in place of the system's resolver.
        answer_lasts: A connection is used for so long after the look-up that it came from.

    """

    def __init__(
        self,
        settings: Config,
        *,
        ask: LookUp | None = None,
        answer_lasts: timedelta = ANSWER_LASTS,
    ) -> None:
        self._settings = settings
        self._rules = Rules.of(settings)
        self._ask = ask
        self._answer_lasts = answer_lasts
        self._deadline = Deadlines(settings.REQUEST_TIMEOUT.total_seconds())
        self._proxy = None if settings.PROXY is None else Proxy.parse(settings.PROXY)
        self._connector: Connector | None = None
        self._connector_again: Connector | None = None
        self._threads: ThreadPoolExecutor | None = None
        # What is wrong with a literal is always wrong: a pure function of the URL.
        self._target = lru_cache(maxsize=1024)(self._checked)

    async def __aenter__(self) -> Self:
        ask = self._ask
        if ask is None:
            self._threads = ThreadPoolExecutor(_LOOK_UP_THREADS, "drf_webhooks_dns")
            named = {*self._rules.allowed_hosts}
            if self._proxy is not None:
                named.add(self._proxy.host)
            ask = partial(look_up, threads=self._threads, as_written=named)
        resolver: AbstractResolver
        if self._proxy is None:
            resolver = GuardedResolver(self._rules, ask)
        else:
            resolver = ProxyResolver(self._proxy, ask)
        self._connector = self._made(resolver, keeps=True)
        self._connector_again = self._made(resolver, keeps=False)
        return self

    def _made(self, resolver: AbstractResolver, *, keeps: bool) -> Connector:
        return Connector(
            resolver,
            connect_timeout=self._settings.CONNECT_TIMEOUT,
            keeps=keeps,
            answer_lasts=self._answer_lasts,
            ssl=tls_context(self._settings.CA_BUNDLE),
        )

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A process that ends may cancel this: each is closed whatever comes of the one before.
        async with AsyncExitStack() as closing:
            for connector in (self._connector_again, self._connector):
                if connector is not None:
                    closing.push_async_callback(connector.close)
            if self._threads is not None:
                self._threads.shutdown(wait=False, cancel_futures=True)

    async def send(
        self, url: str, *, method: str, headers: Mapping[str, str], body: bytes
    ) -> Answer | Failure:
        """Send a request; never raises for what the other side does."""
        if self._connector is None:
            msg = "The transport is not open. Use it in `async with`."
            raise RuntimeError(msg)
        trip = Trip(asyncio.get_running_loop().time())
        exchange = Exchange(trip, keep=self._settings.RESPONSE_LOG_BYTES)
        token = current.set(trip)
        detail = ""
        try:
            with self._deadline():
                await self._run(exchange, trip, self._target(url), method, headers, body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            failed = failure(error, trip, self._proxy)
            if exchange.message is None:
                return failed
            # The status has come, and it decides.
            detail = f"The body broke off after {len(exchange.body)} bytes. {failed.detail}"
        finally:
            trip.is_over = True
            current.reset(token)
            exchange.close()
        message = exchange.message
        assert message is not None  # noqa: S101  # else an exception came
        if self._proxy is not None and message.code == _PROXY_AUTH:
            return Failure("proxy_auth", "The proxy answered 407.", trip.timing())
        return Answer(
            message.code,
            _headers(message.headers),
            bytes(exchange.body),
            exchange.end,
            detail,
            trip.timing(),
            None if self._proxy is not None else trip.is_public,
        )

    async def _run(
        self,
        exchange: Exchange,
        trip: Trip,
        target: Target,
        method: str,
        headers: Mapping[str, str],
        body: bytes,
    ) -> None:
        """Send a request, and once more if it crossed with the end of an idle connection."""
        assert self._connector is not None  # noqa: S101  # send() has looked
        assert self._connector_again is not None  # noqa: S101  # made together
        length = len(body)
        try:
            head = target.head(method, headers, length=length)
            await exchange.run(self._connector, target.way, head, body)
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            if not trip.may_go_again(asyncio.get_running_loop().time()):
                raise
            trip.is_again = True
            head = target.head(method, {**headers, "Connection": "close"}, length=length)
            await exchange.run(self._connector_again, target.way, head, body)

    def _checked(self, url: str) -> Target:
        """Read a URL, and refuse a host, a port or an address that may not be reached.

        Raises:
            DestinationRefusedError: it is refused.
            ValueError: it is no URL.

        """
        read = parse(url)
        self._rules.check(read)
        known = URL(read.text)
        if (known.scheme, known.raw_host, known.port) != (
            read.scheme,
            read.host,
            read.port,
        ):  # pragma: no cover  # no such URL is known; what was checked is connected to, or nothing
            msg = f"{read.host} is read as {known.raw_host}"
            raise DestinationRefusedError(msg)
        loop = asyncio.get_running_loop()
        if self._proxy is not None:
            return self._proxy.target(known, loop=loop)
        return Target(known, aiohttp.ClientRequest("POST", known, loop=loop))


def _headers(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    pairs = [*headers.items()]
    rest = pairs[_HEADERS_KEPT:]
    pairs[_HEADERS_KEPT:] = [pair for pair in rest if pair[0].lower() in _HEADERS_OBEYED]
    return tuple((_legible(key), _legible(value)) for key, value in pairs)


def _legible(text: str) -> str:
    """Return a header's text, cut, in what a database can hold."""
    text = text[:_HEADER_CHARACTERS]
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        # Bytes that are no UTF-8 came as surrogates. HTTP's old habit is Latin-1.
        return text.encode(errors="surrogateescape").decode("latin-1")
    return text
