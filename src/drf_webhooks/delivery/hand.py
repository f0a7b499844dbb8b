"""What a worker has in hand: deliveries in the air, and those that are leased to follow."""

import uuid
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from datetime import timedelta

from drf_webhooks.delivery.leases import Leased

__all__ = ["Hand"]

#: How many times as many as are in the air may be ready: what is sent while a claim runs.
_AHEAD = 2
#: An endpoint that takes something within this may have deliveries leased ahead of its limit.
_QUICK = timedelta(milliseconds=50)


class Hand:
    """Deliveries that this worker holds a lease on; moments are of a monotonic clock.

    Args:
        size: How many may be in the air; twice as many may be ready.
        patience: How long a lease may be old when its attempt begins.

    """

    def __init__(self, size: int, *, patience: timedelta) -> None:
        self._size = size
        self._patience = patience.total_seconds()
        self._ready: deque[tuple[Leased, float]] = deque()
        self._late: list[Leased] = []
        self._in_air: Counter[uuid.UUID] = Counter()
        self._in_hand: Counter[uuid.UUID] = Counter()
        #: Endpoints that are quick, with their limits.
        self._quick: dict[uuid.UUID, int] = {}
        self._flying = 0

    @property
    def room(self) -> int:
        """How many more may be leased."""
        return max(0, (1 + _AHEAD) * self._size - self._flying - len(self._ready))

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in the air and nothing ready."""
        return not self._in_hand

    @property
    def is_low(self) -> bool:
        """Whether it is time to lease more: not for a few, as that costs the same as for many."""
        return len(self._ready) <= self._size

    @property
    def has_more(self) -> bool:
        """Whether something is ready."""
        return bool(self._ready)

    def counts(self) -> Mapping[uuid.UUID, int]:
        """Return how much of its limit each endpoint has used up, as a claim is to see it.

        An endpoint that is quick gets as many again, to follow at once. One that is not would
        only keep them from other workers.
        """
        return {
            endpoint: count - self._quick.get(endpoint, 0)
            for endpoint, count in self._in_hand.items()
        }

    def take(self, leased: Sequence[Leased], *, now: float) -> None:
        """Add what was leased at a moment."""
        until = now + self._patience
        self._ready.extend((each, until) for each in leased)
        self._in_hand.update(each.endpoint for each in leased)

    def next(self, *, now: float) -> Leased | None:
        """Return what is to be sent next, or ``None`` while there is no room in the air."""
        if self._flying >= self._size:
            return None
        for place, (leased, until) in enumerate(self._ready):
            if now > until:
                self._drop_late(now)
                return self.next(now=now)
            if self._in_air[leased.endpoint] < leased.limit:
                del self._ready[place]
                self._in_air[leased.endpoint] += 1
                self._flying += 1
                return leased
        return None

    def landed(self, leased: Leased, *, took: timedelta | None) -> None:
        """Take note that an attempt is over; ``None`` if it failed or was broken off."""
        self._flying -= 1
        _less(self._in_air, leased.endpoint)
        if took is not None and took <= _QUICK:
            self._quick[leased.endpoint] = leased.limit
        else:
            self._quick.pop(leased.endpoint, None)
        self._forget(leased)

    def drop(self) -> list[Leased]:
        """Return what was not begun, which is no longer in hand."""
        dropped = [leased for leased, _ in self._ready]
        self._ready.clear()
        for each in dropped:
            self._forget(each)
        return dropped + self.drop_late()

    def drop_late(self) -> list[Leased]:
        """Return what waited too long for its turn, which is no longer in hand."""
        late, self._late = self._late, []
        return late

    def _drop_late(self, now: float) -> None:
        late = [leased for leased, until in self._ready if now > until]
        self._ready = deque(each for each in self._ready if now <= each[1])
        self._late += late
        for each in late:
            self._forget(each)

    def _forget(self, leased: Leased) -> None:
        _less(self._in_hand, leased.endpoint)
        if leased.endpoint not in self._in_hand:
            self._quick.pop(leased.endpoint, None)


def _less(counts: Counter[uuid.UUID], key: uuid.UUID) -> None:
    """Count one less, and keep no zeros: endpoints come and go."""
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
