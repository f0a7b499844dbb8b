"""Lease deliveries: a few statements for a batch, by the database's clock."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.db import connections, transaction
from django.db.models import Case, DateTimeField, F, Func, QuerySet, Value, When

from drf_webhooks.delivery.rows import among
from drf_webhooks.models import Delivery, Endpoint, Event

__all__ = ["Claim", "Clock", "Leased", "claim", "database_now", "hand_back", "lease"]

_NOW = {
    "postgresql": "STATEMENT_TIMESTAMP()",
    "mysql": "UTC_TIMESTAMP(6)",
    "sqlite": "STRFTIME('%Y-%m-%d %H:%M:%f', 'NOW')",
}

#: How many times more due rows than wanted are looked at, to take from many endpoints.
_WIDTH = 4


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


@dataclass(frozen=True)
class Claim:
    """What a claim has taken; ``is_all`` if nothing else was due that could have been."""

    leased: list[Leased]
    is_all: bool


class _Endpoint(NamedTuple):
    """What sending needs of an endpoint; the names are those of its fields."""

    pk: uuid.UUID
    url: str
    secret: str
    owner: Any


class _Taken(NamedTuple):
    """A delivery that was leased."""

    delivery: int
    fence: int
    attempt_count: int
    event: uuid.UUID
    endpoint: uuid.UUID
    created_at: datetime
    now: datetime


_TAKE = """
UPDATE {table} d SET due_at = STATEMENT_TIMESTAMP() + %s, fence = d.fence + 1
FROM (
    SELECT id FROM {table} WHERE id = ANY(%s) AND due_at <= STATEMENT_TIMESTAMP()
    FOR UPDATE SKIP LOCKED
) free WHERE d.id = free.id
RETURNING d.id, d.fence, d.attempt_count, d.event_id, d.endpoint_id, d.created_at,
    STATEMENT_TIMESTAMP()
"""


class Clock(Func):
    """The database's clock, in its columns' own form."""

    template = "%(function)s"
    output_field = DateTimeField()

    def as_sql(self, compiler: Any, connection: Any, **context: Any) -> Any:  # type: ignore[override]  # narrower than typed
        return _NOW[connection.vendor].replace("%", "%%"), ()


def database_now(using: str) -> datetime:
    """Return what the database's clock says."""
    connection = connections[using]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {_NOW[connection.vendor]}")
        (value,) = cursor.fetchone()
    moment: datetime = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


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
) -> Claim:
    """Take deliveries that are due, in four statements for any number.

    Args:
        limit: How many at most.
        using: The database.
        length: How long they are held. Then they are due again.
        each: How many of one endpoint at most, with those that are in hand.
        in_air: How many this worker has in hand, by endpoint.

    """
    window = limit * _WIDTH
    rows = list(_due(using).order_by("due_at", "pk").values_list("pk", "endpoint")[:window])
    endpoints = _endpoints({endpoint for _, endpoint in rows}, using=using)
    chosen = _choose(rows, endpoints, limit=limit, each=each, in_air=in_air)
    if not chosen:
        return Claim([], is_all=not rows)
    taken = _take(chosen, using=using, length=length)
    events = _events({each_row.event for each_row in taken}, using=using)
    leased = [
        _leased(row, endpoints[row.endpoint], *events[row.event])
        for row in sorted(taken, key=lambda row: (row.created_at, row.delivery))
    ]
    return Claim(leased, is_all=len(chosen) == len(rows) < window)


def _due(using: str) -> QuerySet[Delivery]:
    return Delivery.objects.using(using).filter(due_at__lte=Clock())


def _endpoints(keys: set[uuid.UUID], *, using: str) -> dict[uuid.UUID, _Endpoint]:
    """Read endpoints that may be sent to."""
    if not keys:
        return {}
    enabled = among(Endpoint, keys, using=using).filter(state=Endpoint.State.ENABLED)
    return {row[0]: _Endpoint(*row) for row in enabled.values_list(*_Endpoint._fields)}


def _choose(
    rows: Sequence[tuple[int, uuid.UUID]],
    endpoints: Mapping[uuid.UUID, _Endpoint],
    *,
    limit: int,
    each: int,
    in_air: Mapping[uuid.UUID, int],
) -> list[int]:
    """Choose among due deliveries, the oldest first, of many endpoints."""
    counts = dict(in_air)
    chosen = []
    for pk, endpoint in rows:
        if endpoint in endpoints and counts.get(endpoint, 0) < each:
            counts[endpoint] = counts.get(endpoint, 0) + 1
            chosen.append(pk)
            if len(chosen) == limit:
                break
    return chosen


def _take(ids: Sequence[int], *, using: str, length: timedelta) -> list[_Taken]:
    """Lease those of some deliveries that are still due and that nobody else is taking."""
    connection = connections[using]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            held: list[Any] = [length, list(ids)]
            cursor.execute(_TAKE.format(table=Delivery._meta.db_table), held)
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


def _events(keys: set[uuid.UUID], *, using: str) -> dict[uuid.UUID, tuple[Any, Any]]:
    """Read messages, one for all deliveries of an event."""
    events = among(Event, keys, using=using)
    return {
        pk: (None if body is None else bytes(body), owner)
        for pk, body, owner in events.values_list("pk", "body", "owner")
    }


def _leased(row: _Taken, endpoint: _Endpoint, body: bytes | None, owner: Any) -> Leased:
    return Leased(
        delivery=row.delivery,
        fence=row.fence,
        attempt_count=row.attempt_count,
        age=max(row.now - row.created_at, timedelta(0)),
        message_id=Event.message_id_of(row.event),
        body=body or b"",
        has_body=body is not None,
        endpoint=row.endpoint,
        url=endpoint.url,
        secret=endpoint.secret,
        event_owner=owner,
        endpoint_owner=endpoint.owner,
    )


def hand_back(leased: Sequence[Leased], *, using: str) -> None:
    """Give up leases before anything was sent: the deliveries are due at once."""
    if leased:
        fences = [When(pk=each.delivery, then=Value(each.fence)) for each in leased]
        Delivery.objects.using(using).filter(
            pk__in=[each.delivery for each in leased], fence=Case(*fences)
        ).update(due_at=Clock())
