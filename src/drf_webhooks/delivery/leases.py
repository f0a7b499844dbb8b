"""Lease deliveries: a few statements for a batch, by the database's clock."""

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import connections, transaction
from django.db.models import Case, F, QuerySet, Value, When

from drf_webhooks.delivery.clock import Clock, database_now
from drf_webhooks.delivery.rates import admit
from drf_webhooks.delivery.rows import among
from drf_webhooks.delivery.turns import (
    Due,
    Turns,
    due_by_turns,
    due_in_order,
    endpoints_in_turn,
    interleave,
)
from drf_webhooks.models import Delivery, Endpoint, Event

__all__ = ["Claim", "Leased", "claim", "database_now", "hand_back", "lease"]


@dataclass(frozen=True, slots=True)
class Leased:
    """A delivery that this worker holds, with all that sending it needs."""

    delivery: int
    fence: int
    attempt_count: int
    age: timedelta
    message_id: str
    body: bytes
    has_body: bool
    endpoint: uuid.UUID
    url: str
    secret: str
    event_owner: Any
    endpoint_owner: Any
    sequence: int | None = None
    #: How many may be in the air of this endpoint, for one worker.
    limit: int = 1
    #: Whether the rest of its object waits if this delivery is dead, with ordering.
    blocks: bool = False


@dataclass(frozen=True)
class Claim:
    """What a claim has taken.

    ``is_all`` if nothing else was due; ``again_in`` if a rate put something off for so long;
    ``full`` are endpoints that have something due, and all that they may have in hand.
    """

    leased: list[Leased]
    is_all: bool
    again_in: timedelta | None = None
    full: frozenset[uuid.UUID] = frozenset()


class _Endpoint(NamedTuple):
    """What sending needs of an endpoint; the names are those of its fields."""

    pk: uuid.UUID
    url: str
    secret: str
    owner: Any
    concurrency: int | None
    rate: float | None
    on_dead: str

    def limit(self, each: int) -> int:
        """Return how many may be in the air, for one worker."""
        return each if self.concurrency is None else self.concurrency


class _Event(NamedTuple):
    """What is sent."""

    body: bytes | None
    owner: Any
    sequence: int | None


class _Taken(NamedTuple):
    """A delivery that was leased."""

    delivery: int
    fence: int
    attempt_count: int
    event: uuid.UUID
    endpoint: uuid.UUID
    created_at: datetime
    now: datetime


#: A lease need not outlive a crash of the server: a delivery whose lease is forgotten is due.
#: So its commit does not wait for the disk, which is most of what it would take.
_TAKE = """
WITH quick AS (SELECT set_config('synchronous_commit', {commit}, true))
UPDATE {table} d SET due_at = STATEMENT_TIMESTAMP() + %s, fence = d.fence + 1
FROM (
    SELECT id FROM {table} WHERE id = ANY(%s) AND due_at <= STATEMENT_TIMESTAMP()
    FOR UPDATE SKIP LOCKED
) free, quick WHERE d.id = free.id
RETURNING d.id, d.fence, d.attempt_count, d.event_id, d.endpoint_id, d.created_at,
    STATEMENT_TIMESTAMP()
"""


def lease(
    limit: int,
    *,
    using: str,
    length: timedelta,
    each: int,
    in_air: Mapping[uuid.UUID, int],
) -> list[Leased]:
    """Take deliveries that are due, so that no other worker sends them; see :func:`claim`."""
    return claim(limit, using=using, length=length, each=each, in_air=in_air).leased


def claim(
    limit: int,
    *,
    using: str,
    length: timedelta,
    each: int,
    in_air: Mapping[uuid.UUID, int],
    turns: Turns | None = None,
    rate: float | None = None,
) -> Claim:
    """Take deliveries that are due, in a few statements for any number.

    Args:
        limit: How many at most.
        using: The database.
        length: How long they are held. Then they are due again.
        each: How many of one endpoint at most, with those that are in hand; an endpoint may
            have a limit of its own.
        in_air: How many this worker has in hand, by endpoint.
        turns: Where the worker is in its round of the endpoints; changed.
        rate: How many of one endpoint in a second, for all workers; an endpoint may have a
            rate of its own.

    """
    turns = Turns() if turns is None else turns
    due, is_all = ([], False) if turns.is_crowded else due_in_order(limit, using=using)
    turns.is_crowded = not is_all
    if is_all:
        endpoints = _endpoints({row.endpoint for row in due}, using=using)
        room = _room(endpoints, each=each, in_air=in_air)
    else:
        lanes, is_round = endpoints_in_turn(turns, using=using)
        endpoints = _endpoints({key for some in lanes.values() for key in some}, using=using)
        room = _room(endpoints, each=each, in_air=in_air)
        share = 2 * -(-limit // max(1, len(room)))
        wanted = {key: min(count, share) for key, count in room.items()}
        due = due_by_turns(wanted, lanes, using=using, after=turns.served)
        if is_round and not due:
            # Nothing that may be sent: whether there is a crowd still is to be seen.
            turns.is_crowded = False
            is_all = len(room) == len(endpoints)
    groups = {key: key if row.owner is None else row.owner for key, row in endpoints.items()}
    chosen = interleave(due, room, groups, limit=limit, after=turns.served)
    chosen, again_in = _within_rates(chosen, endpoints, using=using, rate=rate)
    if not chosen:
        full = frozenset(endpoints.keys() - room.keys())
        return Claim([], is_all=is_all and not due, again_in=again_in, full=full)
    turns.served = chosen[-1].endpoint
    taken = _take([row.delivery for row in chosen], using=using, length=length)
    events = _events({row.event for row in taken}, using=using)
    by_id = {row.delivery: row for row in taken}
    leased = [
        _leased(row, endpoints[row.endpoint], events[row.event], each=each)
        for row in (by_id.get(one.delivery) for one in chosen)
        if row is not None
    ]
    return Claim(leased, is_all=is_all and len(chosen) == len(due), again_in=again_in)


def _endpoints(keys: set[uuid.UUID], *, using: str) -> dict[uuid.UUID, _Endpoint]:
    """Read endpoints that may be sent to."""
    if not keys:
        return {}
    enabled = among(Endpoint, keys, using=using).filter(state=Endpoint.State.ENABLED)
    return {row[0]: _Endpoint(*row) for row in enabled.values_list(*_Endpoint._fields)}


def _room(
    endpoints: Mapping[uuid.UUID, _Endpoint], *, each: int, in_air: Mapping[uuid.UUID, int]
) -> dict[uuid.UUID, int]:
    """Return how many more may be leased of each endpoint that may have more at all."""
    room = {key: row.limit(each) - in_air.get(key, 0) for key, row in endpoints.items()}
    return {key: count for key, count in room.items() if count > 0}


def _due(using: str) -> QuerySet[Delivery]:
    return Delivery.objects.using(using).filter(due_at__lte=Clock())


def _within_rates(
    chosen: Sequence[Due],
    endpoints: Mapping[uuid.UUID, _Endpoint],
    *,
    using: str,
    rate: float | None,
) -> tuple[list[Due], timedelta | None]:
    """Leave out what would be too much for a second; costs nothing where there are no rates."""
    counts = Counter(each.endpoint for each in chosen)
    rates = {key: endpoints[key].rate or rate for key in counts}
    wanted = {key: (counts[key], most) for key, most in rates.items() if most}
    if not wanted:
        return list(chosen), None
    admitted, again_in = admit(wanted, using=using)
    kept = []
    for each in chosen:
        if each.endpoint in wanted:
            if not admitted.get(each.endpoint):
                continue
            admitted[each.endpoint] -= 1
        kept.append(each)
    return kept, None if len(kept) == len(chosen) else again_in


def _take(ids: Sequence[int], *, using: str, length: timedelta) -> list[_Taken]:
    """Lease those of some deliveries that are still due and that nobody else is taking."""
    connection = connections[using]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            held: list[Any] = [length, list(ids)]
            # A transaction of the caller's keeps its own way to commit.
            mine = "current_setting('synchronous_commit')"
            commit = mine if connection.in_atomic_block else "'off'"
            statement = _TAKE.format(table=Delivery._meta.db_table, commit=commit)
            cursor.execute(statement, held)
            return [_Taken(*row) for row in cursor.fetchall()]
    with transaction.atomic(using=using):
        rows = _due(using).filter(pk__in=ids)
        if connection.features.has_select_for_update_skip_locked:
            ids = list(rows.select_for_update(skip_locked=True).values_list("pk", flat=True))
            rows = _due(using).filter(pk__in=ids)
        # The mark of this claim: nobody else gives a row the same end.
        now = database_now(using)
        until = now + length + timedelta(microseconds=uuid.uuid4().int % 1_000_000)
        rows.update(due_at=until, fence=F("fence") + 1)
        marked = Delivery.objects.using(using).filter(pk__in=ids, due_at=until)
        fields = ("pk", "fence", "attempt_count", "event", "endpoint", "created_at")
        return [_Taken._make((*row, now)) for row in marked.values_list(*fields)]


def _events(keys: set[uuid.UUID], *, using: str) -> dict[uuid.UUID, _Event]:
    """Read messages, one for all deliveries of an event."""
    rows = among(Event, keys, using=using).values_list("pk", "body", "owner", "sequence")
    return {
        pk: _Event(None if body is None else bytes(body), owner, sequence)
        for pk, body, owner, sequence in rows
    }


def _leased(row: _Taken, endpoint: _Endpoint, event: _Event, *, each: int) -> Leased:
    return Leased(
        delivery=row.delivery,
        fence=row.fence,
        attempt_count=row.attempt_count,
        age=max(row.now - row.created_at, timedelta(0)),
        message_id=Event.message_id_of(row.event),
        body=event.body or b"",
        has_body=event.body is not None,
        endpoint=row.endpoint,
        url=endpoint.url,
        secret=endpoint.secret,
        event_owner=event.owner,
        endpoint_owner=endpoint.owner,
        sequence=event.sequence,
        limit=endpoint.limit(each),
        blocks=endpoint.on_dead == Endpoint.OnDead.BLOCK,
    )


def hand_back(leased: Sequence[Leased], *, using: str) -> None:
    """Give up leases before anything was sent: the deliveries are due at once."""
    if leased:
        fences = [When(pk=each.delivery, then=Value(each.fence)) for each in leased]
        Delivery.objects.using(using).filter(
            pk__in=[each.delivery for each in leased], fence=Case(*fences)
        ).update(due_at=Clock())
