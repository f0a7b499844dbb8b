"""One HTTP request: bounded in time and memory, and every failure a short word."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import aiohttp
from yarl import URL

from drf_webhooks.conf import Config
from drf_webhooks.delivery.destinations import (
    DestinationRefusedError,
    GuardedResolver,
    LookUp,
    check_literal,
    look_up,
)

__all__ = ["AiohttpTransport", "Answer", "Failure", "Transport"]

_HEADER_CHARACTERS = 200
_HEADERS_KEPT = 40


@dataclass(frozen=True)
class Answer:
    """What a receiver answered, cut to what is kept."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return a header's first value; the name in lower case."""
        return next((value for key, value in self.headers if key.lower() == name), None)


@dataclass(frozen=True)
class Failure:
    """Why there is no answer: a class that a person understands, and the details."""

    error: str
    detail: str


class Transport(Protocol):
    """What sends a request."""

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Answer | Failure:
        """Send a request; never raises for what the other side does."""
        ...


class AiohttpTransport:
    """aiohttp: one client for the process, which keeps connections open.

    No redirects, no proxies from the environment, no decompression. A whole request ends
    within ``REQUEST_TIMEOUT``, and at most ``RESPONSE_LOG_BYTES`` of an answer are read.
    """

    def __init__(self, settings: Config, *, ask: LookUp = look_up) -> None:
        self._settings = settings
        self._ask = ask
        self._client: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        settings = self._settings
        connector = aiohttp.TCPConnector(
            resolver=GuardedResolver(allowed=settings.ALLOWED_NETWORKS, ask=self._ask),
            limit=0,
            # The look-up is checked, and so is not to be remembered.
            use_dns_cache=False,
        )
        self._client = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(
                total=settings.REQUEST_TIMEOUT.total_seconds(),
                connect=settings.CONNECT_TIMEOUT.total_seconds(),
            ),
            auto_decompress=False,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("accept", "accept-encoding", "user-agent"),
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._client is not None:
            await self._client.close()

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Answer | Failure:
        """Send a request; never raises for what the other side does."""
        if self._client is None:
            msg = "The transport is not open. Use it in `async with`."
            raise RuntimeError(msg)
        try:
            target = URL(url)
            check_literal(
                target.host or "", target.port or 0, allowed=self._settings.ALLOWED_NETWORKS
            )
            async with self._client.post(
                target, data=body, headers=headers, allow_redirects=False
            ) as response:
                return await self._read(response)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return _failure(error)

    async def _read(self, response: aiohttp.ClientResponse) -> Answer:
        limit = self._settings.RESPONSE_LOG_BYTES
        kept = b""
        try:
            while len(kept) < limit:
                chunk = await response.content.read(limit - len(kept))
                if not chunk:
                    break
                kept += chunk
        except (aiohttp.ClientError, TimeoutError, OSError):
            # The status has come, and it decides.
            response.close()
        if not response.content.at_eof():
            # The rest is not wanted, and so neither is the connection.
            response.close()
        headers = tuple(
            (key[:_HEADER_CHARACTERS], value[:_HEADER_CHARACTERS])
            for key, value in list(response.headers.items())[:_HEADERS_KEPT]
        )
        return Answer(response.status, headers, kept)


def _failure(error: BaseException) -> Failure:
    return Failure(_error_class(error), f"{type(error).__name__}: {error}"[:500])


def _error_class(error: BaseException) -> str:  # a table, one line each
    chain: list[BaseException] = []
    inner: BaseException | None = error
    while inner is not None and inner not in chain:
        chain.append(inner)
        inner = getattr(inner, "os_error", None) or inner.__cause__ or inner.__context__
    if any(isinstance(each, DestinationRefusedError) for each in chain):
        return "destination_refused"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "timeout_connect"
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return "timeout_total"
    expired = [each for each in chain if isinstance(each, ssl.SSLCertVerificationError)]
    if expired:
        return "tls_expired" if "expired" in str(expired[0]) else "tls_certificate"
    if any(isinstance(each, ssl.SSLError) for each in chain):
        return "tls_error"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "dns_error"
    if any(isinstance(each, ConnectionRefusedError) for each in chain):
        return "connection_refused"
    if isinstance(error, aiohttp.ServerDisconnectedError) or any(
        isinstance(each, ConnectionResetError | BrokenPipeError) for each in chain
    ):
        return "connection_reset"
    if isinstance(error, aiohttp.InvalidURL | ValueError):
        return "invalid_url"
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.ClientPayloadError):
        return "invalid_response"
    return "connection_error"
