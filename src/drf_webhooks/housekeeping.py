"""What a worker does besides deliveries: release what is held, look again, forget what is old."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta

from django.utils import timezone

from drf_webhooks import pipeline, recoveries, retention, verification
from drf_webhooks.conf import config
from drf_webhooks.retention import Bite

__all__ = ["Housekeeper", "forget", "keep_house"]

#: Small enough that what is due waits for it a few milliseconds, at most once a second.
EVENTS, ROWS = 100, 500
_BETWEEN = timedelta(seconds=1)

#: When everything old is forgotten.
_REST = timedelta(minutes=1)


#: For so long recoveries go on, while what is due waits.
_RECOVERING_SECONDS = 0.1


def keep_house(using: str, *, clock: Callable[[], float] = time.monotonic) -> int:
    """Do what is due besides deliveries and notices; return how much that was."""
    done = pipeline.keep_house(using) + verification.judge(using)
    until = clock() + _RECOVERING_SECONDS
    while more := recoveries.go_on(using):
        done += more
        if clock() >= until:
            break
    return done


class Housekeeper:
    """Called by a worker, from one thread and as often as it likes.

    Args:
        using: The database.
        clock: Seconds that only grow.

    """

    def __init__(self, using: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._using = using
        self._clock = clock
        self._bites: Iterator[Bite] | None = None
        self._next_at = clock()

    def __call__(self) -> int:
        """Do what is due; return how much that was."""
        done = keep_house(self._using)
        if config().PRUNE_IN_WORKER and self._clock() >= self._next_at:
            self._prune()
        return done

    def _prune(self) -> None:
        if self._bites is None:
            self._bites = _bites(self._using)
        # After an error the generator is at its end, and the next one begins anew.
        is_over = next(self._bites, None) is None
        self._next_at = self._clock() + (_REST if is_over else _BETWEEN).total_seconds()
        if is_over:
            self._bites = None


def forget(using: str, *, limit: timedelta, clock: Callable[[], float] = time.monotonic) -> None:
    """Forget what is old for a limited time, where no worker does it; if the setting is on."""
    until = clock() + limit.total_seconds()
    if config().PRUNE_IN_WORKER:
        for _ in _bites(using):
            if clock() >= until:
                return


def _bites(using: str) -> Iterator[Bite]:
    settings = config()
    return retention.prune(
        using=using,
        now=timezone.now(),
        payloads=settings.PAYLOAD_RETENTION,
        events=settings.EVENT_RETENTION,
        size=EVENTS,
        rows=ROWS,
    )
