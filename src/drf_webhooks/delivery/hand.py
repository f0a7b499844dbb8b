"""What a worker has in hand: deliveries in the air, and those that are leased to follow."""

import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from drf_webhooks.delivery.leases import Leased

__all__ = ["Hand"]

#: How many times as many as are in the air may be ready: what is sent while a claim runs.
_AHEAD = 8
#: When so many times as many are ready, more are leased: a claim takes a while.
_LOW = 6
#: An endpoint that takes something within this may have deliveries leased ahead of its limit.
_QUICK = timedelta(milliseconds=50)


@dataclass(slots=True)
class _Line:
    """What a worker has of one endpoint, while it has anything."""

    in_air: int = 0
    in_hand: int = 0
    #: The endpoint's limit if it is quick, or 0.
    quick: int = 0
    #: Whether its last result was a failure.
    has_failed: bool = False


class Hand:
    """Deliveries that this worker holds a lease on; moments are of a monotonic clock.

    Args:
        size: How many may be in the air; eight times as many may be ready.
        patience: How long a lease may be old when its attempt begins.

    """

    def __init__(self, size: int, *, patience: timedelta) -> None:
        self._size = size
        self._patience = patience.total_seconds()
        self._ready: deque[tuple[Leased, float, _Line]] = deque()
        self._late: list[Leased] = []
        self._lines: dict[uuid.UUID, _Line] = {}
        #: How many are in the air.
        self.flying = 0

    @property
    def room(self) -> int:
        """How many more may be leased."""
        return max(0, (1 + _AHEAD) * self._size - self.flying - len(self._ready))

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in the air and nothing ready."""
        return not self._lines

    @property
    def is_low(self) -> bool:
        """Whether it is time to lease more: not for a few, as that costs the same as for many."""
        return len(self._ready) <= _LOW * self._size

    @property
    def has_more(self) -> bool:
        """Whether something is ready."""
        return bool(self._ready)

    def counts(self) -> Mapping[uuid.UUID, int]:
        """Return how much of its limit each endpoint has used up, as a claim is to see it.

        An endpoint that is quick gets as many again, to follow at once. One that is not would
        only keep them from other workers.
        """
        return {endpoint: line.in_hand - line.quick for endpoint, line in self._lines.items()}

    def take(self, leased: Sequence[Leased], *, now: float) -> None:
        """Add what was leased at a moment."""
        until = now + self._patience
        for each in leased:
            line = self._lines.get(each.endpoint)
            if line is None:
                line = self._lines[each.endpoint] = _Line()
            line.in_hand += 1
            self._ready.append((each, until, line))

    def next(self, *, now: float) -> Leased | None:
        """Return what is to be sent next, or ``None`` while there is no room in the air."""
        if self.flying >= self._size:
            return None
        for place, (leased, until, line) in enumerate(self._ready):
            if now > until:
                self._drop_late(now)
                return self.next(now=now)
            if line.in_air < leased.to.limit:
                del self._ready[place]
                line.in_air += 1
                self.flying += 1
                return leased
        return None

    def hear(self, leased: Leased, *, is_taken: bool) -> bool:
        """Take note of a result, and tell whether it ends a row of failures.

        What else was leased with them may not know of these.
        """
        line = self._lines[leased.endpoint]
        has_failed, line.has_failed = line.has_failed, not is_taken
        return is_taken and has_failed

    def landed(self, leased: Leased, *, took: timedelta | None) -> None:
        """Take note that an attempt is over; ``None`` if it failed or was broken off."""
        self.flying -= 1
        line = self._lines[leased.endpoint]
        line.in_air -= 1
        line.quick = leased.to.limit if took is not None and took <= _QUICK else 0
        self._forget(leased, line)

    def drop(self) -> list[Leased]:
        """Return what was not begun, which is no longer in hand."""
        dropped = [leased for leased, _, _ in self._ready]
        for leased, _, line in self._ready:
            self._forget(leased, line)
        self._ready.clear()
        return dropped + self.drop_late()

    def drop_late(self) -> list[Leased]:
        """Return what waited too long for its turn, which is no longer in hand."""
        late, self._late = self._late, []
        return late

    def _drop_late(self, now: float) -> None:
        late = [each for each in self._ready if now > each[1]]
        self._ready = deque(each for each in self._ready if now <= each[1])
        for leased, _, line in late:
            self._late.append(leased)
            self._forget(leased, line)

    def _forget(self, leased: Leased, line: _Line) -> None:
        line.in_hand -= 1
        if not line.in_hand:
            # Endpoints come and go.
            del self._lines[leased.endpoint]
