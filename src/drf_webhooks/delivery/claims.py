"""Claim what is due: choose it by turns, within every limit, and lease it."""

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from drf_webhooks.delivery.access import KEPT, Access
from drf_webhooks.delivery.leases import Leased, take
from drf_webhooks.delivery.rates import within_rates
from drf_webhooks.delivery.subscribers import Subscriber, full_of, room_of, subscribers
from drf_webhooks.delivery.turns import (
    Due,
    Turns,
    due_by_turns,
    due_in_order,
    endpoints_in_turn,
    interleave,
    shares,
)
from drf_webhooks.models import Delivery

__all__ = ["Claim", "claim", "lease"]


@dataclass(frozen=True)
class Claim:
    """What a claim has taken.

    ``is_all`` if nothing else was due, and ``is_spent`` if all else that was due is of endpoints
    that have all they may have in hand, which are ``full``; ``again_in`` if a rate put something
    off for so long.
    """

    leased: list[Leased]
    is_all: bool
    is_spent: bool = False
    again_in: timedelta | None = None
    full: frozenset[uuid.UUID] = frozenset()


def lease(
    limit: int,
    *,
    using: str,
    length: timedelta,
    each: int,
    in_air: Mapping[uuid.UUID, int],
    schedule: Sequence[timedelta],
) -> list[Leased]:
    """Take deliveries that are due, so that no other worker sends them; see :func:`claim`."""
    return claim(
        limit, using=using, length=length, each=each, in_air=in_air, schedule=schedule
    ).leased


def claim(
    limit: int,
    *,
    using: str,
    length: timedelta,
    each: int,
    in_air: Mapping[uuid.UUID, int],
    schedule: Sequence[timedelta],
    turns: Turns | None = None,
    rate: float | None = None,
    access: Access | None = None,
) -> Claim:
    """Take deliveries that are due, in a few statements for any number.

    A delivery whose lease has ended was held by a worker that is lost: that is an attempt of
    which nobody knows what came, and the log says so. The next one comes by the schedule, so
    that one that brings every worker down does not do so for long.

    Args:
        limit: How many at most.
        using: The database.
        length: How long they are held. Then they are due again.
        each: How many of one endpoint at most, with those that are in hand; an endpoint may
            have a limit of its own.
        in_air: How many this worker has in hand, by endpoint.
        schedule: The waits between attempts, for deliveries whose worker was lost.
        turns: Where the worker is in its round of the endpoints; changed.
        rate: How many of one endpoint in a second, for all workers; an endpoint may have a
            rate of its own.
        access: What the worker knows of owners; by default nothing yet.

    """
    turns = Turns() if turns is None else turns
    due, is_all = ([], False) if turns.is_crowded else due_in_order(limit, using=using)
    turns.is_crowded = not is_all
    is_seen = is_all
    if is_all:
        endpoints = subscribers({row.endpoint for row in due}, using=using)
        room = room_of(endpoints, each=each, in_air=in_air)
    else:
        begins = not turns.visited
        lanes, is_over = endpoints_in_turn(turns, using=using)
        endpoints = subscribers({key for some in lanes.values() for key in some}, using=using)
        room = room_of(endpoints, each=each, in_air=in_air)
        wanted = shares(room, _groups(endpoints), limit=limit)
        due = due_by_turns(wanted, lanes, using=using, after=turns.served)
        turns.is_vain = turns.is_vain and not due
        found = Counter(row.endpoint for row in due)
        is_seen = (
            begins
            and is_over
            and all(found[key] < count or count == room[key] for key, count in wanted.items())
        )
        if is_over and turns.is_vain:
            # Nothing that may be sent: whether there is a crowd still is to be seen. It is
            # that of endpoints without room, if these were all visited now.
            full = full_of(endpoints, room)
            turns.is_crowded = begins and bool(full)
            is_all = not full
    open_ones = {key for key, row in endpoints.items() if row.is_open}
    by_hand = Delivery.Lane.BY_HAND.value
    # What a person asks for is sent all the same.
    due = [
        row
        for row in due
        if row.endpoint in open_ones or (row.lane == by_hand and row.endpoint in endpoints)
    ]
    chosen = _chosen(due, endpoints, room, limit=limit, each=each, in_air=in_air, turns=turns)
    chosen, again_in = within_rates(chosen, endpoints, using=using, rate=rate)
    owners = {endpoints[row.endpoint].owner for row in chosen} - {None}
    refused = (Access() if access is None else access).refused(owners, using=using)
    if refused is None:
        # Nobody knows whether these may be sent.
        chosen = [row for row in chosen if endpoints[row.endpoint].owner is None]
        refused, again_in = frozenset(), KEPT
    counts = Counter(row.endpoint for row in chosen)
    full = full_of(endpoints, {key for key, count in room.items() if count > counts[key]})
    rest = Counter(row.endpoint for row in due) - counts
    claim = Claim(
        [],
        is_all=is_all and len(chosen) == len(due),
        is_spent=is_seen and again_in is None and full.issuperset(rest),
        again_in=again_in,
        full=full,
    )
    if not chosen:
        return claim
    turns.served = chosen[-1].endpoint
    leased = take(
        chosen, endpoints, refused, using=using, length=length, each=each, schedule=schedule
    )
    return replace(claim, leased=leased)


def _chosen(
    due: Sequence[Due],
    endpoints: Mapping[uuid.UUID, Subscriber],
    room: Mapping[uuid.UUID, int],
    *,
    limit: int,
    each: int,
    in_air: Mapping[uuid.UUID, int],
    turns: Turns,
) -> list[Due]:
    """Choose by turns, after what a person asks for: that waits for nobody, and is little."""
    counts = Counter(in_air)
    by_hand: list[Due] = []
    others: list[Due] = []
    lane = Delivery.Lane.BY_HAND.value
    for row in due:
        if row.lane != lane:
            others.append(row)
        elif len(by_hand) < limit and counts[row.endpoint] < endpoints[row.endpoint].limit(each):
            counts[row.endpoint] += 1
            by_hand.append(row)
    used = Counter(row.endpoint for row in by_hand)
    left = {key: count - used[key] for key, count in room.items()} if used else room
    most = limit - len(by_hand)
    return by_hand + interleave(others, left, _groups(endpoints), limit=most, after=turns.served)


def _groups(endpoints: Mapping[uuid.UUID, Subscriber]) -> dict[uuid.UUID, Any]:
    """Return whose turn each endpoint shares: that of its owner, or its own."""
    return {key: key if row.owner is None else row.owner for key, row in endpoints.items()}
