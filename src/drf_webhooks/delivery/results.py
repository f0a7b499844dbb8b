"""Settle leases: store what came of attempts, many in one transaction."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connections, transaction
from django.db.models import F

from drf_webhooks.clock import database_now
from drf_webhooks.delivery.failures import NO_TIMING, Timing
from drf_webhooks.delivery.health_rows import Heard, charge
from drf_webhooks.delivery.leases import Leased
from drf_webhooks.delivery.rows import as_json, insert
from drf_webhooks.models import Attempt, Delivery
from drf_webhooks.signals import SettledAttempt, attempts_settled

__all__ = ["Result", "settle"]

logger = logging.getLogger(__name__)

#: Characters of a reason that are kept.
_REASON = 200


@dataclass(slots=True)
class Result:
    """What came of one attempt. ``wait`` is set if there is to be another one.

    Not changed once made, as a lease is not.
    """

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
    is_public: bool | None = None

    @property
    def leads_on(self) -> bool:
        """Whether something of the same endpoint may be due now that was not before.

        A round of its recovery is over, or soon will be; or the next of the object may go.
        """
        is_head = self.leased.is_ordered and not self.keeps_place
        return is_head or self.leased.standing.round is not None

    @property
    def keeps_place(self) -> bool:
        """Whether the rest of its object waits for the delivery still, with ordering."""
        return self.wait is not None or (
            self.state == Delivery.State.DEAD and self.leased.to.blocks
        )


def settle(results: Sequence[Result], *, using: str) -> int:
    """Store what came of attempts; return how many were refused as too late.

    A result is refused if the lease ended and another worker took the delivery: its fence is
    a higher one. The attempt is logged all the same, since the receiver saw it.
    """
    if not results:
        return 0
    with transaction.atomic(using=using):
        settled = _settle(results, using)
        kept = [each for each in results if each.leased.delivery in settled]
        known = results if len(kept) == len(results) else _known(results, using)
        if known:
            insert(Attempt, [_attempt(each) for each in known], using=using)
        remarkable = [_heard(each) for each in kept if not _is_unremarkable(each)]
        if remarkable:
            # Last, so that the rows of endpoints are locked for as short as can be.
            charge(remarkable, using=using, now=database_now(using))
    for each in kept:
        if each.state == Delivery.State.DEAD:
            logger.warning("Delivery %s is dead. %s", each.leased.delivery, each.reason)
    refused = len(results) - len(kept)
    if refused:
        logger.warning("%d results came after their lease and were refused.", refused)
    if attempts_settled.has_listeners(Delivery):
        told = tuple(_told(each) for each in results)
        attempts_settled.send_robust(Delivery, attempts=told, refused=refused, using=using)
    return refused


def _known(results: Sequence[Result], using: str) -> list[Result]:
    """Return those whose delivery still exists: its endpoint may have been deleted meanwhile."""
    ids = [each.leased.delivery for each in results]
    known = set(Delivery.objects.using(using).filter(pk__in=ids).values_list("pk", flat=True))
    return [each for each in results if each.leased.delivery in known]


def _told(result: Result) -> SettledAttempt:
    return SettledAttempt(
        delivery=result.leased.delivery,
        endpoint=result.leased.endpoint,
        message_id=result.leased.message_id,
        number=result.leased.attempt_count + 1,
        started_at=result.started_at,
        duration=result.duration,
        state=str(result.state),
        status=result.status,
        error=result.error,
    )


def _is_unremarkable(result: Result) -> bool:
    """Tell whether it is a success of an endpoint that is well: the most there are."""
    is_plain = result.state == Delivery.State.DELIVERED and not result.disables
    return is_plain and result.leased.standing.is_clean


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


_SETTLE = """
UPDATE {table} d SET state = r.state, due_at = STATEMENT_TIMESTAMP() + r.wait, leased_at = NULL,
    settled_at = CASE WHEN r.wait IS NULL THEN STATEMENT_TIMESTAMP() END,
    attempt_count = d.attempt_count + 1, reason = r.reason, is_by_hand = FALSE,
    lane = CASE WHEN r.keeps AND d.order_key IS NOT NULL THEN 2 ELSE 1 END,
    order_key = CASE WHEN r.keeps THEN d.order_key END
FROM jsonb_to_recordset(%s::jsonb)
    AS r(id bigint, fence int, attempts int, state text, wait interval, reason text,
        keeps boolean)
WHERE d.id = r.id AND d.fence = r.fence AND d.attempt_count = r.attempts AND d.state = 'waiting'
RETURNING d.id
"""


def _settle(results: Sequence[Result], using: str) -> set[int]:
    """Store what becomes of deliveries, and return those whose lease still held.

    A result that is stored twice is refused the second time, by the count of attempts.
    """
    connection = connections[using]
    if connection.vendor != "postgresql":
        return _settle_locked(results, using)
    rows = [
        {
            "id": each.leased.delivery,
            "fence": each.leased.fence,
            "attempts": each.leased.attempt_count,
            "state": each.state.value,
            "wait": each.wait,
            "reason": each.reason[:_REASON],
            "keeps": each.keeps_place,
        }
        for each in results
    ]
    with connection.cursor() as cursor:
        cursor.execute(_SETTLE.format(table=Delivery._meta.db_table), [as_json(rows)])
        return {pk for (pk,) in cursor.fetchall()}


def _settle_locked(results: Sequence[Result], using: str) -> set[int]:
    """Do the same on databases that do not return what an update has changed."""
    connection = connections[using]
    by_id = {each.leased.delivery: each for each in results}
    rows = Delivery.objects.using(using).filter(pk__in=list(by_id), state=Delivery.State.WAITING)
    if connection.features.has_select_for_update:
        locked = rows.select_for_update()
    else:
        # SQLite: take its one lock before anything is read that may change until then.
        rows.update(fence=F("fence"))
        locked = rows
    kept = [
        by_id[pk]
        for pk, fence, attempts in locked.values_list("pk", "fence", "attempt_count")
        if (by_id[pk].leased.fence, by_id[pk].leased.attempt_count) == (fence, attempts)
    ]
    if kept:
        _update(kept, using)
    return {each.leased.delivery for each in kept}


def _update(kept: Sequence[Result], using: str) -> None:
    """Give each delivery its own values, in one statement."""
    now = database_now(using)
    moment = connections[using].ops.adapt_datetimefield_value
    columns: dict[str, list[Any]] = {
        "state": [str(each.state) for each in kept],
        "due_at": [None if each.wait is None else moment(now + each.wait) for each in kept],
        "settled_at": [moment(now) if each.wait is None else None for each in kept],
        "reason": [each.reason[:_REASON] for each in kept],
    }
    ids = [each.leased.delivery for each in kept]
    branches = " ".join(["WHEN %s THEN %s"] * len(ids))
    changes = ", ".join(f"{column} = CASE id {branches} END" for column in columns)
    kept_ids = [each.leased.delivery for each in kept if each.keeps_place] or [0]
    keeps = f"id IN ({', '.join(['%s'] * len(kept_ids))})"
    parameters = [
        part
        for values in columns.values()
        for pair in zip(ids, values, strict=True)
        for part in pair
    ]
    with connections[using].cursor() as cursor:
        cursor.execute(
            f"UPDATE {Delivery._meta.db_table} SET attempt_count = attempt_count + 1, "  # noqa: S608  # names of a table and of columns
            "leased_at = NULL, is_by_hand = FALSE, "
            f"lane = CASE WHEN order_key IS NOT NULL AND {keeps} THEN 2 ELSE 1 END, "
            f"order_key = CASE WHEN {keeps} THEN order_key END, {changes} "
            f"WHERE id IN ({', '.join(['%s'] * len(ids))})",
            [*kept_ids, *kept_ids, *parameters, *ids],
        )


def _attempt(result: Result) -> dict[str, Any]:
    return {
        "delivery_id": result.leased.delivery,
        "number": result.leased.attempt_count + 1,
        "started_at": result.started_at,
        "duration": result.duration,
        "url": result.leased.to.url,
        "status": result.status,
        "error": result.error,
        "detail": result.detail or result.reason[:500],
        "response_headers": [list(pair) for pair in result.headers],
        "response_body": result.body,
        "response_end": result.end,
        "is_public": result.is_public,
        "looked_up_in": result.timing.look_up,
        "connected_in": result.timing.connect,
        "answered_in": result.timing.answer,
    }
