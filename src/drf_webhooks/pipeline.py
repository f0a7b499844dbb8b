"""The whole story of recording: find base objects, number them, serialize, store."""

import logging
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Model
from django.utils import timezone

from drf_webhooks import outbox, payloads
from drf_webhooks.changes import Changes, Found, Held, Key, Operation, Subject, merge, object_key
from drf_webhooks.conf import config
from drf_webhooks.event_types import Interest
from drf_webhooks.exceptions import PayloadError
from drf_webhooks.models import Event
from drf_webhooks.registry import registry
from drf_webhooks.session import is_disabled
from drf_webhooks.tracing.paths import Resource, index
from drf_webhooks.tracing.resolver import CHUNK, resolve
from drf_webhooks.transactions import Log

__all__ = ["Pipeline", "release_due"]

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


class Pipeline:
    """What sessions call when there is something to store."""

    def record(self, changes: Changes, log: Log) -> None:
        """Store the final events of some changes in the open transaction."""
        for batch in _batches(_entries(changes, log.using, log.interest)):
            _store(batch, log.using)

    def hold(
        self,
        changes: Changes,
        log: Log,
        *,
        session: uuid.UUID,
        held: dict[Subject, Held],
        interest: Interest,
    ) -> dict[Subject, Held | None]:
        """Store events without payload that wait for the end of their session.

        Each is removed and written again when the session says more of its object, so that
        its hold always ends after the last change.
        """
        entries = _entries(changes, log.using, interest)
        known = {entry: held.get((entry.resource, entry.key)) for entry in entries}
        ids = [each for row in known.values() if row is not None for each in row.events]
        alive = {each.pk for each in outbox.take(ids, log.using)} if ids else set()
        result: dict[Subject, Held | None] = {}
        rows: list[Event] = []
        until = timezone.now() + config().SESSION_HOLD
        for entry, before in known.items():
            operation: Operation | None = entry.operation
            # A worker may have released it, if the session lasted longer than its hold.
            if before is not None and alive.intersection(before.events):
                operation = merge(before.operation, entry.operation)
            subject = (entry.resource, entry.key)
            result[subject] = None
            if operation is not None:
                new = _held_rows(replace(entry, operation=operation), session, until)
                rows += new
                result[subject] = Held(tuple(each.pk for each in new), entry.pk, operation)
        for start in range(0, len(rows), CHUNK):
            outbox.write(rows[start : start + CHUNK], log.using, is_final=False)
        return result

    def release(self, held: dict[Subject, Held], using: str) -> None:
        """Serialize held events as their objects are now, and make their deliveries."""
        _release(outbox.take([each for row in held.values() for each in row.events], using), using)

    def note(self, changes: Changes, model: type[Model], pk: Any, operation: Operation) -> None:
        """Note that an object changed, as its signals would."""
        concrete: Any = model._meta.concrete_model
        for resource in index().bases.get(concrete, ()):
            if not is_disabled(resource):
                changes.note_base(resource, pk, operation)
        for path in index().nested.get(concrete, ()):
            if is_disabled(path.resource):
                continue
            changes.note_nested(path, [pk])


def release_due(using: str = "default") -> int:
    """Serialize and release held events whose hold is over; return how many there were.

    These are the events of deferred resources, and those of sessions that never came to
    their end because their process died.
    """
    released = 0
    while True:
        with transaction.atomic(using=using):
            events = outbox.due(using, limit=CHUNK)
            _release(events, using, is_last_resort=True)
        released += len(events)
        if len(events) < CHUNK:
            return released


def _entries(changes: Changes, using: str, interest: Interest) -> list[Entry]:
    """Return what is to be said and what somebody wants to hear, in order."""
    said = resolve(changes, using, is_wanted=lambda each: is_wanted(each, using, interest))
    entries = [
        Entry(resource, noted.pk, noted.operation, noted.found)
        for (resource, _), noted in said.items()
        if noted.operation is not None and resource.emits(noted.operation)
    ]
    wanted = outbox.wanted({each.type for each in entries}, using, interest)
    return [each for each in entries if each.type in wanted]


def is_wanted(resource: Resource, using: str, interest: Interest) -> bool:
    """Tell whether anybody subscribes to anything that a resource says."""
    return bool(outbox.wanted(resource.event_types(), using, interest))


def _batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Cut entries into lots of bounded size in which each object is named once."""
    batch: dict[Subject, Entry] = {}
    for entry in entries:
        subject = (entry.resource, entry.key)
        if len(batch) == CHUNK or subject in batch:
            yield list(batch.values())
            batch = {}
        batch[subject] = entry
    if batch:
        yield list(batch.values())


def _held_rows(entry: Entry, session: uuid.UUID, until: datetime) -> list[Event]:
    """Return the rows that hold one thing to say; a deleted object's one for each owner."""
    common = {
        "type": entry.type,
        "resource": entry.resource.base_name,
        "object_key": entry.key,
        "session": session,
        "held_until": until,
        "created_at": timezone.now(),
    }
    if entry.operation is not Operation.DELETED or entry.found is None:
        return [Event(**common)]
    return [
        Event(**common, owner_id=payloads.owner_key(found.owners[0]), body=found.data)
        for found in entry.found
    ]


def _release(events: list[Event], using: str, *, is_last_resort: bool = False) -> None:
    entries: dict[Any, Entry] = {}
    orphans = []
    for event in events:
        resource = registry.get(event.resource)
        if resource is None:
            orphans.append(_parked(event, f"No resource is named {event.resource!r} any more."))
            continue
        operation = Operation(event.type.rpartition(".")[2])
        found: tuple[Found, ...] | None = None
        if event.owner_id is not None or event.body is not None:
            found = (Found((event.owner_id,), None if event.body is None else bytes(event.body)),)
        subject = (event.resource, event.object_key, event.session)
        known = entries.get(subject)
        if known is not None and known.operation is Operation.DELETED and known.found and found:
            entries[subject] = replace(known, found=known.found + found)
            continue
        if known is not None:
            operation = merge(known.operation, operation) or operation
        pk = payloads.primary_key(resource.model, event.object_key)
        entries[subject] = Entry(resource, pk, operation, found, event.pk, event.session)
    outbox.write(orphans, using, is_final=True)
    for batch in _batches(entries.values()):
        _store(batch, using, is_last_resort=is_last_resort)


def _store(entries: list[Entry], using: str, *, is_last_resort: bool = False) -> None:
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
    numbers = outbox.number([(each.resource.base_name, each.key) for each in entries], using)
    at = timezone.now()
    events: list[Event] = []
    for entry, owner, data in _said(entries, using):
        sequence = numbers[entry.resource.base_name, entry.key]
        event = Event(
            type=entry.type,
            resource=entry.resource.base_name,
            object_key=entry.key,
            sequence=sequence,
            owner_id=payloads.owner_key(owner),
            session=entry.session,
            created_at=at,
        )
        if entry.event is not None and entry.event not in {each.pk for each in events}:
            event.pk = entry.event
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
    heard = _heard(entries, loaded, using)
    for entry in entries:
        row = loaded.get((entry.resource, entry.key))
        for found in _audiences(entry, row):
            owner = found.owners[0]
            if (
                entry.resource.is_scoped()
                and payloads.owner_key(owner) not in heard[entry.resource]
            ):
                continue
            yield entry, owner, _maker(entry, row, found)


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
    return lambda: payloads.data_of(entry.resource, instance, owner)


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


def _parked(event: Event, reason: str) -> Event:
    logger.error("Event %s is parked. %s", event.pk, reason)
    event.held_until = None
    event.body = None
    event.error = reason
    return event
