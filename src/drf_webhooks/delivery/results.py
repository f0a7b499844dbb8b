"""Settle leases: store what came of attempts, many in one transaction."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q

from drf_webhooks.delivery.failures import NO_TIMING, Timing
from drf_webhooks.delivery.health_rows import Heard, charge
from drf_webhooks.delivery.leases import Leased, database_now
from drf_webhooks.models import Attempt, Delivery

__all__ = ["Result", "settle"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What came of one attempt. ``wait`` is set if there is to be another one."""

    leased: Leased
    started_at: datetime
    duration: timedelta
    state: Delivery.State
    wait: timedelta | None = None
    reason: str = ""
    disables: str = ""
    status: int | None = None
    error: str = ""
    detail: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    end: str = ""
    timing: Timing = NO_TIMING


def settle(results: Sequence[Result], *, using: str) -> int:
    """Store what came of attempts; return how many were refused as too late.

    A result is refused if the lease ended and another worker took the delivery: its fence is
    a higher one. The attempt is logged all the same, since the receiver saw it.
    """
    if not results:
        return 0
    now = database_now(using)
    with transaction.atomic(using=using):
        kept = _settle_delivered([each for each in results if _is_plain(each)], using, now)
        kept += [each for each in results if not _is_plain(each) and _settle_one(each, using, now)]
        known = results if len(kept) == len(results) else _known(results, using)
        Attempt.objects.using(using).bulk_create([_attempt(each) for each in known])
        # Last, so that the rows of endpoints are locked for as short as can be.
        charge([_heard(each) for each in kept if not _is_unremarkable(each)], using=using, now=now)
    refused = len(results) - len(kept)
    if refused:
        logger.warning("%d results came after their lease and were refused.", refused)
    return refused


def _known(results: Sequence[Result], using: str) -> list[Result]:
    """Return those whose delivery still exists: its endpoint may have been deleted meanwhile."""
    ids = [each.leased.delivery for each in results]
    known = set(Delivery.objects.using(using).filter(pk__in=ids).values_list("pk", flat=True))
    return [each for each in results if each.leased.delivery in known]


def _is_plain(result: Result) -> bool:
    return result.state == Delivery.State.DELIVERED and not result.disables


def _is_unremarkable(result: Result) -> bool:
    """Tell whether it is a success of an endpoint that is well: the most there are."""
    return _is_plain(result) and result.leased.standing.is_clean


def _heard(result: Result) -> Heard:
    leased = result.leased
    return Heard(
        leased.endpoint,
        leased.standing,
        result.status,
        result.error,
        result.headers,
        result.disables,
    )


def _settle_delivered(results: Sequence[Result], using: str, now: datetime) -> list[Result]:
    """Settle the many in one statement; return those that were not refused."""
    if not results:
        return []
    held = Q()
    by_fence: dict[int, list[int]] = {}
    for each in results:
        by_fence.setdefault(each.leased.fence, []).append(each.leased.delivery)
    for fence, ids in by_fence.items():
        held |= Q(pk__in=ids, fence=fence)
    count = (
        Delivery.objects.using(using)
        .filter(held, state=Delivery.State.WAITING)
        .update(
            state=Delivery.State.DELIVERED,
            due_at=None,
            leased_at=None,
            settled_at=now,
            attempt_count=F("attempt_count") + 1,
            is_by_hand=False,
        )
    )
    if count == len(results):
        return list(results)
    kept = Delivery.objects.using(using).filter(held, settled_at=now).values_list("pk", flat=True)
    kept_ids = set(kept)
    return [each for each in results if each.leased.delivery in kept_ids]


def _settle_one(result: Result, using: str, now: datetime) -> bool:
    held = Delivery.objects.using(using).filter(
        pk=result.leased.delivery, fence=result.leased.fence, state=Delivery.State.WAITING
    )
    is_over = result.wait is None
    kept = held.update(
        state=result.state,
        due_at=None if result.wait is None else now + result.wait,
        leased_at=None,
        settled_at=now if is_over else None,
        attempt_count=F("attempt_count") + 1,
        reason=result.reason[:200],
        is_by_hand=False,
        # The same result, settled again after a commit whose answer was lost, is too late.
        fence=F("fence") + 1,
    )
    if kept and is_over and result.state == Delivery.State.DEAD:
        logger.warning("Delivery %s is dead. %s", result.leased.delivery, result.reason)
    return bool(kept)


def _attempt(result: Result) -> Attempt:
    return Attempt(
        delivery_id=result.leased.delivery,
        number=result.leased.attempt_count + 1,
        started_at=result.started_at,
        duration=result.duration,
        url=result.leased.url,
        status=result.status,
        error=result.error,
        detail=result.detail or result.reason[:500],
        response_headers=[list(pair) for pair in result.headers],
        response_body=result.body,
        response_end=result.end,
        looked_up_in=result.timing.look_up,
        connected_in=result.timing.connect,
        answered_in=result.timing.answer,
    )
