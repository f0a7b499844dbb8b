"""Say again what was said, of objects as they are now: new events for some endpoints only."""

import logging
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from drf_webhooks import history, numbering, outbox, payloads
from drf_webhooks.changes import Key, Operation, merge
from drf_webhooks.event_types import Way
from drf_webhooks.exceptions import PayloadError
from drf_webhooks.ids import object_hash
from drf_webhooks.json_text import encode
from drf_webhooks.messages import Text, Variants, headers_of, message, needed, variants
from drf_webhooks.models import Delivery, Endpoint, Event
from drf_webhooks.registry import registry
from drf_webhooks.tracing.paths import Resource

__all__ = ["Wish", "renew"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wish:
    """That an endpoint hear anew what an event said.

    ``delivery`` is the one that the new event's delivery replaces, if there is one.
    """

    event: Event
    endpoint: uuid.UUID
    delivery: int | None = None


@dataclass(frozen=True)
class _Saying:
    """One thing to say of an object to an audience; whoever is to hear it hears one event."""

    resource: Resource
    pk: Any
    key: Key
    owner: Any
    #: An operation, or the custom event that is said again.
    name: str
    custom: uuid.UUID | None = None


def renew(wishes: Sequence[Wish], *, using: str, now: datetime) -> int:
    """Store new events, and deliveries of them; return how many wishes that grants.

    To be called in a transaction. What an endpoint did not hear of one object is merged as
    in a session: it hears of it once. Nothing is said of an object that is gone, but that it
    was deleted; of one that was deleted and is there again; to who does not own it any more;
    or if it cannot be serialized, which the log names. Custom events are not merged, and say
    what they said.
    """
    sayings = _sayings(wishes)
    numbers = _numbers(sayings, using)
    loaded = _loaded(sayings, using)
    subscribers = _subscribers({each.endpoint for each in wishes}, using) if sayings else {}
    events: list[Event] = []
    written: dict[uuid.UUID, Variants] = {}
    deliveries: list[Delivery] = []
    replaced: list[Delivery] = []
    for saying, granted in sayings.items():
        endpoints = {each.endpoint for each in granted if each.endpoint in subscribers}
        hearing = {subscribers[each].way for each in endpoints}
        last, known = granted[-1].event, loaded[saying.resource]
        made = _event(saying, last, known, numbers[saying], now, hearing)
        if made is None:
            continue
        event, written[event.pk] = made
        events.append(event)
        deliveries += [
            Delivery(
                event=event,
                endpoint_id=each,
                due_at=now,
                created_at=now,
                variant=written[event.pk].by_way.get(subscribers[each].way, ""),
                **_place(event, is_ordered=subscribers[each].is_ordered),
            )
            for each in endpoints
        ]
        replaced += [
            Delivery(
                pk=each.delivery,
                event=each.event,
                endpoint_id=each.endpoint,
                state=Delivery.State.DEAD,
                reason="Never sent, but said anew.",
                created_at=now,
                settled_at=now,
                replaced_by=event.pk,
            )
            for each in granted
        ]
    said = {(each.resource, each.object_key) for each in events}
    asked = {_subject(each) for each in numbers}
    numbering.uncount([each for each in asked if each not in said], using)
    outbox.write(events, using, is_final=False, variants=written)
    of_old = [each for each in replaced if each.pk is not None]
    # What was never sent gets a settled delivery all the same: so it is not sent twice.
    rows = Delivery.objects.using(using)
    rows.bulk_create([*deliveries, *(each for each in replaced if each.pk is None)])
    if of_old:
        # Nor does anything wait for them any more.
        rows.bulk_update(of_old, ["replaced_by", "order_key"])
    return len(replaced)


@dataclass(frozen=True)
class _Subscriber:
    way: Way
    is_ordered: bool


def _subscribers(endpoints: set[uuid.UUID], using: str) -> dict[uuid.UUID, _Subscriber]:
    rows = Endpoint.objects.using(using).filter(pk__in=endpoints)
    return {
        pk: _Subscriber(Way(version, is_thin), ordering == Endpoint.Ordering.OBJECT)
        for pk, version, is_thin, ordering in rows.values_list(
            "pk", "version", "is_thin", "ordering"
        )
    }


def _place(event: Event, *, is_ordered: bool) -> dict[str, Any]:
    """Say where a delivery waits: for its turn, or not before what happens now."""
    if not is_ordered:
        return {"lane": Delivery.Lane.RETRY, "sequence": event.sequence}
    key = object_hash(event.resource, event.object_key)
    return {"lane": Delivery.Lane.ORDERED, "order_key": key, "sequence": event.sequence}


def _numbers(sayings: Iterable[_Saying], using: str) -> dict[_Saying, int]:
    """Give each thing to say a number; a statement for each that one object has."""
    rounds: dict[int, list[_Saying]] = defaultdict(list)
    seen: Counter[tuple[str, Key]] = Counter()
    for each in sayings:
        rounds[seen[_subject(each)]].append(each)
        seen[_subject(each)] += 1
    result: dict[_Saying, int] = {}
    for some in rounds.values():
        numbers, _ = numbering.number(map(_subject, some), using)
        result |= {each: numbers[_subject(each)] for each in some}
    return result


def _subject(saying: _Saying) -> tuple[str, Key]:
    return saying.resource.base_name, saying.key


def _sayings(wishes: Iterable[Wish]) -> dict[_Saying, list[Wish]]:
    """Merge what each endpoint is to hear of each object; leave out what cannot be said."""
    heard: dict[Any, list[Wish]] = defaultdict(list)
    for wish in sorted(wishes, key=lambda each: each.event.sequence or 0):
        event = wish.event
        heard[event.resource, event.object_key, event.owner_id, wish.endpoint].append(wish)
    result: dict[_Saying, list[Wish]] = defaultdict(list)
    for (name, key, owner, _), some in heard.items():
        resource = registry.get(name)
        if resource is None:
            continue
        pk = payloads.primary_key(resource.model, key)
        said = [(each.event.type.removeprefix(f"{name}."), each) for each in some]
        operation = _merged(each for each, _ in said if each in set(Operation))
        if operation is not None and resource.emits(operation):
            merged = _Saying(resource, pk, key, owner, operation)
            result[merged] += [wish for each, wish in said if each in set(Operation)]
        for each, wish in said:
            if each in resource.events:
                result[_Saying(resource, pk, key, owner, each, wish.event.pk)].append(wish)
    return result


def _merged(names: Iterable[str]) -> Operation | None:
    operation: Operation | None = None
    for each in names:
        operation = merge(operation, Operation(each))
    return operation


def _loaded(sayings: Iterable[_Saying], using: str) -> dict[Resource, dict[Key, payloads.Loaded]]:
    pks: dict[Resource, dict[Key, Any]] = defaultdict(dict)
    for each in sayings:
        pks[each.resource][each.key] = each.pk
    return {
        resource: payloads.load(resource, list(some.values()), using)
        for resource, some in pks.items()
    }


def _event(
    saying: _Saying,
    said: Event,
    loaded: Mapping[Key, payloads.Loaded],
    sequence: int,
    now: datetime,
    hearing: set[Way],
) -> tuple[Event, Variants] | None:
    resource = saying.resource
    kind = resource.event_type(saying.name)
    texts: list[Text] = []
    row = loaded.get(saying.key)
    try:
        for version in needed(resource, hearing):
            data = _data(saying, said, row, version)
            if data is None:
                return None
            body = message(
                kind,
                data=data,
                sequence=sequence,
                at=now,
                object_key=saying.key,
                is_replay=True,
                version=version,
            )
            texts.append(Text(version, body))
        headers = _headers(saying, row) if resource.has_headers() else None
    except PayloadError:
        logger.exception("%s cannot be said anew.", said.message_id)
        return None
    event = Event(
        type=kind,
        resource=resource.base_name,
        object_key=saying.key,
        sequence=sequence,
        owner_id=saying.owner,
        depth=said.depth,
        created_at=now,
        body=texts[-1].body,
        version=texts[-1].version,
        headers=headers,
        kept_until=None if resource.retention is None else now + resource.retention,
    )
    custom = saying.name if saying.custom else ""
    return event, variants(resource, saying.pk, texts, hearing, name=custom)


def _headers(saying: _Saying, row: payloads.Loaded | None) -> dict[str, str] | None:
    owners = {payloads.owner_key(each): each for each in row.owners} if row else {}
    instance = None if row is None else row.instance
    kind = saying.resource.event_type(saying.name)
    return headers_of(saying.resource, kind, instance, owners.get(saying.owner, saying.owner))


def _data(saying: _Saying, said: Event, row: payloads.Loaded | None, version: str) -> bytes | None:
    """Return how an object looks now, or what is left to say of one that is gone."""
    resource = saying.resource
    if saying.custom:
        return _said_again(said, version)
    if saying.name == Operation.DELETED:
        if row is not None:
            return None
        return _said_again(said, version) or payloads.key_data(resource, saying.pk, version)
    if row is None:
        return None
    owners = {payloads.owner_key(each): each for each in row.owners}
    if saying.owner not in owners:
        return None
    return payloads.data_of(resource, row.instance, owners[saying.owner], version=version)


def _said_again(said: Event, version: str) -> bytes | None:
    """Return what an event has said, if it is kept in that version."""
    if said.body is None:
        return None
    known = history.forms_of([said], said._state.db or "default").get(said, {})
    return encode(known[version]) if version in known else None
