"""Lease deliveries: a few statements for a batch, by the database's clock."""

import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, NamedTuple

from django.db import connections, transaction
from django.db.models import Case, F, QuerySet, Value, When

from drf_webhooks.clock import Clock, database_now
from drf_webhooks.delivery.access import KEPT, Access
from drf_webhooks.delivery.health_rows import Standing, begin_rounds, fill_rounds
from drf_webhooks.delivery.lost import end_lost
from drf_webhooks.delivery.rates import within_rates
from drf_webhooks.delivery.rows import among, as_array
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
from drf_webhooks.encryption import Stored
from drf_webhooks.models import Delivery, Endpoint, Event

__all__ = ["Claim", "Leased", "claim", "hand_back", "lease"]


@dataclass(slots=True)
class Leased:
    """A delivery that this worker holds, with all that sending it needs.

    Not changed once made. Not frozen either: to make one would cost three times as much.
    """

    delivery: int
    fence: int
    attempt_count: int
    age: timedelta
    message_id: str
    object_key: str
    body: bytes = field(repr=False)
    has_body: bool
    endpoint: uuid.UUID
    url: str
    method: str
    format: str
    #: What is secret is decrypted when it is sent.
    headers: Stored
    secret: Stored
    old_secrets: Stored
    event_owner: Any
    endpoint_owner: Any
    standing: Standing = field(default_factory=Standing)
    #: The trace of the change, or an empty text.
    traceparent: str = ""
    sequence: int | None = None
    #: How many may be in the air of this endpoint, for one worker.
    limit: int = 1
    #: Whether others of its object wait for it.
    is_ordered: bool = False
    #: Whether they wait on if this delivery is dead.
    blocks: bool = False
    #: How many webhooks led to the change.
    depth: int = 0
    #: Whether the endpoint's owner may receive still.
    may_receive: bool = True

    def unwell(self) -> "Leased":
        """Return the same for an endpoint against which something was counted meanwhile."""
        return replace(self, standing=replace(self.standing, is_clean=False))


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


class _Event(NamedTuple):
    """What is sent; the names are those of its fields."""

    pk: uuid.UUID
    type: str
    object_key: str
    body: bytes | None
    owner: Any
    sequence: int | None
    traceparent: str
    depth: int


class _Taken(NamedTuple):
    """A delivery that was leased."""

    delivery: int
    fence: int
    attempt_count: int
    event: uuid.UUID
    endpoint: uuid.UUID
    is_by_hand: bool
    is_ordered: bool
    #: In seconds.
    age: float


#: A lease need not outlive a crash of the server: a delivery whose lease is forgotten is due.
#: So its commit does not wait for the disk, which is most of what it would take.
_TAKE = """
WITH quick AS (SELECT set_config('synchronous_commit', {commit}, true))
UPDATE {table} d SET due_at = STATEMENT_TIMESTAMP() + %s, leased_at = STATEMENT_TIMESTAMP(),
    fence = d.fence + 1
FROM (
    SELECT id FROM {table}
    WHERE id = ANY(%s::bigint[]) AND due_at <= STATEMENT_TIMESTAMP() AND leased_at IS NULL
    FOR UPDATE SKIP LOCKED
) free, quick WHERE d.id = free.id
RETURNING d.id, d.fence, d.attempt_count, d.event_id, d.endpoint_id, d.is_by_hand,
    d.order_key IS NOT NULL, EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP() - d.created_at)::float8
"""


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
    recovering = {key for key, row in endpoints.items() if row.health__ramp is not None}
    taken, rounds = _take(chosen, recovering, using=using, length=length, schedule=schedule)
    events = _events({row.event for row in taken}, using=using)
    by_id = {row.delivery: row for row in taken}
    leased = [
        _leased(row, endpoints[row.endpoint], events[row.event], rounds, refused, each=each)
        for row in (by_id.get(one.delivery) for one in chosen)
        # Without an event it has been deleted in this moment, and so has the delivery.
        if row is not None and row.event in events
    ]
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


def _free(ids: Sequence[int], using: str) -> QuerySet[Delivery]:
    rows = Delivery.objects.using(using).filter(pk__in=ids, due_at__lte=Clock())
    return rows.filter(leased_at__isnull=True)


def _take(
    chosen: Sequence[Due],
    recovering: Collection[uuid.UUID],
    *,
    using: str,
    length: timedelta,
    schedule: Sequence[timedelta],
) -> tuple[list[_Taken], Mapping[uuid.UUID, int]]:
    """Lease those of some deliveries that are still due and that nobody else is taking.

    Returns:
        What was leased, and the numbers of the rounds in which recovering endpoints take part.

    """
    needs_round = (
        {row.delivery: row.endpoint for row in chosen if _is_of(row, recovering)}
        if recovering
        else {}
    )
    lost = [row.delivery for row in chosen if row.is_lost]
    if not (needs_round or lost):
        return _taken([row.delivery for row in chosen], using=using, length=length), {}
    with transaction.atomic(using=using):
        now = database_now(using)
        keys = set(needs_round.values())
        rounds = begin_rounds(keys, using=using, now=now, length=length)
        ids = [
            row.delivery
            for row in chosen
            if row.delivery not in needs_round or row.endpoint in rounds
        ]
        if lost:
            end_lost([pk for pk in lost if pk in ids], using=using, now=now, schedule=schedule)
        taken = _taken(ids, using=using, length=length)
        counts = Counter(
            row.endpoint for row in taken if row.delivery in needs_round and not row.is_by_hand
        )
        fill_rounds(rounds, counts, using=using)
    return taken, rounds


def _is_of(row: Due, recovering: Collection[uuid.UUID]) -> bool:
    return row.endpoint in recovering and row.lane != Delivery.Lane.BY_HAND


def _taken(ids: Sequence[int], *, using: str, length: timedelta) -> list[_Taken]:
    connection = connections[using]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            held: list[Any] = [length, as_array(ids)]
            # A transaction of the caller's keeps its own way to commit.
            mine = "current_setting('synchronous_commit')"
            commit = mine if connection.in_atomic_block else "'off'"
            statement = _TAKE.format(table=Delivery._meta.db_table, commit=commit)
            cursor.execute(statement, held)
            return [_Taken(*row) for row in cursor.fetchall()]
    with transaction.atomic(using=using):
        rows = _free(ids, using)
        if connection.features.has_select_for_update_skip_locked:
            ids = list(rows.select_for_update(skip_locked=True).values_list("pk", flat=True))
            rows = _free(ids, using)
        # The mark of this claim: nobody else gives a row the same end.
        now = database_now(using)
        until = now + length + timedelta(microseconds=uuid.uuid4().int % 1_000_000)
        rows.update(due_at=until, leased_at=now, fence=F("fence") + 1)
        marked = Delivery.objects.using(using).filter(pk__in=ids, due_at=until)
        return [
            _Taken(
                row.pk,
                row.fence,
                row.attempt_count,
                row.event_id,
                row.endpoint_id,
                row.is_by_hand,
                row.order_key is not None,
                (now - row.created_at).total_seconds(),
            )
            for row in marked
        ]


def _events(keys: set[uuid.UUID], *, using: str) -> dict[uuid.UUID, _Event]:
    """Read messages, one for all deliveries of an event."""
    rows = among(Event, keys, using=using).values_list(*_Event._fields)
    return {row[0]: _Event(*row) for row in rows}


def _leased(
    row: _Taken,
    endpoint: Subscriber,
    event: _Event,
    rounds: Mapping[uuid.UUID, int],
    refused: frozenset[Any],
    *,
    each: int,
) -> Leased:
    return Leased(
        delivery=row.delivery,
        fence=row.fence,
        attempt_count=row.attempt_count,
        age=timedelta(seconds=max(row.age, 0.0)),
        message_id=Event.message_id_of(row.event),
        object_key=event.object_key,
        body=b"" if event.body is None else bytes(event.body),
        has_body=event.body is not None,
        endpoint=row.endpoint,
        url=endpoint.url,
        method=endpoint.method,
        format=endpoint.format,
        headers=endpoint.headers,
        secret=endpoint.secret,
        old_secrets=endpoint.old_secrets,
        event_owner=event.owner,
        endpoint_owner=endpoint.owner,
        standing=Standing(
            event_type=event.type,
            overrides=endpoint.overrides or {},
            is_clean=endpoint.health__is_clean is not False,
            is_by_hand=row.is_by_hand,
            round=None if row.is_by_hand else rounds.get(row.endpoint),
        ),
        traceparent=event.traceparent,
        sequence=event.sequence,
        limit=endpoint.limit(each),
        is_ordered=row.is_ordered,
        blocks=endpoint.on_dead == Endpoint.OnDead.BLOCK,
        depth=event.depth,
        may_receive=endpoint.owner not in refused,
    )


def hand_back(leased: Sequence[Leased], *, using: str) -> None:
    """Give up leases before anything was sent: the deliveries are due at once."""
    if leased:
        fences = [When(pk=each.delivery, then=Value(each.fence)) for each in leased]
        Delivery.objects.using(using).filter(
            pk__in=[each.delivery for each in leased], fence=Case(*fences)
        ).update(due_at=Clock(), leased_at=None)
        rounds = {
            each.endpoint: each.standing.round for each in leased if each.standing.round is not None
        }
        fill_rounds(rounds, {}, using=using)
