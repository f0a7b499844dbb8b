"""The whole story of recording: find base objects, number them, serialize, store."""

import logging
import uuid
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol, cast

from django.db import connections, transaction
from django.db.models import Model
from django.utils import timezone

from drf_webhooks import learning, outbox, payloads
from drf_webhooks.changes import (
    Changes,
    Form,
    Found,
    Held,
    Key,
    Operation,
    Subject,
    merge,
)
from drf_webhooks.conf import config
from drf_webhooks.event_types import Interest
from drf_webhooks.exceptions import PayloadError
from drf_webhooks.models import Event
from drf_webhooks.recording import Entry, park, store
from drf_webhooks.registry import registry
from drf_webhooks.session import is_disabled
from drf_webhooks.tracing.index import index
from drf_webhooks.tracing.paths import Path, Resource
from drf_webhooks.tracing.resolver import CHUNK, resolve
from drf_webhooks.transactions import Log, log_of

__all__ = ["Pipeline", "Source", "keep_house", "recheck_due", "release_due", "sources"]

logger = logging.getLogger(__name__)


class Source(Protocol):
    """Who else knows of changes, beside what the ORM's own writes note."""

    def complete(self, noted: Mapping[Hashable, Changes], log: Log) -> None:
        """Add what the open transaction did and nobody noted, before it is recorded.

        Args:
            noted: What is about to be recorded, by session; at least one.
            log: What else the transaction has noted.

        """

    def relay(self, using: str) -> int:
        """Record what was committed and nobody has taken; return how many rows that were."""


#: In the order in which they are asked.
sources: list[Source] = []


class Pipeline:
    """What sessions call when there is something to store."""

    def complete(self, noted: Mapping[Hashable, Changes], log: Log) -> None:
        """Add what the open transaction did and only other sources know."""
        # What a source could not add, it relays later.
        with _guarded(log.using, lambda _: None):
            for source in sources:
                source.complete(noted, log)

    def record(
        self,
        changes: Changes,
        log: Log,
        forms: Mapping[Subject, Form],
        *,
        is_last_resort: bool = False,
    ) -> None:
        """Store the final events of some changes in the open transaction."""
        with _guarded(log.using, lambda error: park(changes, error, log.using)):
            self._record(changes, log, forms, is_last_resort=is_last_resort)

    def _record(
        self,
        changes: Changes,
        log: Log,
        forms: Mapping[Subject, Form],
        *,
        is_last_resort: bool,
    ) -> None:
        for batch in _batches(_entries(changes, log.using, log.interest, forms)):
            store(batch, log.using, is_last_resort=is_last_resort)
        _keep(log.using)

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
        with _guarded(log.using, lambda error: park(changes, error, log.using)):
            return self._hold(changes, log, session=session, held=held, interest=interest)
        return {}

    def _hold(
        self,
        changes: Changes,
        log: Log,
        *,
        session: uuid.UUID,
        held: dict[Subject, Held],
        interest: Interest,
    ) -> dict[Subject, Held | None]:
        entries = _entries(changes, log.using, interest, {})
        known = {entry: held.get((entry.resource, entry.key)) for entry in entries}
        ids = [each for row in known.values() if row is not None for each in row.events]
        alive = {each.pk for each in outbox.take(ids, log.using)} if ids else set()
        operations: dict[Entry, Operation | None] = {}
        for entry, before in known.items():
            # A worker may have released it, if the session lasted longer than its hold.
            is_held = before is not None and alive.intersection(before.events)
            operations[entry] = (
                merge(before.operation, entry.operation)
                if before is not None and is_held
                else entry.operation
            )
        gone = {
            (each.resource.base_name, each.key): each for each, op in operations.items() if not op
        }
        for subject in outbox.heard(gone, log.using):
            # It came and went, but meanwhile somebody else has said something of it.
            operations[gone[subject]] = Operation.DELETED
        result: dict[Subject, Held | None] = {}
        rows: list[Event] = []
        for entry, operation in operations.items():
            place = (entry.resource, entry.key)
            result[place] = None
            if operation is not None:
                new = _held_rows(replace(entry, operation=operation), session)
                rows += new
                result[place] = Held(tuple(each.pk for each in new), entry.pk, operation)
        for start in range(0, len(rows), CHUNK):
            outbox.write(
                rows[start : start + CHUNK],
                log.using,
                is_final=False,
                held_for=config().SESSION_HOLD,
            )
        return result

    def release(self, held: dict[Subject, Held], using: str, forms: Mapping[Subject, Form]) -> None:
        """Serialize held events as their objects are now, and make their deliveries."""
        events = outbox.take([each for row in held.values() for each in row.events], using)
        _release(events, using, forms)

    def withdraw(self, changes: Changes, log: Log) -> None:
        """Leave out second looks at objects that changed and are not to be said.

        One statement if no such object had an event of late.
        """
        # What cannot be withdrawn is said, and true.
        with _guarded(log.using, lambda _: None):
            _withdraw(changes, log.using)

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


def _withdraw(changes: Changes, using: str) -> None:
    nested = cast("dict[Path, Any]", changes.nested)
    resources = {path.resource for path in nested} | changes.whole
    resources |= {resource for resource, _ in changes.bases}
    waiting = outbox.rechecked([each.base_name for each in resources], using)
    whole = [each.base_name for each in changes.whole if each.base_name in waiting]
    outbox.withdraw(whole, None, using)
    left = waiting - set(whole)
    keys: dict[str, list[Key]] = defaultdict(list)
    for resource, key in resolve(changes, using, is_wanted=lambda each: each.base_name in left):
        keys[resource.base_name].append(key)
    for name, found in keys.items():
        for start in range(0, len(found), CHUNK):
            outbox.withdraw([name], found[start : start + CHUNK], using)


@contextmanager
def _guarded(using: str, otherwise: Callable[[Exception], None]) -> Iterator[None]:
    """Let a transaction go on without its events, if the project has asked for that.

    What was stored of them until then is undone. A form that cannot be serialized has a
    setting of its own.
    """
    if config().ON_RECORDING_ERROR == "raise":
        yield
        return
    try:
        with transaction.atomic(using=using):
            yield
    except PayloadError:
        raise
    except Exception as error:
        if connections[using].needs_rollback:
            # The database has undone the whole transaction, as SQLite does without room.
            raise
        otherwise(error)


def release_due(using: str = "default") -> int:
    """Serialize and release held events whose hold is over; return how many there were.

    These are the events of deferred resources, and those of sessions that never came to
    their end because their process died. What other sources know of is recorded first.
    """
    released = sum(source.relay(using) for source in sources)
    while True:
        with transaction.atomic(using=using):
            events = outbox.due(using, limit=CHUNK)
            _release(events, using, {}, is_last_resort=True)
        released += len(events)
        if len(events) < CHUNK:
            return released


def recheck_due(using: str = "default") -> int:
    """Look at objects once more, and say what was missed; return how many events were looked at.

    Two transactions at the same time do not see each other's part: one makes an object under a
    row, the other changes that row. Neither serializes both. When both are over, the object
    differs from what was last said of it, and only then an event says so.
    """
    count = 0
    while True:
        with transaction.atomic(using=using):
            events = outbox.due_rechecks(using, limit=CHUNK)
            for batch in _batches(_differing(events, using)):
                store(batch, using, is_last_resort=True)
        count += len(events)
        if len(events) < CHUNK:
            return count


def keep_house(using: str = "default") -> int:
    """Do what is due besides deliveries; return how much that was."""
    return release_due(using) + recheck_due(using)


def _differing(events: list[Event], using: str) -> list[Entry]:
    """Return what would have to be said if objects differ from what was last said of them."""
    last: dict[tuple[str, str], dict[Any, Event]] = {}
    for event in sorted(events, key=lambda each: each.sequence or 0):
        said = last.setdefault((event.resource, event.object_key), {})
        if any(each.sequence != event.sequence for each in said.values()):
            said.clear()
        if event.body is not None:
            said[event.owner_id] = event
    interest = Interest()
    entries = []
    for (name, key), said in last.items():
        resource = registry.get(name)
        if resource is None or not said or not resource.emits(Operation.UPDATED):
            continue
        if resource.event_type(Operation.UPDATED) not in outbox.wanted(
            [resource.event_type(Operation.UPDATED)], using, interest
        ):
            continue
        form = Form(
            {owner: payloads.encode(each.data) for owner, each in said.items()},
            next(iter(said.values())).sequence,
        )
        pk = payloads.primary_key(resource.model, key)
        # The same chain goes on, though nobody's own change does.
        depth = max(each.depth for each in said.values())
        entries.append(
            Entry(
                resource,
                pk,
                Operation.UPDATED,
                before=form,
                is_recheck=True,
                origin={"depth": depth},
            )
        )
    return entries


def _entries(
    changes: Changes, using: str, interest: Interest, forms: Mapping[Subject, Form]
) -> list[Entry]:
    """Return what is to be said and what somebody wants to hear, in order."""
    said = resolve(changes, using, is_wanted=lambda each: is_wanted(each, using, interest))
    entries = [
        Entry(subject[0], noted.pk, noted.operation, noted.found, before=forms.get(subject))
        for subject, noted in said.items()
        if noted.operation is not None
    ]
    # What is compared may turn out to be created or deleted.
    entries = [each for each in entries if each.before or each.resource.emits(each.operation)]
    wanted = outbox.wanted({each.type for each in entries}, using, interest)
    return [each for each in entries if each.before or each.type in wanted]


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


def _held_rows(entry: Entry, session: uuid.UUID) -> list[Event]:
    """Return the rows that hold one thing to say; a deleted object's one for each owner."""
    common = {
        "type": entry.type,
        "resource": entry.resource.base_name,
        "object_key": entry.key,
        "session": session,
        "created_at": timezone.now(),
    }
    if entry.operation is not Operation.DELETED or entry.found is None:
        return [Event(**common)]
    return [
        Event(**common, owner_id=payloads.owner_key(found.owners[0]), body=found.data)
        for found in entry.found
    ]


def _release(
    events: list[Event],
    using: str,
    forms: Mapping[Subject, Form],
    *,
    is_last_resort: bool = False,
) -> None:
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
        before = forms.get((resource, event.object_key))
        entries[subject] = Entry(
            resource,
            pk,
            operation,
            found,
            event.pk,
            event.session,
            before,
            traceparent=event.traceparent,
            origin=_origin(known, event),
        )
    outbox.write(orphans, using, is_final=True)
    for batch in _batches(entries.values()):
        store(batch, using, is_last_resort=is_last_resort)
    _keep(using)


def _origin(known: Entry | None, event: Event) -> Mapping[str, Any]:
    """Return where changes come from that are said at once: the own change of none, if several."""
    found = {
        "origin": event.origin,
        "origin_endpoint": event.origin_endpoint,
        "depth": event.depth,
    }
    if known is not None and known.origin is not None:
        found["depth"] = max(event.depth, known.origin["depth"])
        if known.origin["origin_endpoint"] != event.origin_endpoint:
            found["origin_endpoint"] = None
    return found


def _keep(using: str) -> None:
    # What a test learns is rolled back with it, and would be stored again by each.
    if not log_of(using).is_in_test_case:
        learning.keep()


def _parked(event: Event, reason: str) -> Event:
    logger.error("Event %s is parked. %s", event.pk, reason)
    event.held_until = None
    event.body = None
    event.error = reason
    return event
