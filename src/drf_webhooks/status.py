"""Status: how far deliveries are, by a constant number of queries of bounded cost."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Min, Q, QuerySet

from drf_webhooks.clock import database_now
from drf_webhooks.models import Attempt, Delivery, Endpoint
from drf_webhooks.scoping import EVERYBODY

__all__ = ["Backlog", "Behind", "Number", "Rate", "Status", "backlog", "read"]

#: Rows that one query reads at most.
LIMIT = 10_000

#: Endpoints that are named at most.
NAMED = 20

_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)
_IS_SUCCESS = Q(status__gte=200, status__lt=300)


@dataclass(frozen=True)
class Number:
    """So many; or at least so many, if no more were counted."""

    value: int
    is_least: bool = False

    def __str__(self) -> str:
        return f"{self.value}+" if self.is_least else f"{self.value}"


@dataclass(frozen=True)
class Rate:
    """Attempts of the last ``length``, and how many of them failed.

    If there were more than are read, it is estimated from the newest ones.
    """

    length: timedelta
    per_second: float
    failed_per_second: float
    is_estimate: bool

    def __str__(self) -> str:
        about = "~" if self.is_estimate else ""
        return f"{about}{self.per_second:.1f}/s, {about}{self.failed_per_second:.1f}/s failed"


@dataclass(frozen=True)
class Backlog:
    """What is to be delivered, at a moment of the database's clock.

    ``failing`` has had an attempt that failed and will have another one. ``oldest_due_at`` is
    of endpoints that are enabled and not paused: what waits for others is meant to. ``None`` if
    nothing is due.
    """

    at: datetime
    waiting: Number
    failing: Number
    oldest_due_at: datetime | None

    @property
    def oldest_age(self) -> timedelta:
        """For how long the oldest one has been due."""
        return timedelta(0) if self.oldest_due_at is None else self.at - self.oldest_due_at


@dataclass(frozen=True)
class Behind:
    """An endpoint with deliveries that are due, among those that were read."""

    endpoint: uuid.UUID
    url: str
    state: str
    due: int
    failing: int
    oldest_due_at: datetime


@dataclass(frozen=True)
class Status:
    """All that is known at a glance."""

    backlog: Backlog
    endpoints: Mapping[str, int]
    dead: Number
    dead_last_hour: Number
    last_minute: Rate
    last_hour: Rate
    behind: tuple[Behind, ...]


def backlog(*, using: str, limit: int = LIMIT, owner: Any = EVERYBODY) -> Backlog:
    """Return what is to be delivered, of an owner or of all; counts no further than ``limit``."""
    now = database_now(using)
    lanes = _lanes(using, owner)
    is_paused = Q(endpoint__health__paused_until__gt=now)
    is_heard = Q(endpoint__state=Endpoint.State.ENABLED, due_at__lte=now) & ~is_paused
    found = [
        waiting[:limit].aggregate(
            waiting=Count("pk"),
            failing=Count("pk", filter=Q(attempt_count__gt=0)),
            oldest=Min("due_at", filter=is_heard),
        )
        for waiting in lanes
    ]
    count = sum(each["waiting"] for each in found)
    oldest = [each["oldest"] for each in found if each["oldest"] is not None]
    for each, waiting in zip(found, lanes, strict=True):
        if each["oldest"] is None and each["waiting"] == limit:
            # All that was read waits for endpoints that are disabled or paused: an alarm must
            # not rely on it.
            first = waiting.filter(is_heard).values_list("due_at", flat=True).first()
            oldest += [first] if first is not None else []
    return Backlog(
        at=now,
        waiting=Number(min(count, limit), count >= limit),
        failing=Number(min(sum(each["failing"] for each in found), limit), count >= limit),
        oldest_due_at=min(oldest, default=None),
    )


def _deliveries(using: str, owner: Any) -> QuerySet[Delivery]:
    rows = Delivery.objects.using(using)
    return rows if owner is EVERYBODY else rows.owned_by(owner)


def _lanes(using: str, owner: Any) -> list[QuerySet[Delivery]]:
    """Return what waits in each lane, in the order of its index: the first are read quickly."""
    waiting = _deliveries(using, owner).filter(due_at__isnull=False).order_by("due_at")
    return [waiting.filter(lane=lane) for lane in Delivery.Lane.values]


def read(*, using: str, limit: int = LIMIT, owner: Any = EVERYBODY) -> Status:
    """Return the status; no query reads more than ``limit`` rows, but that of endpoints.

    Of one owner it may look at more: at what waits for others too, to find what is its own.
    """
    found = backlog(using=using, limit=limit, owner=owner)
    endpoints = Endpoint.objects.using(using)
    if owner is not EVERYBODY:
        endpoints = endpoints.owned_by(owner)
    states = endpoints.values("state").annotate(count=Count("pk"))
    counts = dict.fromkeys(Endpoint.State.values, 0)
    counts |= {each["state"]: each["count"] for each in states.order_by("state")}
    dead, lately = _dead(using, owner, limit, found.at)
    minute, hour = _rates(using, owner, limit, found.at)
    return Status(
        backlog=found,
        endpoints=counts,
        dead=dead,
        dead_last_hour=lately,
        last_minute=minute,
        last_hour=hour,
        behind=_behind(using, owner, limit, found.at),
    )


def _dead(using: str, owner: Any, limit: int, now: datetime) -> tuple[Number, Number]:
    rows = _deliveries(using, owner).filter(state=Delivery.State.DEAD, replaced_by=None)
    found = rows.order_by("-settled_at")[:limit].aggregate(
        dead=Count("pk"), lately=Count("pk", filter=Q(settled_at__gte=now - _HOUR))
    )
    is_least = found["dead"] == limit
    return (
        Number(found["dead"], is_least),
        Number(found["lately"], is_least and found["lately"] == limit),
    )


def _rates(using: str, owner: Any, limit: int, now: datetime) -> tuple[Rate, Rate]:
    """Read the newest attempts by their keys: in about the order in which they were made."""
    attempts = Attempt.objects.using(using)
    if owner is not EVERYBODY:
        attempts = attempts.owned_by(owner)
    newest = attempts.order_by("-pk")[:limit]
    asked: dict[str, Any] = {"read": Count("pk"), "first": Min("started_at")}
    for name, length in (("minute", _MINUTE), ("hour", _HOUR)):
        since = Q(started_at__gte=now - length)
        asked[name] = Count("pk", filter=since)
        asked[f"{name}_good"] = Count("pk", filter=since & _IS_SUCCESS)
    found = newest.aggregate(**asked)

    def rate(name: str, length: timedelta) -> Rate:
        # More than were read: those that were tell how fast it goes.
        is_estimate = found["read"] == limit and found["first"] > now - length
        covered = now - found["first"] if is_estimate else length
        seconds = max(covered.total_seconds(), 1)
        failed = found[name] - found[f"{name}_good"]
        return Rate(length, found[name] / seconds, failed / seconds, is_estimate)

    return rate("minute", _MINUTE), rate("hour", _HOUR)


def _behind(using: str, owner: Any, limit: int, now: datetime) -> tuple[Behind, ...]:
    """Return the endpoints whose deliveries are the longest due, of those that are read."""
    found: list[tuple[datetime, uuid.UUID, int]] = []
    for waiting in _lanes(using, owner):
        due = waiting.filter(due_at__lte=now)
        lane = due.values_list("due_at", "endpoint", "attempt_count")[:limit]
        found += [(at or now, endpoint, attempts) for at, endpoint, attempts in lane]
    rows: dict[uuid.UUID, list[tuple[datetime, int]]] = {}
    for at, endpoint, attempts in sorted(found)[:limit]:
        rows.setdefault(endpoint, []).append((at, attempts))
    named = list(rows)[:NAMED]
    known = Endpoint.objects.using(using).only("url", "state").in_bulk(named)
    return tuple(
        Behind(
            endpoint=key,
            url=known[key].url,
            state=known[key].state,
            due=len(rows[key]),
            failing=sum(attempts > 0 for _, attempts in rows[key]),
            oldest_due_at=rows[key][0][0],
        )
        for key in named
        if key in known
    )
