"""Lease deliveries: a few statements for a batch, by the database's clock."""

import logging
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connections, transaction
from django.db.models import Case, F, Value, When

from drf_webhooks.clock import NOW, moment
from drf_webhooks.delivery.health_rows import Standing, begin_rounds, fill_rounds, may_be_sent
from drf_webhooks.models import Attempt, Delivery, EndpointHealth

__all__ = ["Leased", "database_now", "hand_back", "lease"]

logger = logging.getLogger(__name__)

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
    object_key: str
    body: bytes = field(repr=False)
    has_body: bool
    endpoint: uuid.UUID
    url: str
    method: str
    format: str
    headers: Mapping[str, str] = field(repr=False)
    secret: str = field(repr=False)
    event_owner: Any
    endpoint_owner: Any
    standing: Standing = field(default_factory=Standing)


def database_now(using: str) -> datetime:
    """Return what the database's clock says."""
    connection = connections[using]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {NOW[connection.vendor]}".replace("%%", "%"))
        (value,) = cursor.fetchone()
    return moment(value)


def lease(
    limit: int,
    *,
    using: str,
    length: timedelta,
    each: int,
    in_air: Mapping[uuid.UUID, int],
    attempts: int,
) -> list[Leased]:
    """Take deliveries that are due, so that no other worker sends them.

    Args:
        limit: How many at most.
        using: The database.
        length: How long they are held. Then they are due again.
        each: How many of one endpoint at most, with those that are in the air.
        in_air: How many this worker has in the air, by endpoint.
        attempts: How many each may have. One that has cost so many workers their life is dead.

    A delivery whose lease has ended was held by a worker that is lost: that is an attempt of
    which nobody knows what came, and the log says so.

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
            rows = rows.select_for_update(skip_locked=True)
        held = dict(rows.values_list("pk", "leased_at"))
        lost = [pk for pk, leased_at in held.items() if leased_at is not None]
        ids = list(held.keys() - _end_lost(lost, using=using, now=now, attempts=attempts))
        taken = Delivery.objects.using(using).filter(pk__in=ids, due_at__lte=now)
        # The mark of this claim: nobody else gives a row the same fence and the same end.
        until = now + length + timedelta(microseconds=uuid.uuid4().int % 1_000_000)
        taken.update(due_at=until, leased_at=now, fence=F("fence") + 1)
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


def _end_lost(lost: Sequence[int], *, using: str, now: datetime, attempts: int) -> set[int]:
    """Log the attempts of workers that are lost; return those deliveries that are dead of it."""
    if not lost:
        return set()
    rows = Delivery.objects.using(using).filter(pk__in=lost)
    logged = [
        Attempt(
            delivery_id=each.pk,
            number=each.attempt_count + 1,
            started_at=each.leased_at or now,
            duration=timedelta(0),
            url=each.endpoint.url,
            error="worker_lost",
            detail="The worker said nothing until its lease ended. It may have been sent.",
        )
        for each in rows.select_related("endpoint")
    ]
    Attempt.objects.using(using).bulk_create(logged)
    rows.update(attempt_count=F("attempt_count") + 1, leased_at=None, is_by_hand=False)
    logger.warning("%d deliveries were held by a worker that is lost.", len(logged))
    dead = {each.delivery_id for each in logged if each.number >= attempts}
    if dead:
        why = f"Given up after {attempts} attempts; the worker was lost in the last one."
        rows.filter(pk__in=dead).update(
            state=Delivery.State.DEAD, due_at=None, settled_at=now, reason=why
        )
        for pk in sorted(dead):
            logger.warning("Delivery %s is dead. %s", pk, why)
    return dead


def _leased(row: Delivery, now: datetime, rounds: Mapping[uuid.UUID, int]) -> Leased:
    health: EndpointHealth | None = getattr(row.endpoint, "health", None)
    return Leased(
        delivery=row.pk,
        fence=row.fence,
        attempt_count=row.attempt_count,
        age=max(now - row.created_at, timedelta(0)),
        message_id=row.event.message_id,
        object_key=row.event.object_key,
        body=b"" if row.event.body is None else bytes(row.event.body),
        has_body=row.event.body is not None,
        endpoint=row.endpoint.pk,
        url=row.endpoint.url,
        method=row.endpoint.method,
        format=row.endpoint.format,
        headers=row.endpoint.headers,
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
        ).update(due_at=now, leased_at=None)
        rounds = {
            each.endpoint: each.standing.round for each in leased if each.standing.round is not None
        }
        fill_rounds(rounds, {}, using=using)
