"""Lease deliveries: a few statements for a batch, by the database's clock."""

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connections, transaction
from django.db.models import Case, F, Value, When

from drf_webhooks.delivery.health_rows import Standing, begin_rounds, fill_rounds, may_be_sent
from drf_webhooks.models import Delivery, EndpointHealth

__all__ = ["Leased", "database_now", "hand_back", "lease"]

_NOW = {
    "postgresql": "STATEMENT_TIMESTAMP()",
    "mysql": "UTC_TIMESTAMP(6)",
    "sqlite": "STRFTIME('%Y-%m-%d %H:%M:%f', 'NOW')",
}

#: How many times more due rows than wanted are looked at, to take from many endpoints.
_WIDTH = 20


@dataclass(frozen=True)
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
    standing: Standing = field(default_factory=Standing)


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
    """Take deliveries that are due, so that no other worker sends them.

    Args:
        limit: How many at most.
        using: The database.
        length: How long they are held. Then they are due again.
        each: How many of one endpoint at most, with those that are in the air.
        in_air: How many this worker has in the air, by endpoint.

    """
    now = database_now(using)
    chosen = _free(limit, using=using, now=now, each=each, in_air=in_air)
    if not chosen:
        return []
    connection = connections[using]
    with transaction.atomic(using=using):
        recovering = {endpoint for endpoint in chosen.values() if endpoint is not None}
        rounds = begin_rounds(recovering, using=using, now=now, length=length)
        ids = [pk for pk, endpoint in chosen.items() if endpoint is None or endpoint in rounds]
        rows = Delivery.objects.using(using).filter(pk__in=ids, due_at__lte=now)
        if connection.features.has_select_for_update_skip_locked:
            ids = list(rows.select_for_update(skip_locked=True).values_list("pk", flat=True))
        taken = Delivery.objects.using(using).filter(pk__in=ids, due_at__lte=now)
        # The mark of this claim: nobody else gives a row the same fence and the same end.
        until = now + length + timedelta(microseconds=uuid.uuid4().int % 1_000_000)
        taken.update(due_at=until, fence=F("fence") + 1)
        found = (
            Delivery.objects.using(using)
            .filter(pk__in=ids, due_at=until)
            .select_related("event", "endpoint__health")
            .order_by("created_at", "pk")
        )
        leased = [_leased(each_row, now, rounds) for each_row in found]
        fill_rounds(rounds, _in_rounds(leased), using=using)
        return leased


def _free(
    limit: int, *, using: str, now: datetime, each: int, in_air: Mapping[uuid.UUID, int]
) -> dict[int, uuid.UUID | None]:
    """Return due deliveries that may be sent, the oldest first, of many endpoints.

    With each its endpoint, if that recovers and so needs a round.
    """
    due = (
        Delivery.objects.using(using)
        .filter(may_be_sent(now), due_at__lte=now)
        .exclude(endpoint__in=[key for key, count in in_air.items() if count >= each])
        .order_by("due_at", "pk")
        .values_list("pk", "endpoint", "endpoint__health__ramp", "is_by_hand")
    )
    counts = dict(in_air)
    rounds: Counter[uuid.UUID] = Counter()
    chosen: dict[int, uuid.UUID | None] = {}
    # All at once: a cursor of the server would outlive its statement, and with a pool of
    # connections between us find itself on another one.
    for pk, endpoint, ramp, is_by_hand in due[: limit * _WIDTH]:
        is_in_round = ramp is not None and not is_by_hand
        if counts.get(endpoint, 0) >= each or (is_in_round and rounds[endpoint] == ramp):
            continue
        counts[endpoint] = counts.get(endpoint, 0) + 1
        rounds[endpoint] += is_in_round
        chosen[pk] = endpoint if is_in_round else None
        if len(chosen) == limit:
            break
    return chosen


def _leased(row: Delivery, now: datetime, rounds: Mapping[uuid.UUID, int]) -> Leased:
    health: EndpointHealth | None = getattr(row.endpoint, "health", None)
    return Leased(
        delivery=row.pk,
        fence=row.fence,
        attempt_count=row.attempt_count,
        age=max(now - row.created_at, timedelta(0)),
        message_id=row.event.message_id,
        body=b"" if row.event.body is None else bytes(row.event.body),
        has_body=row.event.body is not None,
        endpoint=row.endpoint.pk,
        url=row.endpoint.url,
        secret=row.endpoint.secret,
        event_owner=row.event.owner_id,
        endpoint_owner=row.endpoint.owner_id,
        standing=Standing(
            event_type=row.event.type,
            overrides=row.endpoint.overrides or {},
            is_clean=health is None or health.is_clean,
            is_by_hand=row.is_by_hand,
            round=None if row.is_by_hand else rounds.get(row.endpoint.pk),
        ),
    )


def _in_rounds(leased: Sequence[Leased]) -> Counter[uuid.UUID]:
    return Counter(each.endpoint for each in leased if each.standing.round is not None)


def hand_back(leased: Sequence[Leased], *, using: str) -> None:
    """Give up leases before anything was sent: the deliveries are due at once."""
    if leased:
        now = database_now(using)
        fences = [When(pk=each.delivery, then=Value(each.fence)) for each in leased]
        Delivery.objects.using(using).filter(
            pk__in=[each.delivery for each in leased], fence=Case(*fences)
        ).update(due_at=now)
        rounds = {
            each.endpoint: each.standing.round for each in leased if each.standing.round is not None
        }
        fill_rounds(rounds, {}, using=using)
