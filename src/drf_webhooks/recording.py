"""Number, serialize and write events: what remains once it is known what to say of which object."""

import logging
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

from django.db import connections
from django.utils import timezone

from drf_webhooks import numbering, outbox, payloads, telling
from drf_webhooks.changes import Changes, Key, Operation, Subject, object_key
from drf_webhooks.conf import config
from drf_webhooks.event_types import Interest
from drf_webhooks.exceptions import PayloadError
from drf_webhooks.messages import Text, Variants, headers_of, message, variants
from drf_webhooks.models import Event
from drf_webhooks.telling import Entry, Told
from drf_webhooks.tracing.index import index
from drf_webhooks.tracing.paths import Path, Resource
from drf_webhooks.tracing.resolver import CHUNK

__all__ = ["Entry", "is_rechecked", "park", "store"]

logger = logging.getLogger(__name__)


def store(
    entries: list[Entry], using: str, interest: Interest, *, is_last_resort: bool = False
) -> None:
    """Number, serialize and write: constant in the number of objects and endpoints.

    Args:
        entries: Each about another object.
        using: The database.
        interest: What was asked of endpoints before, in this unit of work.
        is_last_resort: The worker asks: nothing can be deferred or raised any more.

    """
    deferred = [] if is_last_resort else [each for each in entries if each.is_deferred]
    outbox.write([_deferred(each) for each in deferred], using, is_final=False)
    entries = [each for each in entries if each not in deferred] if deferred else entries
    if not entries:
        return
    # By the database's clock, which the worker goes by.
    numbers, at = numbering.number([(each.resource.base_name, each.key) for each in entries], using)
    events: list[Event] = []
    written: dict[uuid.UUID, Variants] = {}
    ids: set[uuid.UUID] = set()
    fresh = [_fresh(each, numbers) for each in entries if not _is_outdated(each, numbers)]
    said: set[Subject] = set()
    for each in telling.told(fresh, using, interest):
        entry = each.entry
        said.add((entry.resource, entry.key))
        sequence = numbers[entry.resource.base_name, entry.key]
        event = Event(
            type=entry.type,
            resource=entry.resource.base_name,
            object_key=entry.key,
            sequence=sequence,
            owner_id=payloads.owner_key(each.owner),
            session=entry.session,
            recheck_at=_recheck_at(entry, using, at),
            created_at=at,
        )
        if entry.resource.retention is not None:
            event.kept_until = at + entry.resource.retention
        event.traceparent = entry.traceparent or event.traceparent
        for name, value in (entry.origin or {}).items():
            setattr(event, name, value)
        if entry.event is not None and entry.event not in ids:
            event.pk = entry.event
            ids.add(entry.event)
        try:
            found = _write(event, each, at)
        except PayloadError as error:
            if config().ON_PAYLOAD_ERROR == "raise" and not is_last_resort:
                raise
            logger.exception("Event %s is parked.", event.pk)
            event.error = str(error)
        else:
            if found:
                written[event.pk] = found
        events.append(event)
    outbox.write(events, using, is_final=True, variants=written)
    silent = [
        each
        for each in [*fresh, *(each for each in entries if each.is_recheck)]
        if each.may_be_silent and (each.resource, each.key) not in said
    ]
    numbering.uncount([(each.resource.base_name, each.key) for each in silent], using)


def _write(event: Event, said: Told, at: datetime) -> Variants:
    """Give an event its message, and return how else it is written."""
    resource, entry = said.entry.resource, said.entry
    texts = [
        Text(
            version,
            message(
                event.type,
                data=said.write(version),
                sequence=event.sequence or 0,
                at=at,
                object_key=event.object_key,
                version=version,
                previous=said.previous(version),
            ),
        )
        for version in said.versions
    ]
    found = variants(resource, entry.pk, texts, said.ways, name=entry.custom)
    if resource.has_headers():
        event.headers = headers_of(resource, event.type, said.instance, said.owner)
    event.body, event.version = texts[-1].body, texts[-1].version
    return found


def park(changes: Changes, error: Exception, using: str) -> None:
    """Store what is known of changes whose events could not be recorded, and why.

    Of nested rows the objects above them are not known: one event for each path names the rows.
    """
    reason = f"Could not be recorded: {type(error).__name__}: {error}"
    at = timezone.now()
    parked = [
        _parked(resource, noted.operation, key, reason, at)
        for (resource, key), noted in [*changes.bases.items(), *changes.above.items()]
        if noted.operation is not None
    ]
    nested = cast("dict[Path, dict[Any, int]]", changes.nested)
    for path, rows in nested.items():
        named = ", ".join(object_key(pk) for pk in rows)
        more = f"{reason} Rows of {path.model._meta.label} that changed: {named}."
        parked.append(_parked(path.resource, Operation.UPDATED, object_key(None), more, at))
    parked += [
        _parked(each.resource, each.name, object_key(each.pk), reason, at)
        for each in changes.emitted
    ]
    for start in range(0, len(parked), CHUNK):
        outbox.write(parked[start : start + CHUNK], using, is_final=True)
    logger.error("%d events are parked. %s", len(parked), reason, exc_info=error)


def _parked(resource: Resource, name: str, key: Key, reason: str, at: datetime) -> Event:
    return Event(
        type=resource.event_type(name),
        resource=resource.base_name,
        object_key=key,
        created_at=at,
        error=reason,
    )


def is_rechecked(resource: Resource, using: str) -> bool:
    """Tell whether objects of a resource are looked at once more after an event.

    Only a form that is built from several rows can miss a part; SQLite has one writer at a time.
    """
    return (
        config().RECHECK_AFTER is not None
        and connections[using].vendor != "sqlite"
        and resource.recheck
        and resource in index().composed
    )


def _recheck_at(entry: Entry, using: str, at: datetime) -> datetime | None:
    """Return when the object is looked at once more, if it may have missed something."""
    after = config().RECHECK_AFTER
    is_needed = not (entry.is_deletion or entry.custom or entry.is_recheck)
    if after is None or not is_needed or not is_rechecked(entry.resource, using):
        return None
    return at + after


def _is_outdated(entry: Entry, numbers: Mapping[tuple[str, Key], int]) -> bool:
    """Tell whether something else was said of an object that is looked at once more."""
    if not entry.is_recheck or entry.before is None or entry.before.sequence is None:
        return False
    number = numbers[entry.resource.base_name, entry.key]
    return number != entry.before.sequence + 1 + entry.ahead


def _fresh(entry: Entry, numbers: Mapping[tuple[str, Key], int]) -> Entry:
    """Forget how an object looked before if somebody else has said something of it since."""
    if entry.before is None or entry.before.sequence is None:
        return entry
    number = numbers[entry.resource.base_name, entry.key]
    is_fresh = number == entry.before.sequence + 1 + entry.ahead
    return entry if is_fresh else replace(entry, before=None)


def _deferred(entry: Entry) -> Event:
    return Event(
        **({"id": entry.event} if entry.event is not None else {}),
        type=entry.type,
        resource=entry.resource.base_name,
        object_key=entry.key,
        session=entry.session,
        body=entry.extra,
        # Long past by every clock: due at once.
        held_until=timezone.now() - timedelta(days=1),
        created_at=timezone.now(),
    )
