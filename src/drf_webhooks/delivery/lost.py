"""What becomes of deliveries whose worker said nothing until its lease ended."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import connections
from django.db.models import Case, F, Q, Value, When

from drf_webhooks.deliveries import again
from drf_webhooks.models import Attempt, Delivery, Endpoint

__all__ = ["end_lost"]

logger = logging.getLogger(__name__)


def end_lost(
    ids: Sequence[int], *, using: str, now: datetime, schedule: Sequence[timedelta]
) -> None:
    """Log the attempts of workers that are lost, in the open transaction of a claim.

    Those that have had all their attempts are dead. The others are held by nobody, and due
    after their wait, as after an attempt that failed: perhaps one of them killed the worker.

    Args:
        ids: Deliveries that are due and have a ``leased_at``; the others are left alone, and
            those that another worker is taking.
        using: The database.
        now: What the database's clock says.
        schedule: The waits between attempts.

    """
    rows = Delivery.objects.using(using).filter(
        pk__in=ids, due_at__lte=now, leased_at__isnull=False
    )
    if connections[using].features.has_select_for_update_skip_locked:
        locked = rows.select_for_update(skip_locked=True).values_list("pk", flat=True)
        rows = rows.filter(pk__in=list(locked))
    found = list(rows.select_related("endpoint"))
    if not found:
        return
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
        for each in found
    ]
    Attempt.objects.using(using).bulk_create(logged)
    lost = Delivery.objects.using(using).filter(pk__in=[each.pk for each in found])
    lost.update(
        attempt_count=F("attempt_count") + 1, leased_at=None, is_by_hand=False, lane=again()
    )
    logger.warning("%d deliveries were held by a worker that is lost.", len(logged))
    waits = [
        When(attempt_count=number, then=Value(now + schedule[number - 1]))
        for number in sorted({each.number for each in logged})
        if number <= len(schedule)
    ]
    if waits:
        lost.update(due_at=Case(*waits, default=F("due_at")))
    dead = sorted(each.delivery_id for each in logged if each.number > len(schedule))
    if not dead:
        return
    why = f"Given up after {len(schedule) + 1} attempts; the worker was lost in the last one."
    ended = lost.filter(pk__in=dead)
    ended.update(state=Delivery.State.DEAD, due_at=None, settled_at=now, reason=why)
    blocking = {each.pk for each in found if each.endpoint.on_dead == Endpoint.OnDead.BLOCK}
    ended.exclude(Q(order_key=None) | Q(pk__in=blocking)).update(order_key=None)
    for pk in dead:
        logger.warning("Delivery %s is dead. %s", pk, why)
