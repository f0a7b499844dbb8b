"""What a worker has in hand: deliveries in the air, and those that are leased to follow."""

import uuid
from collections import OrderedDict, deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
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

    #: Whose turn it shares.
    group: Hashable
    #: What is to be sent, with the moment from which it is too late; the oldest first.
    ready: deque[tuple[Leased, float]] = field(default_factory=deque)
    in_air: int = 0
    #: The endpoint's limit if it is quick, or 0.
    quick: int = 0
    #: Whether its last result was a failure.
    has_failed: bool = False
    #: Whether it waits for its turn; not while it has all in the air that it may have.
    has_turn: bool = False

    @property
    def in_hand(self) -> int:
        return self.in_air + len(self.ready)


class Hand:
    """Deliveries that this worker holds a lease on; moments are of a monotonic clock.

    What is ready is sent by turns, as it is claimed: an owner, an endpoint of it. So what was
    claimed just now does not wait for all that was claimed before for somebody else.

    Args:
        size: How many may be in the air; eight times as many may be ready.
        patience: How long a lease may be old when its attempt begins.

    """

    def __init__(self, size: int, *, patience: timedelta) -> None:
        self._size = size
        self._patience = patience.total_seconds()
        self._lines: dict[uuid.UUID, _Line] = {}
        #: The endpoints of each owner that wait for their turn, and the owners in turn.
        self._turns: OrderedDict[Hashable, deque[_Line]] = OrderedDict()
        self._ready = 0
        self._late: list[Leased] = []
        #: When the first of what is ready is too late, at the earliest.
        self._late_from = float("inf")
        #: How many are in the air.
        self.flying = 0

    @property
    def room(self) -> int:
        """How many more may be leased."""
        return max(0, (1 + _AHEAD) * self._size - self.flying - self._ready)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in the air and nothing ready."""
        return not self._lines

    @property
    def is_low(self) -> bool:
        """Whether it is time to lease more: not for a few, as that costs the same as for many."""
        return self._ready <= _LOW * self._size

    @property
    def has_more(self) -> bool:
        """Whether something is ready."""
        return self._ready > 0

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
                owner = each.to.owner
                line = self._lines[each.endpoint] = _Line(each.endpoint if owner is None else owner)
            line.ready.append((each, until))
            self._queue(line)
        if leased:
            self._ready += len(leased)
            self._late_from = min(self._late_from, until)

    def next(self, *, now: float) -> Leased | None:
        """Return what is to be sent next, or ``None`` while there is no room in the air."""
        if self.flying >= self._size:
            return None
        if now > self._late_from:
            self._late += self._drop(now)
        if not self._turns:
            return None
        group, lines = next(iter(self._turns.items()))
        line = lines.popleft()
        line.has_turn = False
        if lines:
            self._turns.move_to_end(group)
        else:
            del self._turns[group]
        leased, _ = line.ready.popleft()
        self._ready -= 1
        line.in_air += 1
        self.flying += 1
        self._queue(line)
        return leased

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
        if line.in_hand:
            self._queue(line)
        else:
            # Endpoints come and go.
            del self._lines[leased.endpoint]

    def drop(self) -> list[Leased]:
        """Return what was not begun, which is no longer in hand."""
        return self.drop_late() + self._drop(float("inf"))

    def drop_late(self) -> list[Leased]:
        """Return what waited too long for its turn, which is no longer in hand."""
        late, self._late = self._late, []
        return late

    def _drop(self, now: float) -> list[Leased]:
        """Let go of what is too late at a moment."""
        dropped = []
        self._turns.clear()
        self._late_from = float("inf")
        for endpoint, line in list(self._lines.items()):
            while line.ready and now > line.ready[0][1]:
                dropped.append(line.ready.popleft()[0])
            line.has_turn = False
            if line.ready:
                self._late_from = min(self._late_from, line.ready[0][1])
                self._queue(line)
            elif not line.in_air:
                del self._lines[endpoint]
        self._ready -= len(dropped)
        return dropped

    def _queue(self, line: _Line) -> None:
        """Let an endpoint wait for its turn, if it has something that may be sent."""
        if line.ready and not line.has_turn and line.in_air < line.ready[0][0].to.limit:
            line.has_turn = True
            self._turns.setdefault(line.group, deque()).append(line)
