"""What must be asked of the database before a write changes the answer."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from drf_webhooks import payloads
from drf_webhooks.changes import Changes, Noted
from drf_webhooks.tracing.paths import Path, Resource
from drf_webhooks.tracing.resolver import CHUNK

__all__ = ["BeforeWrite"]


class BeforeWrite:
    """Gather questions from signals, and ask them all before the statement that follows.

    Django sends every ``pre_delete`` of a cascade before its first statement, so a thousand
    rows cost one query for each path.
    """

    def __init__(self, using: str) -> None:
        self._using = using
        self._rows: dict[tuple[Path, int], dict[Any, None]] = defaultdict(dict)
        self._changes: dict[int, Changes] = {}
        self._deleted: dict[Resource, dict[Any, Noted]] = defaultdict(dict)

    def above(self, path: Path, pks: Iterable[Any], changes: Changes) -> None:
        """Ask which base objects some rows hang under now."""
        self._changes[id(changes)] = changes
        self._rows[path, id(changes)].update(dict.fromkeys(pks))

    def owned(self, resource: Resource, noted: Noted) -> None:
        """Ask who owns an object that is about to be deleted, and how it looks if that is said."""
        self._deleted[resource][noted.pk] = noted

    def answer(self) -> None:
        """Ask, and note the answers."""
        for (path, number), rows in self._rows.items():
            for chunk in _chunks(list(rows)):
                keys = path.base_keys(chunk, self._using)
                self._changes[number].note_above(path.resource, keys)
        for resource, deleted in self._deleted.items():
            for chunk in _chunks(list(deleted)):
                for loaded in payloads.load(resource, chunk, self._using).values():
                    deleted[loaded.instance.pk].found = payloads.found(resource, loaded)


def _chunks(items: list[Any]) -> list[list[Any]]:
    return [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
