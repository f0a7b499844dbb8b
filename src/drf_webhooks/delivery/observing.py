"""Let somebody stand around each attempt, to measure it or to change what it tells of a trace."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from drf_webhooks.delivery.leases import Leased
from drf_webhooks.delivery.results import Result

__all__ = ["Attempt", "Observer", "install", "observed"]

Attempt = Callable[[Leased], Awaitable[Result]]


class Observer(Protocol):
    """Who stands around an attempt."""

    async def __call__(self, leased: Leased, attempt: Attempt) -> Result:
        """Await the attempt once, and return its result."""
        ...


_observer: Observer | None = None


def install(observer: Observer | None) -> None:
    """Say who stands around attempts; ``None`` for nobody."""
    global _observer  # noqa: PLW0603  # for the whole process
    _observer = observer


def observed(leased: Leased, attempt: Attempt) -> Awaitable[Result]:
    """Make an attempt, with whoever is installed around it."""
    return attempt(leased) if _observer is None else _observer(leased, attempt)
