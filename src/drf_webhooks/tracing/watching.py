"""Watch the code of one serializer instance while it runs, and say what it read."""

from collections.abc import Callable
from typing import Any

from django.db.models import Model

from drf_webhooks.tracing import hooks
from drf_webhooks.tracing.learnt import at
from drf_webhooks.tracing.reads import Read, Reader
from drf_webhooks.tracing.tree import Node, Opaque

__all__ = ["Watch"]


class Watch:
    """Wraps the methods of the fields that a tree could not look into.

    For the one serializer instance that the tree was read from, so in one thread. A field's
    ``get_attribute()`` gets the instance, and ``to_representation()`` then what it returned:
    both are one piece of code, and share a reader.
    """

    def __init__(self, tree: Node) -> None:
        self._readers: list[tuple[Opaque, Reader]] = []
        self._seen: dict[tuple[str, Read], Read] = {}
        #: What the last :meth:`collect` returned.
        self.last: dict[Read, Opaque] = {}
        #: What could not be analysed, up to the last :meth:`collect`.
        self.unknown: list[str] = []
        self._spots = [each for node in tree for each in node.opaque if each.code is not None]
        if self._spots:
            hooks.install()
        for each in self._spots:
            self._wrap(each)

    def __bool__(self) -> bool:
        return bool(self._spots)

    def collect(self) -> dict[Read, Opaque]:
        """Return what was read since the last time, from base objects, and by which code."""
        readers, self._readers = self._readers, []
        self.last = {
            self._from_base(read, opaque): opaque
            for opaque, reader in readers
            for read in reader.reads
        }
        self.unknown = [text for _, reader in readers for text in reader.unknown]
        return self.last

    def _from_base(self, read: Read, opaque: Opaque) -> Read:
        # Nearly always one that was seen before.
        found = self._seen.get((opaque.given, read))
        if found is None:
            found = self._seen[opaque.given, read] = at(read, opaque.given)
        return found

    def _wrap(self, opaque: Opaque) -> None:
        code = opaque.code
        pending: list[Reader] = []

        def read(instance: Any) -> Reader:
            reader = Reader(instance if isinstance(instance, Model) else None)
            self._readers.append((opaque, reader))
            return reader

        def get_attribute(instance: Any) -> Any:
            pending[:] = [read(instance)]
            with pending[0]:
                return get(instance)

        def to_representation(value: Any) -> Any:
            reader = pending.pop() if pending else read(value)
            with reader:
                return represent(value)

        represent: Callable[[Any], Any] = code.to_representation
        code.to_representation = to_representation
        if not opaque.is_given_value:
            get: Callable[[Any], Any] = code.get_attribute
            code.get_attribute = get_attribute
