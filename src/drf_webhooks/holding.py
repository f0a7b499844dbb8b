"""Hold what is to be said until its session is over, and read it again then."""

import json
import logging
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.utils import timezone

from drf_webhooks import numbering, outbox, payloads, waiting
from drf_webhooks.changes import Form, Found, Held, Operation, Subject, merge
from drf_webhooks.conf import config
from drf_webhooks.entries import ordered
from drf_webhooks.json_text import encode
from drf_webhooks.models import Event
from drf_webhooks.recording import Entry
from drf_webhooks.registry import registry
from drf_webhooks.tracing.paths import Resource
from drf_webhooks.tracing.resolver import CHUNK

__all__ = ["hold", "released"]

logger = logging.getLogger(__name__)


def hold(
    entries: list[Entry],
    using: str,
    *,
    session: uuid.UUID,
    held: dict[Subject, Held],
) -> dict[Subject, Held | None]:
    """Store events without payload that wait; return what is new about them."""
    entries, customs = _parted(entries)
    known = {entry: held.get((entry.resource, entry.key)) for entry in entries}
    ids = [each for row in known.values() if row is not None for each in row.events]
    alive = {each.pk for each in waiting.take(ids, using)} if ids else set()
    operations: dict[Entry, Operation | None] = {}
    for entry, before in known.items():
        # A worker may have released it, if the session lasted longer than its hold.
        is_held = before is not None and alive.intersection(before.events)
        operations[entry] = (
            merge(before.operation, entry.operation)
            if before is not None and is_held
            else entry.operation
        )
    gone = {(each.resource.base_name, each.key): each for each, op in operations.items() if not op}
    for subject in numbering.heard(gone, using):
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
    for entry in customs:
        new = _held_rows(entry, session)
        rows += new
        # Never merged: under a key of its own.
        result[entry.resource, f"{entry.key} {new[0].pk}"] = Held(
            (new[0].pk,), entry.pk, entry.operation
        )
    for start in range(0, len(rows), CHUNK):
        outbox.write(
            rows[start : start + CHUNK],
            using,
            is_final=False,
            held_for=config().SESSION_HOLD,
        )
    return result


def _parted(entries: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Return what is merged by object, and the custom events."""
    return [each for each in entries if not each.custom], [each for each in entries if each.custom]


def _held_rows(entry: Entry, session: uuid.UUID) -> list[Event]:
    """Return the rows that hold one thing to say; a deleted object's one for each owner."""
    common = {
        "type": entry.type,
        "resource": entry.resource.base_name,
        "object_key": entry.key,
        "session": session,
        "created_at": timezone.now(),
    }
    if not entry.is_deletion or entry.found is None:
        return [Event(**common, body=entry.extra)]
    return [
        Event(
            **common,
            owner_id=payloads.owner_key(found.owners[0]),
            **_kept(found.data),
        )
        for found in entry.found
    ]


#: In the place of a version: of several, by version.
_SEVERAL = "*"


def _kept(data: Mapping[str, bytes] | None) -> dict[str, Any]:
    """Return the columns of a held event that keep the form of an object that is gone."""
    if data is None:
        return {"body": None}
    if data.keys() == {""}:
        return {"body": data[""]}
    texts = {version: text.decode() for version, text in data.items()}
    return {"body": encode(texts), "version": _SEVERAL}


def _read(event: Event) -> Mapping[str, bytes] | None:
    if event.body is None:
        return None
    if event.version != _SEVERAL:
        return {event.version: bytes(event.body)}
    texts: dict[str, str] = json.loads(bytes(event.body))
    return {version: text.encode() for version, text in texts.items()}


def released(events: list[Event], using: str, forms: Mapping[Subject, Form]) -> list[Entry]:
    """Return what held events are to say now; park those that nothing can be said of."""
    entries: dict[Any, Entry] = {}
    customs: list[Entry] = []
    orphans = []
    for event in events:
        resource = registry.get(event.resource)
        if resource is None:
            orphans.append(_parked(event, f"No resource is named {event.resource!r} any more."))
            continue
        name = event.type.removeprefix(f"{resource.base_name}.")
        if name in resource.events:
            customs.append(_custom(resource, name, event))
            continue
        if name not in set(Operation):
            orphans.append(_parked(event, f"{resource.__name__} has no {event.type!r} any more."))
            continue
        operation = Operation(name)
        found: tuple[Found, ...] | None = None
        if event.owner_id is not None or event.body is not None:
            found = (Found((event.owner_id,), _read(event)),)
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
    gone = {(each.resource, each.key): each.found for each in entries.values() if each.is_deletion}
    customs = [replace(each, found=gone.get((each.resource, each.key))) for each in customs]
    return ordered([*entries.values(), *customs])


def _custom(resource: Resource, name: str, event: Event) -> Entry:
    return Entry(
        resource,
        payloads.primary_key(resource.model, event.object_key),
        Operation.UPDATED,
        event=event.pk,
        session=event.session,
        traceparent=event.traceparent,
        origin=_origin(None, event),
        custom=name,
        extra=None if event.body is None else bytes(event.body),
    )


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


def _parked(event: Event, reason: str) -> Event:
    logger.error("Event %s is parked. %s", event.pk, reason)
    event.held_until = None
    event.body = None
    event.error = reason
    return event
