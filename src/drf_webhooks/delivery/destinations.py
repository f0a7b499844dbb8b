"""Which addresses may be connected to: the guard against requests into the own network.

The table is our own: ``ipaddress.is_global`` and its like differ between patch releases of
Python, and let loopback through in some of its wrapped forms.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from functools import partial

from aiohttp.abc import AbstractResolver, ResolveResult

__all__ = [
    "DestinationRefusedError",
    "GuardedResolver",
    "addresses",
    "check_address",
    "check_literal",
    "check_port",
    "look_up",
]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
LookUp = Callable[[str, int], Awaitable[list[str]]]

#: IANA's special-purpose registry of IPv4, with multicast and the reserved rest.
_REFUSED_4 = {
    ipaddress.IPv4Network(network): why
    for network, why in {
        "0.0.0.0/8": "this network",
        "10.0.0.0/8": "private",
        "100.64.0.0/10": "shared by carriers",
        "127.0.0.0/8": "loopback",
        "169.254.0.0/16": "link-local, cloud metadata",
        "172.16.0.0/12": "private",
        "192.0.0.0/24": "protocol assignments",
        "192.0.2.0/24": "documentation",
        "192.88.99.0/24": "6to4 relay",
        "192.168.0.0/16": "private",
        "198.18.0.0/15": "benchmarking",
        "198.51.100.0/24": "documentation",
        "203.0.113.0/24": "documentation",
        "224.0.0.0/4": "multicast",
        "240.0.0.0/4": "reserved",
    }.items()
}

#: All of IPv6 that is routed on the internet; whatever wraps an IPv4 address lies outside,
#: or is named below.
_GLOBAL_6 = ipaddress.IPv6Network("2000::/3")
_REFUSED_6 = {
    ipaddress.IPv6Network(network): why
    for network, why in {
        "2001::/23": "protocol assignments, Teredo",
        "2001:db8::/32": "documentation",
        "2002::/16": "6to4",
        "3fff::/20": "documentation",
    }.items()
}
#: The middle of an ISATAP interface identifier, RFC 5214, section 6.1, without the u and g bits.
_ISATAP = 0x00005EFE

_LOWEST_FREE_PORT = 1024
_WEB_PORTS = (80, 443)
_LOOK_UP_SECONDS = 5


class DestinationRefusedError(OSError):
    """An address, or a name that leads to one, may not be connected to."""


def check_port(port: int) -> None:
    """Refuse ports of other services: allowed are 80, 443 and those from 1024.

    Raises:
        DestinationRefusedError: the port is another one.

    """
    if port not in _WEB_PORTS and port < _LOWEST_FREE_PORT:
        msg = f"port {port} is refused: use 80, 443, or one from {_LOWEST_FREE_PORT}"
        raise DestinationRefusedError(msg)


def check_address(text: str, *, allowed: tuple[str, ...]) -> None:
    """Refuse an address that is not on the public internet.

    Args:
        text: An IPv4 or IPv6 address.
        allowed: Networks that may be reached nevertheless.

    Raises:
        DestinationRefusedError: it is refused, or it is no address.

    """
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError as error:
        msg = f"{text!r} is no address"
        raise DestinationRefusedError(msg) from error
    why = _why_refused(address)
    if why is None:
        return
    if any(address in ipaddress.ip_network(network) for network in allowed):
        return
    msg = f"{address} is refused: {why}"
    raise DestinationRefusedError(msg)


def _why_refused(address: Address) -> str | None:
    if isinstance(address, ipaddress.IPv4Address):
        return next((why for network, why in _REFUSED_4.items() if address in network), None)
    if address not in _GLOBAL_6:
        return "not on the public internet"
    if (int(address) >> 32 & 0xFCFFFFFF) == _ISATAP:
        return "ISATAP"
    return next((why for network, why in _REFUSED_6.items() if address in network), None)


async def look_up(host: str, port: int, *, threads: Executor | None = None) -> list[str]:
    """Ask the system's resolver, in a thread."""
    ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(threads, ask)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def addresses(host: str, port: int, found: list[str]) -> list[ResolveResult]:
    """Return what was found for a name as aiohttp wants it: numbers only.

    Raises:
        OSError: nothing was found.

    """
    if not found:
        msg = f"{host} has no address"
        raise OSError(msg)
    return [
        ResolveResult(
            hostname=host,
            host=address,
            port=port,
            family=socket.AF_INET6 if ":" in address else socket.AF_INET,
            proto=socket.IPPROTO_TCP,
            flags=socket.AI_NUMERICHOST,
        )
        for address in found
    ]


class GuardedResolver(AbstractResolver):
    """Look a name up once, and give its addresses only if every one is allowed.

    The connection goes to a checked number, so that a second look-up cannot change it.
    """

    def __init__(self, *, allowed: tuple[str, ...], ask: LookUp = look_up) -> None:
        self._allowed = allowed
        self._ask = ask

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        del family
        check_port(port)
        async with asyncio.timeout(_LOOK_UP_SECONDS):
            found = await self._ask(host, port)
        for address in found:
            check_address(address, allowed=self._allowed)
        return addresses(host, port, found)

    async def close(self) -> None:
        """Nothing is kept open."""


def check_literal(host: str, port: int, *, allowed: tuple[str, ...]) -> None:
    """Check a host that is a number, which no resolver sees.

    Raises:
        DestinationRefusedError: it is refused.

    """
    check_port(port)
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return
    check_address(host, allowed=allowed)
