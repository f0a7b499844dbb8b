"""Judges each message that a test has written by the schema that subscribers are given."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import DatabaseError, connections
from django.db.models.signals import post_save
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from drf_webhooks.event_schemas import read, self_contained
from drf_webhooks.event_shapes import Shape, shape_of, shape_of_resource
from drf_webhooks.event_types import OPERATIONAL
from drf_webhooks.models import Event, EventBody
from drf_webhooks.registry import registry

#: So many of a test's messages are looked at on each database, the newest ones.
MOST = 300

#: What tests store many at once that are about anything but messages.
_NO_MESSAGE = b"{}"

_seen: list[type[Any]] = []
_made_by_tests: set[Any] = set()
_validators: dict[tuple[Any, str], Draft202012Validator] = {}


def _note() -> None:
    _seen.extend(each for each in registry if each not in _seen)


def _note_own(instance: Event, *, created: bool, **_: Any) -> None:
    if created and instance.type not in OPERATIONAL:
        _made_by_tests.add(instance.pk)


registry.listen(_note)
# The library stores what it says of objects many at once, which sends no signal.
post_save.connect(_note_own, Event, dispatch_uid="tests.schemas")


@contextmanager
def judged(aliases: Iterable[str]) -> Iterator[list[str]]:
    """Give a list that has, at the block's end, what is wrong with messages written in it.

    A test may declare resources of its own for a while: each that was there is asked.
    """
    _seen.clear()
    _made_by_tests.clear()
    _note()
    wrong: list[str] = []
    yield wrong
    for alias in aliases:
        connection = connections[alias]
        if not connection.needs_rollback:
            try:
                wrong += _wrong(alias)
            except DatabaseError:
                # A test has taken the tables away, or the server.
                continue


def _wrong(alias: str) -> Iterator[str]:
    events = Event.objects.using(alias).filter(body__isnull=False, sequence__isnull=False)
    rows = events.order_by("-created_at").values_list("pk", "resource", "type", "body")[:MOST]
    for pk, name, kind, body in rows:
        # What is kept of a resource that is sent thin is whole.
        is_thin = any(each.thin for each in _seen if each.base_name == name)
        if pk not in _made_by_tests and bytes(body) != _NO_MESSAGE and not is_thin:
            yield from _judge(name, kind, body)
    variants = EventBody.objects.using(alias).exclude(event__in=_made_by_tests).order_by("-pk")
    columns = "event__resource", "event__type", "body"
    for name, kind, body in variants.values_list(*columns)[:MOST]:
        yield from _judge(name, kind, body)


def _judge(name: str, kind: str, body: bytes) -> Iterator[str]:
    validators = [*_of(name, kind)]
    message = json.loads(bytes(body))
    if message.get("thin") and set(message["data"]) == {"key"}:
        # Said again of a resource that nobody declared any more, and that has no schema.
        return
    if validators and not any(each.is_valid(message) for each in validators):
        error = best_match(validators[0].iter_errors(message))
        yield f"{kind} is not as its schema says: {error.json_path}: {error.message}"


def _of(name: str, kind: str) -> Iterator[Draft202012Validator]:
    if kind in OPERATIONAL:
        yield _validator(None, shape_of(kind))
    for resource in _seen:
        if resource.base_name == name and kind in resource.event_types():
            yield _validator(resource, shape_of_resource(resource, kind.removeprefix(f"{name}.")))


def _validator(resource: Any, shape: Shape | None) -> Draft202012Validator:
    assert shape is not None
    key = resource, shape.event_type
    if key not in _validators:
        _validators[key] = Draft202012Validator(self_contained(shape, read(shape.parts)))
    return _validators[key]
