"""Deliver one batch at a time, with the database work in the calling thread."""

import asyncio
from collections.abc import Callable, Sequence

from drf_webhooks.conf import Config, config
from drf_webhooks.delivery.claims import lease
from drf_webhooks.delivery.leases import Leased
from drf_webhooks.delivery.results import Result, settle
from drf_webhooks.delivery.sender import attempted
from drf_webhooks.delivery.transport import AiohttpTransport

__all__ = ["deliver_batch", "deliver_now"]


def deliver_batch(limit: int, *, using: str) -> int:
    """Claim, send and settle once, in an event loop of this call; return how many attempts.

    For callers that have a process of their own and are told when to work. The database work
    is in the calling thread. A long run of many is quicker with :meth:`Worker.run`, which
    claims and settles while requests are in the air.

    Args:
        limit: How many at most.
        using: The database.

    """
    settings = config()
    leased = lease(
        limit,
        using=using,
        length=settings.LEASE,
        each=settings.CONCURRENCY,
        in_air={},
        schedule=settings.RETRY_SCHEDULE,
    )
    if leased:
        settle(asyncio.run(_send_all(leased, settings)), using=using)
    return len(leased)


def deliver_now(using: str, *, housekeeping: Callable[[], int]) -> int:
    """Deliver what is due, with the database work in the calling thread.

    Returns:
        How many attempts there were.

    """
    attempts = 0
    while True:
        housekeeping()
        more = deliver_batch(config().CONCURRENCY, using=using)
        if not more:
            return attempts
        attempts += more


async def _send_all(leased: Sequence[Leased], settings: Config) -> list[Result]:
    async with AiohttpTransport(settings) as transport:
        return await asyncio.gather(*(attempted(each, transport, settings) for each in leased))
