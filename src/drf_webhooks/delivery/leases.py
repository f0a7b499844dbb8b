"""Lease deliveries: a few statements for a batch, by the database's clock."""

import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, NamedTuple

from django.db import connections, transaction
from django.db.models import Case, F, QuerySet, TextField, Value, When
from django.db.models.functions import Cast

from drf_webhooks.clock import Clock, database_now
from drf_webhooks.delivery.health_rows import Standing, begin_rounds, fill_rounds
from drf_webhooks.delivery.lost import end_lost
from drf_webhooks.delivery.rows import Prepared, as_array
from drf_webhooks.delivery.subscribers import Subscriber
from drf_webhooks.delivery.turns import Due
from drf_webhooks.encryption import Stored
from drf_webhooks.models import Delivery, Endpoint, Event, EventBody

__all__ = ["Leased", "Recipient", "hand_back", "take"]


@dataclass(slots=True)
class Recipient:
    """Where deliveries of one endpoint go: what they share that were leased together.

    Not changed once made.
    """

    url: str
    method: str
    format: str
    #: What is secret is decrypted when it is sent.
    headers: Stored
    secret: Stored
    old_secrets: Stored
    owner: Any
    #: How many may be in the air, for one worker.
    limit: int = 1
    #: Whether others of an object wait on if a delivery with an order is dead.
    blocks: bool = False
    #: Whether the owner may receive still.
    may_receive: bool = True


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
    to: Recipient
    event_owner: Any
    standing: Standing
    #: The trace of the change, or an empty text.
    traceparent: str = ""
    sequence: int | None = None
    #: Whether others of its object wait for it.
    is_ordered: bool = False
    #: How many webhooks led to the change.
    depth: int = 0
    #: What the event's resource sends beside the message; an endpoint's own go before.
    event_headers: Mapping[str, str] | None = None

    def unwell(self) -> "Leased":
        """Return the same for an endpoint against which something was counted meanwhile."""
        return replace(self, standing=replace(self.standing, is_clean=False))


class _Event(NamedTuple):
    """What is sent; the names are those of its fields."""

    pk: uuid.UUID | str
    type: str
    object_key: str
    body: bytes | None
    owner: Any
    sequence: int | None
    traceparent: str
    depth: int
    headers: Mapping[str, str] | None


class _Taken(NamedTuple):
    """A delivery that was leased."""

    delivery: int
    fence: int
    attempt_count: int
    #: As PostgreSQL writes it, where that is the database: to read it would cost more than
    #: the rest of the row.
    event: uuid.UUID | str
    is_by_hand: bool
    is_ordered: bool
    #: In seconds.
    age: float
    #: Which of the event's messages; empty for its own.
    variant: str


#: What the standings of deliveries of one endpoint differ in: the type of the event, whether they
#: are sent by hand, and the round that they belong to.
_Kind = tuple[str, bool, int | None]

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
RETURNING d.id, d.fence, d.attempt_count, d.event_id::text, d.is_by_hand,
    d.order_key IS NOT NULL, EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP() - d.created_at)::float8,
    d.variant
"""


def take(
    chosen: Sequence[Due],
    endpoints: Mapping[uuid.UUID, Subscriber],
    refused: frozenset[Any],
    *,
    using: str,
    length: timedelta,
    each: int,
    schedule: Sequence[timedelta],
) -> list[Leased]:
    """Lease those of some deliveries that are still due, and read what is sent.

    Args:
        chosen: The deliveries, in the order in which they are returned.
        endpoints: Theirs.
        refused: Owners that may not receive any more.
        using: The database.
        length: How long they are held. Then they are due again.
        each: How many of one endpoint may be in the air, unless it has a limit of its own.
        schedule: The waits between attempts, for deliveries whose worker was lost.

    """
    recovering = {key for key, row in endpoints.items() if row.health__ramp is not None}
    taken, rounds = _in_rounds(chosen, recovering, using=using, length=length, schedule=schedule)
    events = _events({row.event for row in taken}, using=using)
    bodies = _bodies({row.event for row in taken if row.variant}, using=using)
    by_id = {row.delivery: row for row in taken}
    recipients: dict[uuid.UUID, tuple[Recipient, dict[_Kind, Standing]]] = {
        key: (_recipient(endpoints[key], refused, each=each), {})
        for key in {row.endpoint for row in chosen}
    }
    leased = []
    for one in chosen:
        row = by_id.get(one.delivery)
        event = None if row is None else events.get(row.event)
        if row is None or event is None:
            # Without an event it has been deleted in this moment, and so has the delivery.
            continue
        to, standings = recipients[one.endpoint]
        kind = (event.type, row.is_by_hand, None if row.is_by_hand else rounds.get(one.endpoint))
        if kind not in standings:
            standings[kind] = _standing(endpoints[one.endpoint], *kind)
        body = bodies[row.event, row.variant] if row.variant else event.body
        leased.append(_leased(row, one.endpoint, event, body, to, standings[kind]))
    return leased


def _free(ids: Sequence[int], using: str) -> QuerySet[Delivery]:
    rows = Delivery.objects.using(using).filter(pk__in=ids, due_at__lte=Clock())
    return rows.filter(leased_at__isnull=True)


def _in_rounds(
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
            needs_round[row.delivery]
            for row in taken
            if row.delivery in needs_round and not row.is_by_hand
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
                row.is_by_hand,
                row.order_key is not None,
                (now - row.created_at).total_seconds(),
                row.variant,
            )
            for row in marked
        ]


def _select(using: str) -> QuerySet[Event, Any]:
    key = Cast("pk", TextField()) if _is_text(using) else F("pk")
    return Event._base_manager.using(using).values_list(key, *_Event._fields[1:])


_EVENTS = Prepared(_select)


def _events(keys: set[Any], *, using: str) -> dict[Any, _Event]:
    """Read messages, one for all deliveries of an event; their keys are as those that are given."""
    return {row[0]: _Event._make(row) for row in _EVENTS.among(keys, using=using)}


def _bodies(keys: set[Any], *, using: str) -> defaultdict[Any, Any]:
    """Read messages that only some deliveries of an event have; there may be none."""
    found: defaultdict[Any, Any] = defaultdict(lambda: None)
    if keys:
        rows = EventBody.objects.using(using).filter(event__in=keys)
        key = Cast("event", TextField()) if _is_text(using) else F("event")
        found.update({(row[0], row[1]): row[2] for row in rows.values_list(key, "variant", "body")})
    return found


def _is_text(using: str) -> bool:
    """Tell whether the keys of events are read as texts."""
    return connections[using].vendor == "postgresql"


def _recipient(row: Subscriber, refused: frozenset[Any], *, each: int) -> Recipient:
    return Recipient(
        url=row.url,
        method=row.method,
        format=row.format,
        headers=row.headers,
        secret=row.secret,
        old_secrets=row.old_secrets,
        owner=row.owner,
        limit=row.limit(each),
        blocks=row.on_dead == Endpoint.OnDead.BLOCK,
        may_receive=row.owner not in refused,
    )


def _standing(row: Subscriber, event_type: str, is_by_hand: bool, round_: int | None) -> Standing:
    is_clean = row.health__is_clean is not False
    return Standing(event_type, row.overrides or {}, is_clean, is_by_hand, round_)


def _leased(
    row: _Taken,
    endpoint: uuid.UUID,
    event: _Event,
    body: bytes | None,
    to: Recipient,
    standing: Standing,
) -> Leased:
    # By position, which is quicker, in the order of the fields.
    return Leased(
        row.delivery,
        row.fence,
        row.attempt_count,
        timedelta(seconds=max(row.age, 0.0)),
        Event.message_id_of(row.event),
        event.object_key,
        b"" if body is None else bytes(body),
        body is not None,
        endpoint,
        to,
        event.owner,
        standing,
        event.traceparent,
        event.sequence,
        row.is_ordered,
        event.depth,
        event.headers,
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
