"""What was last said of objects, as it is stored."""

import json
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from django.db.models import F, Max, Window

from drf_webhooks import numbering, payloads
from drf_webhooks.changes import Key, Operation, Subject
from drf_webhooks.conf import config
from drf_webhooks.deliveries import EventBody, is_thin
from drf_webhooks.event_types import ENDPOINT
from drf_webhooks.json_text import encode
from drf_webhooks.messages import thin_name, thinned, thinner
from drf_webhooks.models import Endpoint, Event
from drf_webhooks.registry import registry
from drf_webhooks.tracing.paths import Resource

__all__ = ["Said", "customs_since", "forms_of", "last_said", "variants_for"]

#: The forms that were last said of an object, by owner and version.
Said = dict[Any, dict[str, Any]]


def last_said(subjects: Iterable[Subject], using: str) -> dict[Subject, Said]:
    """Return the whole forms that were last said of objects to each of their owners.

    Those of ``created`` and ``updated`` events whose message is kept still, whoever has heard
    them. One query, and one more where there are versions.
    """
    keys: dict[Resource, list[Key]] = defaultdict(list)
    for resource, key in subjects:
        keys[resource].append(key)
    if not keys:
        # To compile a query that finds nothing takes longer than to ask the others.
        return {}
    rows = Event.objects.using(using).filter(
        resource__in=[each.base_name for each in keys],
        object_key__in={key for some in keys.values() for key in some},
        type__in=[
            each.event_type(operation)
            for each in keys
            for operation in (Operation.CREATED, Operation.UPDATED)
        ],
        held_until=None,
        # What is parked has said nothing; of what is retired nobody knows what it said.
        error="",
    )
    last = rows.annotate(
        last=Window(Max("sequence"), partition_by=["resource", "object_key", "owner"])
    ).filter(last=F("sequence"))
    events = Event.objects.using(using).filter(pk__in=last.values("pk"), body__isnull=False)
    by_name = {each.base_name: each for each in keys}
    found: dict[Subject, Said] = defaultdict(dict)
    for event, said in forms_of(events, using).items():
        found[by_name[event.resource], event.object_key][event.owner_id] = said
    return found


def forms_of(events: Iterable[Event], using: str) -> dict[Event, dict[str, Any]]:
    """Return what events say of their objects, by version; one query where there are versions."""
    found = {each: {_version(each): each.data} for each in events}
    versioned = {each.pk: each for each in found if each.version}
    if versioned:
        rows = EventBody.objects.using(using).filter(event__in=versioned)
        for pk, variant, body in rows.values_list("event", "variant", "body"):
            if not is_thin(variant):
                found[versioned[pk]][variant] = json.loads(bytes(body))["data"]
    return found


def variants_for(
    endpoint: Endpoint, events: Mapping[uuid.UUID, Event], using: str
) -> dict[uuid.UUID, str]:
    """Return which of their messages an endpoint gets that was not there when they were made.

    Leaves out events that are not kept in its version; where only a thin form is missing, it is
    written. To be called with the events locked. Two queries, and two more where messages are
    thin.
    """
    known: dict[uuid.UUID, set[str]] = defaultdict(set)
    rows = EventBody.objects.using(using).filter(event__in=events)
    for pk, variant in rows.values_list("event", "variant"):
        known[pk].add(variant)
    found: dict[uuid.UUID, str] = {}
    #: Of which the whole message has to be looked at, and its name.
    looked_at: dict[uuid.UUID, str] = {}
    for pk, event in events.items():
        resource = registry.get(event.resource)
        own = _version(event)
        version = own if resource is None else resource.version_for(endpoint.version)
        whole = "" if version == own else version
        is_thin_there = thin_name(version) in known[pk]
        if resource is None:
            # What it wanted nobody knows any more; what the library itself says is never thin.
            wants_thin = is_thin_there or (endpoint.is_thin and event.resource != ENDPOINT)
        else:
            wants_thin = endpoint.is_thin or resource.thin
        if wants_thin and is_thin_there:
            found[pk] = thin_name(version)
        elif whole and whole not in known[pk]:
            continue
        elif wants_thin or is_thin_there:
            looked_at[pk] = whole
        else:
            found[pk] = whole
    made = []
    for pk, body in _bodies(looked_at, using).items():
        event, whole = events[pk], looked_at[pk]
        name = thin_name(whole or _version(event))
        is_there = name in known[pk]
        # One that is there may be somebody else's wish.
        found[pk] = name if not is_there or len(body) > config().PAYLOAD_MAX_BYTES else whole
        if not is_there:
            made.append(EventBody(event=event, variant=name, body=_thin(event, body, whole)))
    EventBody.objects.using(using).bulk_create(made)
    return found


def _bodies(names: Mapping[uuid.UUID, str], using: str) -> dict[uuid.UUID, bytes]:
    if not names:
        return {}
    own = Event.objects.using(using).filter(pk__in=[pk for pk, name in names.items() if not name])
    found = {pk: bytes(body) for pk, body in own.values_list("pk", "body") if body is not None}
    rows = EventBody.objects.using(using).filter(event__in=[pk for pk in names if pk not in found])
    return found | {
        pk: bytes(body)
        for pk, variant, body in rows.values_list("event", "variant", "body")
        if variant == names[pk]
    }


def _thin(event: Event, body: bytes, version: str) -> bytes:
    resource = registry.get(event.resource)
    if resource is None:
        # Nobody knows which members of it are its key.
        return thinner(body, [], otherwise=encode({"key": json.loads(event.object_key)}))
    pk = payloads.primary_key(resource.model, event.object_key)
    name = event.type.removeprefix(f"{resource.base_name}.")
    return thinned(resource, pk, body, version or _version(event), name=name)


def _version(event: Event) -> str:
    """Return the version of an event's own message: the oldest, if there were none yet."""
    resource = registry.get(event.resource)
    return event.version or ("" if resource is None else resource.version_for(""))


def customs_since(last: Mapping[Subject, int], using: str) -> dict[Subject, int]:
    """Return how many custom events, and nothing else, were said of objects since a number.

    Leaves out those of which something else was said. One query if a resource has custom
    events at all.
    """
    asked = {subject: number for subject, number in last.items() if subject[0].events}
    if not asked:
        return {}
    names = {(each.base_name, key): (each, key) for each, key in asked}
    counts = numbering.counts(names, using)
    rows = Event.objects.using(using).filter(
        resource__in=[name for name, _ in names],
        object_key__in=[key for _, key in names],
        sequence__isnull=False,
    )
    since: dict[Subject, set[int]] = defaultdict(set)
    is_custom: dict[Subject, bool] = defaultdict(lambda: True)
    for name, key, number, kind in rows.values_list("resource", "object_key", "sequence", "type"):
        subject = names.get((name, key))
        if subject is not None and number is not None and number > asked[subject]:
            since[subject].add(number)
            is_custom[subject] &= kind.removeprefix(f"{name}.") in subject[0].events
    return {
        subject: len(numbers)
        for subject, numbers in since.items()
        if is_custom[subject]
        and len(numbers) == counts[subject[0].base_name, subject[1]] - asked[subject]
    }
