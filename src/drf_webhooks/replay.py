"""Replay: bring endpoints what failed, or what they never heard, as it was said or said anew."""

import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from drf_webhooks.clock import database_now
from drf_webhooks.deliveries import again
from drf_webhooks.event_types import patterns
from drf_webhooks.history import variants_for
from drf_webhooks.models import Delivery, Endpoint, Event
from drf_webhooks.renewal import Wish, renew

__all__ = [
    "Lot",
    "Mark",
    "Span",
    "count_failed",
    "count_missing",
    "replay_chosen",
    "replay_failed",
    "replay_missing",
    "replay_one",
    "span",
    "unheard",
]

#: Deliveries or events in one transaction.
CHUNK = 500


@dataclass(frozen=True)
class Span:
    """From a moment on, up to another one."""

    since: datetime
    until: datetime


#: A place in the order of a replay: the time and the key of a delivery or an event.
Mark: TypeAlias = tuple[datetime | None, Any]


@dataclass(frozen=True)
class Lot:
    """What one transaction came to: how many it looked at, and how many are due now."""

    looked_at: int
    replayed: int
    #: How far it came: what follows in the order of a replay comes after it.
    mark: Mark | None = field(default=None, compare=False)


def span(since: datetime, *, using: str) -> Span:
    """Return the time from a moment until now, by the database's clock.

    Whoever replays the same span again goes on where a process died, and leaves alone what
    has failed a second time since.
    """
    return Span(since, database_now(using))


def count_failed(
    within: Span, *, using: str, endpoints: QuerySet[Endpoint] | None = None, is_anew: bool = False
) -> int:
    """Return how many deliveries :func:`replay_failed` would look at."""
    return _failed(within, using, endpoints, is_anew=is_anew).count()


def replay_failed(
    within: Span,
    *,
    using: str,
    endpoints: QuerySet[Endpoint] | None = None,
    deliveries: QuerySet[Delivery] | None = None,
    is_anew: bool = False,
    size: int = CHUNK,
    after: Mark | None = None,
) -> Iterator[Lot]:
    """Send again what died within a span of time, each delivery once; commit lot by lot.

    A delivery starts its schedule anew: its attempts are counted from 1, and its age from now.

    Args:
        within: When they died.
        using: The database.
        endpoints: Those of some endpoints only.
        deliveries: Among these only, as those that an owner may see.
        is_anew: Say new events of the objects as they are now, instead of the same messages.
        size: How many in one transaction.
        after: Where an earlier one came to; what comes before is not looked at again.

    """
    candidates = _failed(within, using, endpoints, is_anew=is_anew)
    if deliveries is not None:
        candidates = candidates.filter(pk__in=deliveries.using(using).values("pk"))
    candidates = candidates.order_by("settled_at", "pk")
    last = after
    while True:
        rest = candidates if last is None else candidates.filter(_after("settled_at", *last))
        found = list(rest.values_list("pk", "event", "settled_at")[:size])
        if not found:
            return
        last = (found[-1][2], found[-1][0])
        with transaction.atomic(using=using):
            events = _locked({event for _, event, _ in found}, using, is_anew=is_anew)
            rows = Delivery.objects.using(using).filter(
                pk__in=[pk for pk, _, _ in found],
                state=Delivery.State.DEAD,
                replaced_by=None,
                event__in=list(events),
            )
            count = _renewed(rows, events, using) if is_anew else _revive(rows, using)
        yield Lot(len(found), count, last)


def count_missing(
    endpoint: Endpoint, within: Span, *, using: str, is_anew: bool = False, size: int = CHUNK
) -> int:
    """Return how many events :func:`replay_missing` would bring; reads all of that time."""
    return sum(
        sum(_hears(endpoint, kind) for _, _, kind in found)
        for found in _unheard(endpoint, within, using, is_anew=is_anew, size=size)
    )


def replay_missing(
    endpoint: Endpoint,
    within: Span,
    *,
    using: str,
    is_anew: bool = False,
    size: int = CHUNK,
    after: Mark | None = None,
) -> Iterator[Lot]:
    """Send what an endpoint would have heard, had it been there; commit lot by lot.

    These are the stored events of its types and of its owner that have no delivery to it. What
    nobody listened to was not stored, nor what nobody listened to in its version of payloads:
    that can be said anew.

    Args:
        endpoint: Who hears it.
        within: When the events were made.
        using: The database.
        is_anew: Say new events of the objects as they are now, instead of the same messages.
        size: How many in one transaction.
        after: Where an earlier one came to; what comes before is not looked at again.

    """
    lots = _unheard(endpoint, within, using, is_anew=is_anew, size=size, after=after)
    for found in lots:
        wanted = {pk for pk, _, kind in found if _hears(endpoint, kind)}
        with transaction.atomic(using=using):
            events = _locked(wanted, using, is_anew=is_anew)
            # Asked again under the lock: somebody else may replay the same.
            heard = Delivery.objects.using(using).filter(endpoint=endpoint, event__in=list(events))
            for pk in heard.values_list("event", flat=True):
                del events[pk]
            now = database_now(using)
            if is_anew:
                wishes = [Wish(each, endpoint.pk) for each in events.values()]
                count = renew(wishes, using=using, now=now)
            else:
                chosen = variants_for(endpoint, events, using) if events else {}
                made = Delivery.objects.using(using).bulk_create(
                    Delivery(
                        event_id=pk,
                        variant=chosen[pk],
                        endpoint=endpoint,
                        due_at=now,
                        created_at=now,
                        lane=Delivery.Lane.RETRY,
                        sequence=event.sequence,
                    )
                    for pk, event in events.items()
                    if pk in chosen
                )
                count = len(made)
        yield Lot(len(found), count, (found[-1][1], found[-1][0]))


def replay_one(pk: int, *, using: str, is_anew: bool = False) -> Lot:
    """Send one delivery again, whatever became of it; ``replayed`` is 0 if that cannot be."""
    return replay_chosen([pk], using=using, is_anew=is_anew)


def replay_chosen(pks: Collection[int], *, using: str, is_anew: bool = False) -> Lot:
    """Send chosen deliveries again, whatever became of them, in one transaction."""
    rows = Delivery.objects.using(using).filter(pk__in=pks)
    with transaction.atomic(using=using):
        events = _locked(set(rows.values_list("event", flat=True)), using, is_anew=is_anew)
        rows = rows.filter(event__in=list(events))
        if not is_anew:
            return Lot(len(pks), _revive(rows, using))
        count = _renewed(rows, events, using)
        # Not both: the new event takes the place of what still waits.
        rows.filter(state=Delivery.State.WAITING).exclude(replaced_by=None).update(
            state=Delivery.State.DEAD,
            due_at=None,
            settled_at=database_now(using),
            fence=F("fence") + 1,
            leased_at=None,
            is_by_hand=False,
            order_key=None,
            reason="Said anew.",
        )
    return Lot(len(pks), count)


def _failed(
    within: Span, using: str, endpoints: QuerySet[Endpoint] | None, *, is_anew: bool
) -> QuerySet[Delivery]:
    rows = Delivery.objects.using(using).failed(within.since, within.until)
    if endpoints is not None:
        rows = rows.filter(endpoint__in=endpoints.using(using))
    return rows if is_anew else rows.filter(event__body__isnull=False)


def _locked(pks: set[uuid.UUID], using: str, *, is_anew: bool) -> dict[uuid.UUID, Event]:
    """Keep events as they are until the transaction ends, so that their messages stay."""
    events: Any = Event.objects.using(using).filter(pk__in=pks, held_until=None).order_by("pk")
    if not is_anew:
        events = events.filter(body__isnull=False).defer("body")
    return {each.pk: each for each in events.select_for_update()}


def _revive(rows: QuerySet[Delivery], using: str) -> int:
    """Make deliveries due now, with their whole schedule before them.

    Not long past, as one that is sent again by hand, and not among first attempts: what is new
    need not wait for many.
    """
    now = database_now(using)
    return rows.update(
        state=Delivery.State.WAITING,
        due_at=now,
        leased_at=None,
        lane=again(),
        is_by_hand=False,
        created_at=now,
        attempt_count=0,
        settled_at=None,
        reason="",
        fence=F("fence") + 1,
    )


def _renewed(rows: QuerySet[Delivery], events: dict[uuid.UUID, Event], using: str) -> int:
    locked = rows.select_for_update().values_list("pk", "event", "endpoint")
    wishes = [Wish(events[event], to, pk) for pk, event, to in locked]
    return renew(wishes, using=using, now=database_now(using))


def unheard(
    endpoint: Endpoint, within: Span, *, using: str, is_anew: bool = False
) -> QuerySet[Event]:
    """Return the events of a time that an endpoint's owner may hear and it did not.

    Of every type: which ones it wants is asked byte by byte, of each.
    """
    deliveries = Delivery.objects.using(using).filter(event=OuterRef("pk"), endpoint=endpoint)
    own = Q(origin_endpoint=endpoint.pk) if endpoint.ignores_own_changes else Q(pk__in=())
    events = (
        Event.objects.using(using)
        .audible_to(endpoint.owner_id)
        .filter(
            ~own,
            ~Exists(deliveries),
            created_at__gte=within.since,
            created_at__lt=within.until,
            held_until=None,
        )
    )
    return events if is_anew else events.filter(body__isnull=False)


def _unheard(
    endpoint: Endpoint,
    within: Span,
    using: str,
    *,
    is_anew: bool,
    size: int,
    after: Mark | None = None,
) -> Iterator[Sequence[tuple[uuid.UUID, datetime, str]]]:
    """Give them in lots."""
    events = unheard(endpoint, within, using=using, is_anew=is_anew).order_by("created_at", "pk")
    rest = events if after is None else events.filter(_after("created_at", *after))
    while found := list(rest.values_list("pk", "created_at", "type")[:size]):
        yield found
        rest = events.filter(_after("created_at", found[-1][1], found[-1][0]))


def _after(column: str, moment: datetime | None, pk: Any) -> Q:
    """Leave what comes after a row, in the order of a time and the key."""
    return Q(**{f"{column}__gte": moment}) & (
        Q(**{f"{column}__gt": moment}) | Q(**{column: moment, "pk__gt": pk})
    )


def _hears(endpoint: Endpoint, event_type: str) -> bool:
    return not set(patterns(event_type)).isdisjoint(endpoint.event_types)
