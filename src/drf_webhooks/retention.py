"""Retention: forget messages and attempts first and events later, little at a time."""

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connections, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from drf_webhooks.models import Attempt, Delivery, Event, EventBody, Notice

__all__ = ["Bite", "count", "prune"]

#: Events in one transaction.
EVENTS = 500

#: Attempts or deliveries in one statement: an event may have had thousands.
ROWS = 5000


@dataclass(frozen=True)
class Bite:
    """What one transaction has forgotten."""

    messages: int = 0
    attempts: int = 0
    deliveries: int = 0
    events: int = 0
    notices: int = 0

    def __add__(self, other: "Bite") -> "Bite":
        return Bite(
            self.messages + other.messages,
            self.attempts + other.attempts,
            self.deliveries + other.deliveries,
            self.events + other.events,
            self.notices + other.notices,
        )


def prune(
    *,
    using: str,
    now: datetime,
    payloads: timedelta | None,
    events: timedelta | None,
    size: int = EVENTS,
    rows: int = ROWS,
) -> Iterator[Bite]:
    """Forget what is old, a short transaction for each bite; the caller sets the pace.

    What somebody else holds at the moment is left for the next time, and so nobody waits. A
    delivery that is not settled keeps its event, with its message; so do a session that is
    open and an object that is to be looked at once more.

    Args:
        using: The database.
        now: What ages are counted to.
        payloads: How long messages and attempts are kept; ``None`` for as long as events.
        events: How long events, deliveries and notices are kept; ``None`` for ever. An event
            whose resource has a retention of its own is kept for that time, message and all.
        size: How many events in one transaction.
        rows: How many attempts or deliveries in one statement.

    """
    if payloads is not None:
        kept = Event.objects.using(using).filter(
            retired_at=None, kept_until=None, created_at__lt=now - payloads
        )
        for lot in _lots(kept.order_by("retired_at", "created_at", "pk"), size):
            yield from _attempts(lot, using, rows)
            yield _retire(lot, using, now)
    if events is not None:
        old = Event.objects.using(using).filter(kept_until=None, created_at__lt=now - events)
        yield from _whole(_lots(old.order_by("created_at", "pk"), size), using, rows)
        yield from _notices(using, now - events, rows)
    own = Event.objects.using(using).filter(kept_until__lt=now).order_by("kept_until", "pk")
    yield from _whole(_lots(own, size, "kept_until"), using, rows)


def count(
    *, using: str, now: datetime, payloads: timedelta | None, events: timedelta | None
) -> Bite:
    """Return how many messages and events :func:`prune` would forget; reads all of them."""
    rows = _idle(Event.objects.using(using), using)
    kept = rows.filter(retired_at=None, kept_until=None)
    is_old = Q(kept_until__lt=now)
    if events is not None:
        is_old |= Q(kept_until=None, created_at__lt=now - events)
    return Bite(
        messages=0 if payloads is None else kept.filter(created_at__lt=now - payloads).count(),
        events=rows.filter(is_old).count(),
    )


def _lots(
    candidates: QuerySet[Event], size: int, moment: str = "created_at"
) -> Iterator[list[uuid.UUID]]:
    """Give the keys of all candidates in order, each once.

    What must stay is passed over, and not looked at again and again: endpoints that are
    disabled may have any number of deliveries that wait.
    """
    rest = candidates
    while found := list(rest.values_list("pk", moment)[:size]):
        yield [pk for pk, _ in found]
        pk, at = found[-1]
        after = Q(**{f"{moment}__gt": at}) | Q(**{moment: at, "pk__gt": pk})
        rest = candidates.filter(after, **{f"{moment}__gte": at})


def _whole(lots: Iterable[list[uuid.UUID]], using: str, rows: int) -> Iterator[Bite]:
    """Forget events with everything that hangs under them."""
    for lot in lots:
        yield from _attempts(lot, using, rows)
        yield from _deliveries(lot, using, rows)
        yield _delete(lot, using)


def _idle(events: QuerySet[Event], using: str) -> QuerySet[Event]:
    """Leave those that nobody needs any more."""
    waiting = Delivery.objects.using(using).filter(
        event=OuterRef("pk"), state=Delivery.State.WAITING
    )
    return events.filter(~Exists(waiting), held_until=None, recheck_at=None)


def _lock(rows: QuerySet[Any], using: str) -> list[Any]:
    """Lock rows that nobody else holds, and return their keys."""
    skips = connections[using].features.has_select_for_update_skip_locked
    locked = rows.select_for_update(skip_locked=skips, of=_itself(using))
    return list(locked.values_list("pk", flat=True))


def _itself(using: str) -> tuple[str, ...]:
    return ("self",) if connections[using].features.has_select_for_update_of else ()


def _idle_locked(lot: list[uuid.UUID], using: str) -> list[uuid.UUID]:
    """Lock events, and then ask which of them are idle: so nobody can need one in between."""
    rows = Event.objects.using(using)
    locked = _lock(rows.filter(pk__in=lot), using)
    return list(_idle(rows.filter(pk__in=locked), using).values_list("pk", flat=True))


def _attempts(lot: list[uuid.UUID], using: str, rows: int) -> Iterator[Bite]:
    idle = _idle(Event.objects.using(using).filter(pk__in=lot), using)
    keys = list(idle.values_list("pk", flat=True))
    attempts = Attempt.objects.using(using).filter(delivery__event__in=keys)
    gone = rows
    while keys and gone == rows:
        with transaction.atomic(using=using):
            found = _lock(attempts[:rows], using)
            Attempt.objects.using(using).filter(pk__in=found).delete()
        gone = len(found)
        if gone:
            yield Bite(attempts=gone)


def _deliveries(lot: list[uuid.UUID], using: str, rows: int) -> Iterator[Bite]:
    gone = rows
    while gone == rows:
        with transaction.atomic(using=using):
            idle = _idle_locked(lot, using)
            settled = Delivery.objects.using(using).filter(event__in=idle)
            found = _lock(settled.exclude(state=Delivery.State.WAITING)[:rows], using)
            Delivery.objects.using(using).filter(pk__in=found).delete()
        gone = len(found)
        if gone:
            yield Bite(deliveries=gone)


def _retire(lot: list[uuid.UUID], using: str, now: datetime) -> Bite:
    with transaction.atomic(using=using):
        keys = _idle_locked(lot, using)
        EventBody.objects.using(using).filter(event__in=keys).delete()
        idle = Event.objects.using(using).filter(pk__in=keys)
        return Bite(messages=idle.update(body=None, headers=None, retired_at=now))


def _delete(lot: list[uuid.UUID], using: str) -> Bite:
    with transaction.atomic(using=using):
        idle = Event.objects.using(using).filter(pk__in=_idle_locked(lot, using))
        bare = idle.filter(~Exists(Delivery.objects.using(using).filter(event=OuterRef("pk"))))
        return Bite(events=_delete_rows(bare))


def _delete_rows(events: QuerySet[Event]) -> int:
    keys = list(events.values_list("pk", flat=True))
    Event.objects.using(events.db).filter(pk__in=keys).delete()
    return len(keys)


def _notices(using: str, until: datetime, rows: int) -> Iterator[Bite]:
    """Forget what everybody has been told of."""
    told = Notice.objects.using(using).filter(due_at=None, created_at__lt=until)
    gone = rows
    while gone == rows:
        with transaction.atomic(using=using):
            found = _lock(told.order_by("pk")[:rows], using)
            Notice.objects.using(using).filter(pk__in=found).delete()
        gone = len(found)
        if gone:
            yield Bite(notices=gone)
