"""The egress proxy: who it is, what it alone is told, and that nothing else is connected to."""

import base64
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from drf_webhooks.delivery.destinations import LookUp, addresses
from drf_webhooks.delivery.exchange import Target
from drf_webhooks.destination_rules import DestinationRefusedError

__all__ = ["Proxy", "ProxyResolver"]


@dataclass(frozen=True)
class Proxy:
    """Where a proxy is, and what it is told of who we are."""

    url: URL
    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a setting. The URL is one without credentials, as it may come into messages."""
        url = URL(text)
        authorization = None
        if url.user is not None:
            pair = f"{url.user}:{url.password or ''}".encode()
            authorization = f"Basic {base64.b64encode(pair).decode()}"
        bare = url.with_user(None)
        return cls(bare, bare.raw_host or "", bare.port or 0, authorization)

    def target(self, url: URL, **more: Any) -> Target:
        """Return the way to a receiver through it, where nobody else hears the credentials."""
        own = {} if self.authorization is None else {"Proxy-Authorization": self.authorization}
        if url.scheme != "https":
            way = aiohttp.ClientRequest("POST", url, proxy=self.url, **more)
            return Target(url, way, for_proxy=own)
        # aiohttp adds the host to what it is given, and finds connections by that.
        for_tunnel = {"Host": url.host_port_subcomponent or "", **own}
        way = aiohttp.ClientRequest("POST", url, proxy=self.url, proxy_headers=for_tunnel, **more)
        return Target(url, way)


class ProxyResolver(AbstractResolver):
    """Looks up the proxy, wherever it is, and nothing else: receivers are looked up by it."""

    def __init__(self, proxy: Proxy, ask: LookUp) -> None:
        self._proxy = proxy
        self._ask = ask

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        del family
        if (host, port) != (self._proxy.host, self._proxy.port):
            msg = f"{host}:{port} is not the proxy"
            raise DestinationRefusedError(msg)
        return addresses(host, port, await self._ask(host, port))

    async def close(self) -> None:
        """Nothing is kept open."""
