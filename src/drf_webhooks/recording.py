"""Number, serialize and write events: what remains once it is known what to say of which object."""

import logging
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any, cast

from django.db import connections
from django.utils import timezone

from drf_webhooks import outbox, payloads
from drf_webhooks.changes import Changes, Form, Found, Key, Operation, Subject, object_key
from drf_webhooks.conf import config
from drf_webhooks.exceptions import PayloadError
from drf_webhooks.models import Event
from drf_webhooks.tracing.index import index
from drf_webhooks.tracing.paths import Path, Resource
from drf_webhooks.tracing.resolver import CHUNK

__all__ = ["Entry", "is_rechecked", "park", "store"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One thing to say: of which object, what, and what was kept for saying it."""

    resource: Resource
    pk: Any
    operation: Operation
    found: tuple[Found, ...] | None = None
    event: uuid.UUID | None = None
    session: uuid.UUID | None = None
    #: How it looked before, if that is compared.
    before: Form | None = None
    #: The trace of the change, if it is not that of what is done now.
    traceparent: str = ""
    #: Where the change comes from, if it was stored before: the columns of the event.
    origin: Mapping[str, Any] | None = None
    #: Whether it is only said if the object differs from what was last said of it.
    is_recheck: bool = False

    @property
    def key(self) -> Key:
        """The primary key as text."""
        return object_key(self.pk)

    @property
    def type(self) -> str:
        """The event's type."""
        return self.resource.event_type(self.operation)

    @property
    def is_deferred(self) -> bool:
        """Whether the worker serializes it."""
        return self.resource.serialize == "deferred" and self.operation is not Operation.DELETED


def store(entries: list[Entry], using: str, *, is_last_resort: bool = False) -> None:
    """Number, serialize and write: constant in the number of objects and endpoints.

    Args:
        entries: Each about another object.
        using: The database.
        is_last_resort: The worker asks: nothing can be deferred or raised any more.

    """
    deferred = [] if is_last_resort else [each for each in entries if each.is_deferred]
    outbox.write([_deferred(each) for each in deferred], using, is_final=False)
    entries = [each for each in entries if each not in deferred] if deferred else entries
    if not entries:
        return
    # By the database's clock, which the worker goes by.
    numbers, at = outbox.number([(each.resource.base_name, each.key) for each in entries], using)
    events: list[Event] = []
    ids: set[uuid.UUID] = set()
    fresh = [_fresh(each, numbers) for each in entries if not _is_outdated(each, numbers)]
    said: set[Subject] = set()
    for entry, owner, data in _said(fresh, using):
        said.add((entry.resource, entry.key))
        sequence = numbers[entry.resource.base_name, entry.key]
        event = Event(
            type=entry.type,
            resource=entry.resource.base_name,
            object_key=entry.key,
            sequence=sequence,
            owner_id=payloads.owner_key(owner),
            session=entry.session,
            recheck_at=_recheck_at(entry, using, at),
            created_at=at,
        )
        event.traceparent = entry.traceparent or event.traceparent
        for name, value in (entry.origin or {}).items():
            setattr(event, name, value)
        if entry.event is not None and entry.event not in ids:
            event.pk = entry.event
            ids.add(entry.event)
        try:
            event.body = payloads.message(
                entry.type, data=data(), sequence=sequence, at=at, object_key=entry.key
            )
        except PayloadError as error:
            if config().ON_PAYLOAD_ERROR == "raise" and not is_last_resort:
                raise
            logger.exception("Event %s is parked.", event.pk)
            event.error = str(error)
        events.append(event)
    outbox.write(events, using, is_final=True)
    silent = [
        each
        for each in [*fresh, *(each for each in entries if each.is_recheck)]
        if each.before and (each.resource, each.key) not in said
    ]
    outbox.uncount([(each.resource.base_name, each.key) for each in silent], using)


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
    for start in range(0, len(parked), CHUNK):
        outbox.write(parked[start : start + CHUNK], using, is_final=True)
    logger.error("%d events are parked. %s", len(parked), reason, exc_info=error)


def _parked(resource: Resource, operation: Operation, key: Key, reason: str, at: datetime) -> Event:
    return Event(
        type=resource.event_type(operation),
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
    is_needed = entry.operation is not Operation.DELETED and not entry.is_recheck
    if after is None or not is_needed or not is_rechecked(entry.resource, using):
        return None
    return at + after


def _is_outdated(entry: Entry, numbers: Mapping[tuple[str, Key], int]) -> bool:
    """Tell whether something else was said of an object that is looked at once more."""
    if not entry.is_recheck or entry.before is None or entry.before.sequence is None:
        return False
    return numbers[entry.resource.base_name, entry.key] != entry.before.sequence + 1


def _fresh(entry: Entry, numbers: Mapping[tuple[str, Key], int]) -> Entry:
    """Forget how an object looked before if somebody else has said something of it since."""
    if entry.before is None or entry.before.sequence is None:
        return entry
    number = numbers[entry.resource.base_name, entry.key]
    return entry if number == entry.before.sequence + 1 else replace(entry, before=None)


def _settled(entry: Entry, row: payloads.Loaded | None) -> Entry | None:
    """Let an object that was not there before be created, and one that is gone deleted."""
    if entry.before is None:
        return entry
    was_there = entry.before.data is not None
    if entry.operation is Operation.DELETED:
        return entry if was_there else None
    if row is None:
        if entry.before.data is None or entry.is_recheck:
            return None
        is_whole = entry.resource.deleted_payload == "full"
        found = tuple(
            Found((owner,), data if is_whole else None) for owner, data in entry.before.data.items()
        )
        entry = replace(entry, operation=Operation.DELETED, found=found)
    elif not was_there:
        entry = replace(entry, operation=Operation.CREATED)
    return entry if entry.resource.emits(entry.operation) else None


def _said(entries: list[Entry], using: str) -> Iterator[tuple[Entry, Any, Callable[[], bytes]]]:
    """Give each entry once for each audience, with the function that makes its data."""
    loaded: dict[Subject, payloads.Loaded] = {}
    by_resource: dict[Resource, list[Entry]] = defaultdict(list)
    for entry in entries:
        if _needs_row(entry):
            by_resource[entry.resource].append(entry)
    for resource, some in by_resource.items():
        rows = payloads.load(resource, [each.pk for each in some], using)
        loaded |= {(resource, key): row for key, row in rows.items()}
    compared = [_settled(each, loaded.get((each.resource, each.key))) for each in entries]
    entries = [each for each in compared if each is not None]
    heard = _heard(entries, loaded, using)
    for entry in entries:
        row = loaded.get((entry.resource, entry.key))
        shared: Callable[[], bytes] | None = None
        for found in _audiences(entry, row):
            owner = found.owners[0]
            key = payloads.owner_key(owner)
            if entry.resource.is_scoped() and key not in heard[entry.resource]:
                continue
            if shared is None or found.data is not None or entry.resource.is_addressed():
                shared = _maker(entry, row, found)
            data = shared
            if entry.operation is not Operation.UPDATED or not _equals(entry, key, data):
                yield entry, owner, data


def _equals(entry: Entry, owner: Any, data: Callable[[], bytes]) -> bool:
    """Tell whether an object looks as it did before; one that cannot be serialized does not."""
    if entry.before is None or entry.before.data is None:
        return False
    if entry.is_recheck and owner not in entry.before.data:
        # Was told nothing that could be wrong.
        return True
    try:
        return data() == entry.before.data.get(owner)
    except PayloadError:
        return False


def _needs_row(entry: Entry) -> bool:
    if entry.operation is not Operation.DELETED:
        return True
    asks = entry.resource.is_scoped() or entry.resource.deleted_payload == "full"
    return entry.found is None and asks


def _audiences(entry: Entry, row: payloads.Loaded | None) -> tuple[Found, ...]:
    if entry.operation is Operation.DELETED and entry.found is not None:
        return entry.found
    if row is not None:
        return tuple(Found((owner,)) for owner in row.owners)
    if entry.operation is Operation.DELETED and not entry.resource.is_scoped():
        return (Found((None,)),)
    # Gone meanwhile, left out by get_queryset(), or deleted unseen with its owner unknown.
    return ()


def _maker(entry: Entry, row: payloads.Loaded | None, found: Found) -> Callable[[], bytes]:
    if found.data is not None:
        kept: bytes = found.data
        return lambda: kept
    if row is None or (
        entry.operation is Operation.DELETED and entry.resource.deleted_payload == "key"
    ):
        return lambda: payloads.key_data(entry.resource, entry.pk)
    instance, owner = row.instance, found.owners[0]
    return cache(lambda: payloads.data_of(entry.resource, instance, owner))


def _heard(
    entries: list[Entry], loaded: dict[Subject, payloads.Loaded], using: str
) -> dict[Resource, set[Any]]:
    """Return, for each resource with owners, those owners who have an endpoint for it."""
    owners: dict[Resource, set[Any]] = defaultdict(set)
    types: dict[Resource, set[str]] = defaultdict(set)
    for entry in entries:
        if entry.resource.is_scoped():
            types[entry.resource].add(entry.type)
            row = loaded.get((entry.resource, entry.key))
            owners[entry.resource] |= {
                payloads.owner_key(found.owners[0]) for found in _audiences(entry, row)
            }
    return {
        resource: outbox.listeners(types[resource], some, using) if some else set()
        for resource, some in owners.items()
    }


def _deferred(entry: Entry) -> Event:
    return Event(
        **({"id": entry.event} if entry.event is not None else {}),
        type=entry.type,
        resource=entry.resource.base_name,
        object_key=entry.key,
        session=entry.session,
        # Long past by every clock: due at once.
        held_until=timezone.now() - timedelta(days=1),
        created_at=timezone.now(),
    )
