"""Look names up, and let nothing be connected to but addresses that were checked."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Container
from concurrent.futures import Executor
from functools import partial

from aiohttp.abc import AbstractResolver, ResolveResult

from drf_webhooks.destination_rules import Rules

__all__ = ["GuardedResolver", "LookUp", "addresses", "look_up"]

LookUp = Callable[[str, int], Awaitable[list[str]]]

_LOOK_UP_SECONDS = 5


async def look_up(
    host: str, port: int, *, threads: Executor | None = None, as_written: Container[str] = ()
) -> list[str]:
    """Ask the system's resolver, in a thread.

    Args:
        host: A name, looked up as the whole one that it is: what a machine would append to it
            (``search`` in ``resolv.conf``) is not tried. A name without a dot is left alone.
        port: Where to.
        threads: Whose thread; ``None`` for the event loop's.
        as_written: Names that are left alone too, and so may stand in ``/etc/hosts``.

    """
    name = host if "." not in host or host in as_written else f"{host}."
    ask = partial(socket.getaddrinfo, name, port, type=socket.SOCK_STREAM)
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

    def __init__(self, rules: Rules, ask: LookUp = look_up) -> None:
        self._rules = rules
        self._ask = ask

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        del family
        async with asyncio.timeout(_LOOK_UP_SECONDS):
            found = await self._ask(host, port)
        return addresses(host, port, [self._rules.check_address(each) for each in found])

    async def close(self) -> None:
        """Nothing is kept open."""
