"""What was seen to be read by code that no tree shows, by resource; for the whole process."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model

from drf_webhooks.tracing.paths import Resource
from drf_webhooks.tracing.reads import Read

__all__ = ["Learnt", "at", "is_valid", "learnt"]


def at(read: Read, lookup: str) -> Read:
    """Return a read that starts from a base object instead of an instance that it leads to."""
    return replace(read, lookup="__".join(filter(None, (lookup, read.lookup))))


def is_valid(read: Read, model: type[Model]) -> bool:
    """Tell whether the models still have the relations that a read names."""
    try:
        holder = _walk(model, read.lookup)
        if read.generic:
            holder._meta.get_field(read.generic)
        if read.via is not None:
            _walk(read.via, read.entry)
            front, _, last = read.near.rpartition("__")
            end = _walk(read.via, front)
            if last != "pk":
                end._meta.get_field(last)
    except FieldDoesNotExist:
        return False
    return True


def _walk(model: Any, lookup: str) -> Any:
    for name in lookup.split("__") if lookup else ():
        model = model._meta.get_field(name).related_model
        if model is None:
            raise FieldDoesNotExist(name)
    return model


class Learnt:
    """Reads from base objects, by resource. Grows, and asks the database nothing."""

    def __init__(self) -> None:
        self._reads: dict[Resource, dict[Read, None]] = {}
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []
        #: What is not stored yet.
        self.unsaved: dict[tuple[Resource, Read], None] = {}
        #: Raised by each new read, so that what was computed from them can tell its age.
        self.generation = 0

    def of(self, resource: Resource) -> tuple[Read, ...]:
        """Return what is known of one resource, in the order in which it was learnt."""
        return tuple(self._reads.get(resource, ()))

    def add(self, resource: Resource, reads: Iterable[Read], *, is_stored: bool = False) -> bool:
        """Learn reads, and tell the listeners if one is new."""
        known = self._reads.get(resource, {})
        new = [each for each in reads if each not in known]
        if not new:
            return False
        with self._lock:
            self._reads[resource] = {**self._reads.get(resource, {}), **dict.fromkeys(new)}
            if not is_stored:
                self.unsaved.update(dict.fromkeys((resource, each) for each in new))
            self.generation += 1
        for listener in self._listeners:
            listener()
        return True

    def saved(self, stored: Iterable[tuple[Resource, Read]]) -> None:
        """Note that reads are stored."""
        with self._lock:
            for each in stored:
                self.unsaved.pop(each, None)

    def listen(self, listener: Callable[[], None]) -> None:
        """Call a function after something new was learnt."""
        self._listeners.append(listener)

    def forget(self) -> None:
        """Know nothing, as at the start of a process."""
        with self._lock:
            self._reads = {}
            self.unsaved = {}
            self.generation += 1
        for listener in self._listeners:
            listener()


learnt = Learnt()
