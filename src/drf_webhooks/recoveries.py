"""Recoveries: replays that owners ask for, and that workers carry out, a lot at a time.

Each lot is a transaction, in which how far it came is noted too. Who has waited the longest has
the next one, so that a recovery of millions holds up nobody's of ten.
"""

import logging
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Literal

from django.db import Error, transaction
from django.db.models import F, QuerySet

from drf_webhooks import replay
from drf_webhooks.clock import Clock, database_now
from drf_webhooks.exceptions import RecoveryError
from drf_webhooks.models import Delivery, DeliveryQuerySet, Endpoint, Recovery
from drf_webhooks.scoping import owner_key
from drf_webhooks.waking import wake_on_commit

__all__ = ["MOST", "ask", "cancel", "go_on"]

logger = logging.getLogger(__name__)

#: How many an owner may have that are not over.
MOST = 5
#: Deliveries or events in one lot: a worker delivers nothing meanwhile.
LOT = 100
#: How far ahead progress is counted.
COUNTED = 100_000

#: A worker that dies has lost a lot for so long.
_LEASE = timedelta(minutes=1)
_MOMENT = timedelta(seconds=1)
#: So many lots in a row that come to nothing end a recovery.
_MOST_TRIES = 10


class _TakenError(Exception):
    """Somebody else has gone on with a recovery, or has cancelled it."""


class _LostError(Exception):
    """A recovery that has nothing to be brought to any more; says why."""


def ask(
    kind: Literal["failed", "missing"],
    *,
    owner: Any,
    within: replay.Span,
    endpoint: uuid.UUID | None = None,
    is_anew: bool = False,
    using: str = "default",
) -> Recovery:
    """Have something sent again; returns at once.

    Args:
        kind: ``"failed"``: what died; ``"missing"``: what an endpoint would have heard.
        owner: Whose deliveries.
        within: When they died, or when the events were made.
        endpoint: One of the owner's; needed for what is missing.
        is_anew: Say new events of the objects as they are now, instead of the same messages.
        using: The database.

    Raises:
        RecoveryError: the owner has 5 that are not over.

    """
    with transaction.atomic(using=using):
        active = Recovery.objects.using(using).owned_by(owner).active()
        if active.count() >= MOST:
            msg = (
                f"{MOST} recoveries are not over yet. Wait for them, or cancel one: each takes up "
                "all that was asked for."
            )
            raise RecoveryError(msg)
        now = database_now(using)
        made = Recovery.objects.using(using).create(
            kind=kind,
            owner_id=owner_key(owner),
            endpoint_id=endpoint,
            since=within.since,
            until=within.until,
            is_anew=is_anew,
            # Past by every clock: SQLite compares texts, and counts in thousandths.
            due_at=now - _MOMENT,
            created_at=now,
        )
        wake_on_commit(using)
    return made


def cancel(pk: uuid.UUID, *, using: str = "default") -> bool:
    """End a recovery where it is; return ``False`` if it was over. What it did stays done."""
    waiting = Recovery.objects.using(using).filter(pk=pk).active()
    now = database_now(using)
    return bool(
        waiting.update(
            state=Recovery.State.CANCELLED, due_at=None, ended_at=now, turn=F("turn") + 1
        )
    )


def go_on(using: str, *, size: int = LOT, counted: int = COUNTED) -> int:
    """Do the next lot of the recovery that has waited the longest.

    Args:
        using: The database.
        size: Deliveries or events in the lot.
        counted: How far ahead progress is counted.

    Returns:
        How much was done; 0 if nothing is due.

    """
    found = _taken(using)
    if found is None:
        return 0
    try:
        _check_tries(found)
        if found.expected is None and not found.last_key:
            _mine(found, using).update(expected=_expected(found, using, counted))
        with transaction.atomic(using=using):
            # Locked until the end: on SQLite before anything is read, and elsewhere so that
            # who cancels it waits for the lot.
            _lock(found, using)
            lot = next(_lots(found, using, size), None)
            if lot is None:
                _end(found, Recovery.State.DONE, "", using)
            else:
                _note(found, lot, using)
                wake_on_commit(using)
    except _TakenError:
        logger.info("Recovery %s was cancelled, or taken by another worker.", found.pk)
    except _LostError as error:
        _end(found, Recovery.State.FAILED, str(error), using)
    except Error:
        # It is tried again after its lease, as is all that the worker does.
        raise
    except Exception as error:
        logger.exception("Recovery %s could not go on; it is tried again.", found.pk)
        said = f"{type(error).__name__}: the log has the details."
        _mine(found, using).update(error=said)
    return 1


def _taken(using: str) -> Recovery | None:
    """Take the one that has waited the longest, unless another worker was faster."""
    due = Recovery.objects.using(using).filter(due_at__lte=Clock()).order_by("due_at", "pk")
    found = due.first()
    if found is None:
        return None
    now = database_now(using)
    is_taken = _mine(found, using).update(
        state=Recovery.State.RUNNING,
        turn=F("turn") + 1,
        tries=F("tries") + 1,
        # Before anything else, so that one that brings workers down does not do so for long.
        due_at=now + _LEASE,
        started_at=found.started_at or now,
    )
    if not is_taken:
        return None
    found.turn += 1
    found.tries += 1
    return found


def _lock(found: Recovery, using: str) -> None:
    if not _mine(found, using).update(error=""):
        raise _TakenError


def _check_tries(found: Recovery) -> None:
    if found.tries > _MOST_TRIES:
        raise _LostError(found.error or "It was broken off again and again.")


def _mine(found: Recovery, using: str) -> QuerySet[Recovery]:
    return Recovery.objects.using(using).filter(pk=found.pk, turn=found.turn).active()


def _note(found: Recovery, lot: replay.Lot, using: str) -> None:
    at, key = lot.mark or (None, "")
    _mine(found, using).update(
        looked_at=F("looked_at") + lot.looked_at,
        replayed=F("replayed") + lot.replayed,
        last_at=at,
        last_key=str(key),
        due_at=Clock(),
        tries=0,
    )


def _end(found: Recovery, state: Recovery.State, error: str, using: str) -> None:
    _mine(found, using).update(state=state, due_at=None, ended_at=Clock(), error=error[:300])
    logger.info("Recovery %s is over: %s.", found.pk, state)


def _lots(found: Recovery, using: str, size: int) -> Iterator[replay.Lot]:
    within = replay.Span(found.since, found.until)
    if found.kind == Recovery.Kind.FAILED:
        after = (found.last_at, int(found.last_key)) if found.last_key else None
        return replay.replay_failed(
            within,
            using=using,
            deliveries=_deliveries(found, using),
            is_anew=found.is_anew,
            size=size,
            after=after,
        )
    after_event = (found.last_at, uuid.UUID(found.last_key)) if found.last_key else None
    return replay.replay_missing(
        _endpoint(found, using),
        within,
        using=using,
        is_anew=found.is_anew,
        size=size,
        after=after_event,
    )


def _deliveries(found: Recovery, using: str) -> DeliveryQuerySet:
    rows: DeliveryQuerySet = Delivery.objects.using(using).owned_by(found.owner_id)
    return rows if found.endpoint_id is None else rows.filter(endpoint=found.endpoint_id)


def _endpoint(found: Recovery, using: str) -> Endpoint:
    """Return the endpoint, which may have been given to somebody else meanwhile."""
    owned = Endpoint.objects.using(using).owned_by(found.owner_id)
    endpoint = owned.filter(pk__in=[found.endpoint_id]).first()
    if endpoint is None:
        msg = "The endpoint has another owner now."
        raise _LostError(msg)
    return endpoint


def _expected(found: Recovery, using: str, most: int) -> int | None:
    """Return how many rows there are to look at, or ``None`` if there are very many."""
    if found.kind == Recovery.Kind.FAILED:
        rows: QuerySet[Any] = _deliveries(found, using).failed(found.since, found.until)
        if not found.is_anew:
            rows = rows.filter(event__body__isnull=False)
    else:
        rows = replay.unheard(
            _endpoint(found, using),
            replay.Span(found.since, found.until),
            using=using,
            is_anew=found.is_anew,
        )
    count = rows.order_by()[: most + 1].count()
    return None if count > most else count
