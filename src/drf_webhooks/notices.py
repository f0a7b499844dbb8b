"""Tell what became of endpoints: by a signal, by events to the owner's others, by the handler.

A notice is stored with what made it true, and due until everybody has it. The half that
delivers writes it, and nothing of that half is imported here: they meet in the table.
"""

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

from django.db import Error, connections, transaction
from django.db.models import F
from django.utils import timezone
from django.utils.module_loading import import_string

from drf_webhooks import event_types, numbering, outbox, signals
from drf_webhooks.changes import object_key
from drf_webhooks.conf import config
from drf_webhooks.json_text import encode
from drf_webhooks.messages import message
from drf_webhooks.models import Endpoint, Event, Notice

__all__ = ["RESOURCE", "Teller", "described", "make_event", "tell"]

logger = logging.getLogger(__name__)

#: What events about endpoints are of, where others name a resource.
RESOURCE = event_types.ENDPOINT

#: Who takes a notice and dies has lost it for so long.
_HOLD = timedelta(minutes=5)
_WAITS = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1))
_AT_ONCE = 100
#: How long the end of a process waits for what is being told.
_PATIENCE_SECONDS = 5

_TYPES = {
    Notice.Kind.FAILING: event_types.ENDPOINT_FAILING,
    Notice.Kind.TYPE_FAILING: event_types.ENDPOINT_TYPE_FAILING,
    Notice.Kind.DISABLED: event_types.ENDPOINT_DISABLED,
    Notice.Kind.ENABLED: event_types.ENDPOINT_ENABLED,
}
_SIGNALS = {
    Notice.Kind.FAILING: signals.endpoint_failing,
    Notice.Kind.TYPE_FAILING: signals.endpoint_type_failing,
    Notice.Kind.DISABLED: signals.endpoint_disabled,
    Notice.Kind.ENABLED: signals.endpoint_enabled,
}


def tell(using: str = "default", *, now: datetime | None = None) -> int:
    """Tell of the notices that are due; return how many everybody has now.

    Each is told by one process at a time. Its events are stored with the note that they are,
    and so exactly once. A receiver of its signal that raises is logged. Its handler is called
    again later if it raises.
    """
    now = now or timezone.now()
    due = (
        Notice.objects.using(using)
        .filter(due_at__lte=now)
        .select_related("endpoint")
        .order_by("due_at", "pk")
    )
    count = 0
    for notice in due[:_AT_ONCE]:
        mine = Notice.objects.using(using).filter(pk=notice.pk, due_at=notice.due_at)
        if mine.update(due_at=now + _HOLD, tries=F("tries") + 1):
            count += _tell(notice, using, now)
    return count


def _tell(notice: Notice, using: str, now: datetime) -> bool:
    stored = Notice.objects.using(using).filter(pk=notice.pk)
    if not notice.is_recorded:
        with transaction.atomic(using=using):
            _record(notice, using)
            stored.update(is_recorded=True)
    if not notice.is_signalled:
        signal = _SIGNALS[Notice.Kind(notice.kind)]
        # Logs what receivers raise.
        signal.send_robust(sender=Endpoint, endpoint=notice.endpoint, notice=notice)
        stored.update(is_signalled=True)
    try:
        path = config().NOTICE_HANDLER
        if path is not None:
            handler: Callable[[Notice], object] = import_string(path)
            handler(notice)
    except Exception as error:
        logger.exception("Notice %s could not be handed over; it is tried again.", notice.pk)
        wait = _WAITS[min(notice.tries, len(_WAITS) - 1)]
        said = f"{type(error).__name__}: {error}"[:300]
        stored.update(due_at=now + wait, error=said)
        return False
    stored.update(due_at=None, error="")
    return True


def _record(notice: Notice, using: str) -> None:
    """Write the event for those other endpoints of the same owner that subscribe to it."""
    kind = _TYPES[Notice.Kind(notice.kind)]
    matching = set(event_types.patterns(kind))
    others = (
        Endpoint.objects.using(using)
        # No event "for everybody": it would tell one owner of another's endpoint.
        .filter(**_owned(notice.endpoint), state=Endpoint.State.ENABLED)
        .exclude(pk=notice.endpoint_id)
        .values_list("pk", "event_types")
    )
    hearing = [pk for pk, heard in others if not matching.isdisjoint(heard)]
    if hearing:
        data = {
            **described(notice.endpoint),
            "reason": notice.reason,
            "event_type": notice.event_type or None,
            "failing_since": notice.failing_since,
        }
        event = make_event(notice.endpoint, kind, data, using=using, at=notice.created_at)
        outbox.write_to(event, hearing, using)


def _owned(endpoint: Endpoint) -> dict[str, Any]:
    return {"owner__isnull": True} if endpoint.owner_id is None else {"owner": endpoint.owner_id}


def make_event(
    endpoint: Endpoint, event_type: str, data: dict[str, Any], *, using: str, at: datetime
) -> Event:
    """Return an event about an endpoint, numbered and with its message, not stored yet."""
    key = object_key(endpoint.pk)
    numbers, _ = numbering.number([(RESOURCE, key)], using)
    sequence = numbers[RESOURCE, key]
    body = message(event_type, data=encode(data), sequence=sequence, at=at, object_key=key)
    return Event(
        type=event_type,
        resource=RESOURCE,
        object_key=key,
        sequence=sequence,
        owner_id=endpoint.owner_id,
        body=body,
        created_at=at,
    )


def described(endpoint: Endpoint) -> dict[str, Any]:
    """Return what others may know of an endpoint: its URL without a query, which may be secret."""
    parts = urlsplit(endpoint.url)
    return {
        "id": endpoint.pk,
        "url": urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")),
        "description": endpoint.description,
        "state": endpoint.state,
    }


class Teller:
    """Tells of notices in a thread of its own, while a ``with`` block lasts.

    So a mail server that does not answer delays no delivery.

    Args:
        using: The database.
        interval: How often to look.

    """

    def __init__(self, using: str, *, interval: timedelta) -> None:
        self._using = using
        self._interval = interval
        self._is_over = threading.Event()
        # A daemon: a process that ends does not wait for a mail server.
        self._thread = threading.Thread(target=self._run, name="drf_webhooks_notices", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self._thread.join(_PATIENCE_SECONDS)

    def _run(self) -> None:
        try:
            is_over = False
            while not is_over:
                # Asked before, so that what came until the end is told of too.
                is_over = self._is_over.wait(self._interval.total_seconds())
                self._tell()
        finally:
            connections.close_all()

    def _tell(self) -> None:
        try:
            self._tell_all()
        except Error:
            logger.exception("The database failed; notices are told of later.")
            connections[self._using].close_if_unusable_or_obsolete()
        except Exception:
            logger.exception("A notice could not be told of; it is tried again.")

    def _tell_all(self) -> None:
        tell(self._using)
