"""Watch what code reads through the ORM, and how such rows lead back to an instance."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

from django.db.models import Model

__all__ = ["Read", "Reader", "current", "readers"]

#: Relations in a row. Deeper ones, as from a leaf of a tree up to its root, are reported.
MOST_STEPS = 8

_local = threading.local()


@dataclass(frozen=True)
class Read:
    """Rows that code read, and how they lead back to the instance that it was given.

    ``lookup`` leads from the instance's model to the rows, or, with ``via``, to rows whose keys
    rows of ``via`` hold at ``near``; ``entry`` leads from ``via`` to the rows meant. With
    ``generic`` the row at ``lookup`` points to them (to rows of ``via``, if that is set) by a
    generic foreign key of that name.
    """

    model: type[Model]
    lookup: str = ""
    via: type[Model] | None = None
    near: str = ""
    entry: str = ""
    generic: str = ""
    #: Nothing in the query names a row known to be read: all rows count.
    is_whole: bool = False

    @property
    def is_given(self) -> bool:
        """Whether it is the given instance itself."""
        return not (self.lookup or self.via or self.generic or self.is_whole)

    @property
    def is_relation(self) -> bool:
        """Whether relations alone lead from the given instance to the rows."""
        return not (self.via or self.generic or self.is_whole)

    def follow(self, relation: Any) -> "Read":
        """Return the read of what a relation of these rows leads to."""
        model: type[Model] = relation.related_model._meta.concrete_model
        name: str = relation.name
        if self.is_whole:
            return Read(model, is_whole=True)
        if _is_same_row(relation):
            # From a parent's table back to the row of the child that it is part of.
            front, _, last = self.lookup.rpartition("__")
            if model in _tables(self.model):
                return self
            if self.is_relation and last == relation.field.name:
                return replace(self, model=model, lookup=front)
        if getattr(relation, "hidden", False) or name.endswith("+"):
            # No lookup names it; the foreign key on the other side does.
            if not self.is_relation:
                return Read(model, is_whole=True)
            return replace(self, model=model, via=model, near=relation.field.name)
        if self.via is not None:
            return replace(self, model=model, entry=_joined(self.entry, name))
        if self.generic:
            return replace(self, model=model, via=self.model, near="pk", entry=name)
        return Read(model, _joined(self.lookup, name))

    def point(self, key: Any, model: type[Model]) -> "Read":
        """Return the read of what a generic foreign key of these rows points to."""
        if not self.is_relation:
            return Read(model, is_whole=True)
        return replace(self, model=model, generic=key.name)


def _joined(front: str, name: str) -> str:
    return f"{front}__{name}" if front else name


def _is_same_row(relation: Any) -> bool:
    """Tell whether a relation leads from a parent's row to a child's."""
    return bool(relation.auto_created and getattr(relation, "parent_link", False))


def _tables(model: type[Model]) -> set[Any]:
    own: Any = model._meta.concrete_model
    return {own, *(each._meta.concrete_model for each in own._meta.all_parents)}


def is_family(one: type[Model], other: type[Model]) -> bool:
    """Tell whether rows of two models may be one object: proxies, parents, children."""
    return other._meta.concrete_model in _tables(one) or one._meta.concrete_model in _tables(other)


class Reader:
    """Notes what code reads while it runs in a ``with`` block, in this thread.

    May be entered again, to go on. A reader inside another one notes for itself alone.
    """

    def __init__(self, instance: Model | None = None) -> None:
        self.reads: dict[Read, None] = {}
        #: What could not be analysed, in words.
        self.unknown: list[str] = []
        #: How many statements were seen to be the ORM's.
        self.statements = 0
        # Instances are kept alive: another one may get the identity of one that is gone.
        self._known: dict[int, tuple[Model, list[Read]]] = {}
        #: Whether Django itself reads what is noted already.
        self.is_quiet = False
        if instance is not None:
            self.know(instance, [Read(_concrete(type(instance)))])

    def __enter__(self) -> Self:
        readers().append(self)
        return self

    def __exit__(self, *_: object) -> None:
        readers().pop()

    def know(self, instance: Model, spots: Iterable[Read]) -> None:
        """Note where an instance was found."""
        known = self._known.setdefault(id(instance), (instance, []))[1]
        known += [each for each in spots if each not in known]

    def spots(self, instance: Model) -> list[Read]:
        """Return where an instance was found; of an unknown one, where its like was."""
        known = self._known.get(id(instance))
        if known is not None:
            return known[1]
        return [each for each in self.reads if is_family(each.model, type(instance))]

    def known(self) -> list[tuple[Model, list[Read]]]:
        """Return the known instances, and where each was found."""
        return list(self._known.values())

    def note(self, reads: Iterable[Read]) -> list[Read]:
        """Note reads, and return them."""
        noted = []
        for each in reads:
            steps = f"{each.lookup}__{each.entry}".count("__")
            if steps > MOST_STEPS:
                text = f"more than {MOST_STEPS} relations in a row, to {each.model._meta.label}"
                if text not in self.unknown:
                    self.unknown.append(text)
                continue
            noted.append(each)
            if not each.is_given:
                self.reads[each] = None
        return noted

    def followed(self, instance: Model, relation: Any, result: Any) -> None:
        """Note that code followed a relation from an instance, whatever it found."""
        found = self.note(each.follow(relation) for each in self.spots(instance))
        if isinstance(result, Model):
            self.know(result, found)

    def pointed(self, instance: Model, key: Any, result: Any) -> None:
        """Note that code followed a generic foreign key from an instance."""
        if isinstance(result, Model):
            model = _concrete(type(result))
            found = self.note(each.point(key, model) for each in self.spots(instance))
            self.know(result, found)


def current() -> Reader | None:
    """Return the reader that watches this thread now."""
    stack = readers()
    return stack[-1] if stack else None


def readers() -> list[Reader]:
    """Return the readers that watch this thread, the innermost last."""
    stack: list[Reader] | None = getattr(_local, "stack", None)
    if stack is None:
        stack = _local.stack = []
    return stack


def _concrete(model: type[Model]) -> type[Model]:
    found: type[Model] = model._meta.concrete_model  # type: ignore[assignment]  # an instance has a table
    return found
