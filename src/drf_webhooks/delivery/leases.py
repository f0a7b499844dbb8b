"""Lease deliveries: a few statements for a batch, by the database's clock."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connections, transaction
from django.db.models import Case, F, Value, When

from drf_webhooks.models import Delivery, Endpoint

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
    #: The trace of the change, or an empty text.
    traceparent: str = ""


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
    ids = _free(limit, using=using, now=now, each=each, in_air=in_air)
    if not ids:
        return []
    rows = Delivery.objects.using(using).filter(pk__in=ids, due_at__lte=now)
    connection = connections[using]
    with transaction.atomic(using=using):
        if connection.features.has_select_for_update_skip_locked:
            ids = list(rows.select_for_update(skip_locked=True).values_list("pk", flat=True))
        taken = Delivery.objects.using(using).filter(pk__in=ids, due_at__lte=now)
        # The mark of this claim: nobody else gives a row the same fence and the same end.
        until = now + length + timedelta(microseconds=uuid.uuid4().int % 1_000_000)
        taken.update(due_at=until, fence=F("fence") + 1)
        found = (
            Delivery.objects.using(using)
            .filter(pk__in=ids, due_at=until)
            .select_related("event", "endpoint")
            .order_by("created_at", "pk")
        )
        return [_leased(each_row, now) for each_row in found]


def _free(
    limit: int, *, using: str, now: datetime, each: int, in_air: Mapping[uuid.UUID, int]
) -> list[int]:
    """Return due deliveries of enabled endpoints, the oldest first, of many endpoints."""
    due = (
        Delivery.objects.using(using)
        .filter(due_at__lte=now, endpoint__state=Endpoint.State.ENABLED)
        .exclude(endpoint__in=[key for key, count in in_air.items() if count >= each])
        .order_by("due_at", "pk")
        .values_list("pk", "endpoint")
    )
    counts = dict(in_air)
    chosen = []
    # All at once: a cursor of the server would outlive its statement, and with a pool of
    # connections between us find itself on another one.
    for pk, endpoint in due[: limit * _WIDTH]:
        counts[endpoint] = counts.get(endpoint, 0) + 1
        if counts[endpoint] <= each:
            chosen.append(pk)
        if len(chosen) == limit:
            break
    return chosen


def _leased(row: Delivery, now: datetime) -> Leased:
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
        traceparent=row.event.traceparent,
    )


def hand_back(leased: Sequence[Leased], *, using: str) -> None:
    """Give up leases before anything was sent: the deliveries are due at once."""
    if leased:
        now = database_now(using)
        fences = [When(pk=each.delivery, then=Value(each.fence)) for each in leased]
        Delivery.objects.using(using).filter(
            pk__in=[each.delivery for each in leased], fence=Case(*fences)
        ).update(due_at=now)
