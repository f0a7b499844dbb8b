"""What a session has noted, and the rules that merge it into one event for each object."""

import itertools
import uuid
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

__all__ = [
    "Changes",
    "Emitted",
    "Form",
    "Found",
    "Held",
    "Key",
    "Noted",
    "Operation",
    "Subject",
    "merge",
    "object_key",
]

#: A primary key as JSON text: hashable, and one form for integers, UUIDs and composite keys.
Key = str

_order = itertools.count()
#: Made once: an encoder costs more to make than a key to encode.
_encode = DjangoJSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Operation(StrEnum):
    """What happened to an object, and the last part of the event's type."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"


def object_key(pk: object) -> Key:
    """Return a primary key as canonical JSON text."""
    return str(pk) if type(pk) is int else _encode(pk)


def merge(first: Operation | None, then: Operation) -> Operation | None:
    """Say two things about one object at once; ``None`` means nothing to say."""
    if first is None:
        return then
    if first is Operation.CREATED:
        return None if then is Operation.DELETED else first
    if first is Operation.DELETED:
        return Operation.UPDATED if then is Operation.CREATED else first
    return then


@dataclass(frozen=True)
class Found:
    """What is known of a base object before it is deleted: who owned it, how it looked."""

    owners: tuple[Any, ...] = ()
    #: Its serialized form by version, if that is said of it.
    data: Mapping[str, bytes] | None = None


@dataclass(frozen=True)
class Form:
    """How a base object looked before its session changed anything of it."""

    #: Its serialized forms by owner, and of each by version; ``None`` if it was not there.
    data: Mapping[Any, Mapping[str, bytes]] | None
    #: How many events it had had. If somebody says something meanwhile, this is outdated.
    #: ``None`` for what the session itself made.
    sequence: int | None = None


@dataclass(frozen=True)
class Held:
    """The rows of one base object that wait for the end of their session."""

    events: tuple[uuid.UUID, ...]
    pk: Any
    operation: Operation

    def joined(self, before: "Held | None") -> "Held":
        """Add rows that another thread of the same session stored meanwhile."""
        if before is None or set(before.events) <= set(self.events):
            return self
        operation = merge(before.operation, self.operation) or self.operation
        return Held((*before.events, *self.events), self.pk, operation)


@dataclass
class Noted:
    """What is to be said about one base object, and when it was first worth saying."""

    pk: Any
    operation: Operation | None
    order: int
    found: tuple[Found, ...] | None = None


#: A base object: its resource and its key.
Subject = tuple[Any, Key]


@dataclass(frozen=True)
class Emitted:
    """A custom event of one base object. Never merged: each is said."""

    resource: Any
    pk: Any
    name: str
    #: What is said besides the object's form, as JSON; nothing for nothing.
    extra: bytes | None
    order: int
    #: Tells apart two of one name and one object.
    id: uuid.UUID = field(default_factory=uuid.uuid4)


@dataclass
class Changes:
    """The changes of one session within one savepoint.

    Kept by object, not by signal, so that a thousand saves of one row take the room of one.
    """

    #: Base objects that changed themselves.
    bases: dict[Subject, Noted] = field(default_factory=dict)
    #: Nested rows that changed: by path, their primary keys with the order of their change.
    nested: dict[Hashable, dict[Any, int]] = field(default_factory=dict)
    #: Base objects that hung above a row before it was deleted or moved away.
    above: dict[Subject, Noted] = field(default_factory=dict)
    #: Resources of which any object may have changed. Only what is not said is noted like this.
    whole: set[Any] = field(default_factory=set)
    #: Custom events, in their order.
    emitted: list[Emitted] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.bases or self.nested or self.above or self.whole or self.emitted)

    def note_base(self, resource: Any, pk: Any, operation: Operation) -> Noted:
        """Note that a base object itself was created, updated or deleted."""
        subject = (resource, object_key(pk))
        noted = self.bases.get(subject)
        if noted is None:
            self.bases[subject] = noted = Noted(pk, operation, next(_order))
        else:
            _say(noted, operation)
        return noted

    def has_base(self, resource: Any, pk: Any) -> bool:
        """Tell whether something is noted of a base object itself."""
        noted = self.bases.get((resource, object_key(pk)))
        return noted is not None and noted.operation is not None

    def note_nested(self, path: Hashable, pks: Iterable[Any]) -> None:
        """Note rows of a nested model; their base objects are looked up at the end."""
        rows = self.nested.setdefault(path, {})
        for pk in pks:
            rows.setdefault(pk, next(_order))

    def note_emitted(self, resource: Any, pk: Any, name: str, extra: bytes | None) -> None:
        """Note a custom event of a base object."""
        self.emitted.append(Emitted(resource, pk, name, extra, next(_order)))

    def note_above(self, resource: Any, pks: Iterable[Any]) -> None:
        """Note base objects that a row is about to leave."""
        for pk in pks:
            noted = Noted(pk, Operation.UPDATED, next(_order))
            self.above.setdefault((resource, object_key(pk)), noted)

    def extend(self, later: "Changes") -> None:
        """Take over what was noted after this, as when a savepoint is released."""
        for subject, noted in later.bases.items():
            mine = self.bases.get(subject)
            if mine is None:
                self.bases[subject] = noted
            elif noted.operation is None:
                continue
            else:
                _say(mine, noted.operation)
                mine.found = noted.found
        for path, rows in later.nested.items():
            mine_rows = self.nested.setdefault(path, {})
            for pk, order in rows.items():
                mine_rows.setdefault(pk, order)
        for subject, noted in later.above.items():
            self.above.setdefault(subject, noted)
        self.whole |= later.whole
        self.emitted += later.emitted


def _say(noted: Noted, operation: Operation) -> None:
    if noted.operation is None:
        noted.order = next(_order)
    noted.operation = merge(noted.operation, operation)
