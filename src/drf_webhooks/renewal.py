"""Say again what was said, of objects as they are now: new events for some endpoints only."""

import logging
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from drf_webhooks import outbox, payloads
from drf_webhooks.changes import Key, Operation, merge
from drf_webhooks.exceptions import PayloadError
from drf_webhooks.ids import object_hash
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
    operation: Operation


def renew(wishes: Sequence[Wish], *, using: str, now: datetime) -> int:
    """Store new events, and deliveries of them; return how many wishes that grants.

    To be called in a transaction. What an endpoint did not hear of one object is merged as
    in a session: it hears of it once. Nothing is said of an object that is gone, but that it
    was deleted; of one that was deleted and is there again; to who does not own it any more;
    or if it cannot be serialized, which the log names.
    """
    sayings = _sayings(wishes)
    numbers: dict[tuple[str, Key], int] = {}
    if sayings:
        numbers, _ = outbox.number({_subject(each) for each in sayings}, using)
    loaded = _loaded(sayings, using)
    ordered = _ordered({each.endpoint for each in wishes}, using) if sayings else set()
    events: list[Event] = []
    deliveries: list[Delivery] = []
    replaced: list[Delivery] = []
    for saying, granted in sayings.items():
        event = _event(saying, granted[-1].event, loaded[saying.resource], numbers, now)
        if event is None:
            continue
        events.append(event)
        endpoints = {each.endpoint for each in granted}
        deliveries += [
            Delivery(
                event=event,
                endpoint_id=each,
                due_at=now,
                created_at=now,
                **_place(event, is_ordered=each in ordered),
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
    outbox.uncount([each for each in numbers if each not in said], using)
    outbox.write(events, using, is_final=False)
    of_old = [each for each in replaced if each.pk is not None]
    # What was never sent gets a settled delivery all the same: so it is not sent twice.
    rows = Delivery.objects.using(using)
    rows.bulk_create([*deliveries, *(each for each in replaced if each.pk is None)])
    if of_old:
        # Nor does anything wait for them any more.
        rows.bulk_update(of_old, ["replaced_by", "order_key"])
    return len(replaced)


def _ordered(endpoints: set[uuid.UUID], using: str) -> set[uuid.UUID]:
    rows = Endpoint.objects.using(using).filter(pk__in=endpoints, ordering=Endpoint.Ordering.OBJECT)
    return set(rows.values_list("pk", flat=True))


def _place(event: Event, *, is_ordered: bool) -> dict[str, Any]:
    """Say where a delivery waits: for its turn, or not before what happens now."""
    if not is_ordered:
        return {"lane": Delivery.Lane.RETRY, "sequence": event.sequence}
    key = object_hash(event.resource, event.object_key)
    return {"lane": Delivery.Lane.ORDERED, "order_key": key, "sequence": event.sequence}


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
        operation = _merged(each.event.type for each in some)
        if resource is not None and operation is not None and resource.emits(operation):
            pk = payloads.primary_key(resource.model, key)
            result[_Saying(resource, pk, key, owner, operation)] += some
    return result


def _merged(event_types: Iterable[str]) -> Operation | None:
    operation: Operation | None = None
    for each in event_types:
        name = each.rpartition(".")[2]
        if name not in set(Operation):
            return None
        operation = merge(operation, Operation(name))
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
    numbers: Mapping[tuple[str, Key], int],
    now: datetime,
) -> Event | None:
    try:
        data = _data(saying, said, loaded.get(saying.key))
    except PayloadError:
        logger.exception("%s cannot be said anew.", said.message_id)
        return None
    if data is None:
        return None
    kind = saying.resource.event_type(saying.operation)
    sequence = numbers[_subject(saying)]
    return Event(
        type=kind,
        resource=saying.resource.base_name,
        object_key=saying.key,
        sequence=sequence,
        owner_id=saying.owner,
        depth=said.depth,
        created_at=now,
        body=payloads.message(
            kind, data=data, sequence=sequence, at=now, object_key=saying.key, is_replay=True
        ),
    )


def _data(saying: _Saying, said: Event, row: payloads.Loaded | None) -> bytes | None:
    """Return how an object looks now, or what is left to say of one that is gone."""
    if saying.operation is Operation.DELETED:
        if row is not None:
            return None
        if said.body is not None:
            return payloads.encode(said.data)
        return payloads.key_data(saying.resource, saying.pk)
    if row is None:
        return None
    owners = {payloads.owner_key(each): each for each in row.owners}
    if saying.owner not in owners:
        return None
    return payloads.data_of(saying.resource, row.instance, owners[saying.owner])
