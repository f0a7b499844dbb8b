"""What an engine's tasks call: deliver what is due, and sweep."""

import time
from datetime import timedelta
from functools import partial

from django.db import connections

from drf_webhooks import notices
from drf_webhooks.conf import config
from drf_webhooks.delivery import shifts
from drf_webhooks.delivery.slots import Slots
from drf_webhooks.housekeeping import forget, keep_house
from drf_webhooks.waking import Engine, flush, wake, wake_on_commit

__all__ = ["Engine", "deliver", "flush", "sweep", "wake", "wake_on_commit"]


_FORGETTING = timedelta(seconds=1)


def deliver(using: str = "default") -> bool:
    """Deliver what is due, for a limited time; return whether it is to be called again.

    Sends many at once, and settles them in batches. Ends when nothing is due any more, at
    once if ``ENGINE_CONCURRENCY`` others deliver on this machine, and after
    ``ENGINE_TIME_LIMIT``: then there may be more to do, and the answer is ``True``.

    Inside an open transaction nothing is sent. The engine is woken when it is committed.

    Args:
        using: The database.

    """
    if connections[using].in_atomic_block:
        wake_on_commit(using)
        return False
    settings = config()
    slots = Slots(using, settings.ENGINE_CONCURRENCY)
    until = time.monotonic() + settings.ENGINE_TIME_LIMIT.total_seconds()
    while True:
        with slots.take() as is_free:
            if not is_free:
                return False
            limit = timedelta(seconds=max(until - time.monotonic(), 0))
            housekeeping = partial(keep_house, using)
            if shifts.work(using, housekeeping=housekeeping, limit=limit):
                return True
        # Somebody came meanwhile, found no slot and left; what is due since may be unseen.
        if not slots.is_asked_again():
            return False


def sweep(using: str = "default") -> int:
    """Do what is due besides deliveries, for a periodic task; return how much that was.

    Serializes what was left to the worker and what sessions have held for too long, reads what
    triggers have journaled, goes on with recoveries, tells of endpoints that fail, and forgets
    what is old, for a second.
    Let :func:`deliver` follow: retries wake nobody by themselves.
    """
    done = keep_house(using) + notices.tell(using)
    forget(using, limit=_FORGETTING)
    return done
