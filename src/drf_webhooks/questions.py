"""What must be asked of the database before a write changes the answer."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from drf_webhooks import numbering, payloads
from drf_webhooks.changes import Changes, Form, Noted, Subject, object_key
from drf_webhooks.exceptions import PayloadError
from drf_webhooks.tracing.paths import Path, Resource
from drf_webhooks.tracing.resolver import CHUNK

__all__ = ["BeforeWrite"]

Forms = dict[Subject, Form]


class BeforeWrite:
    """Gather questions from signals, and ask them all before the statement that follows.

    Django sends every ``pre_delete`` of a cascade before its first statement, so a thousand
    rows cost one query for each path.
    """

    def __init__(self, using: str) -> None:
        self._using = using
        self._rows: dict[Path, dict[Any, None]] = defaultdict(dict)
        #: Where the answers of a path go: the base objects, and their forms.
        self._changes: dict[Path, list[Changes]] = defaultdict(list)
        self._forms: dict[Path, list[Forms]] = defaultdict(list)
        self._deleted: dict[Resource, dict[Any, Noted]] = defaultdict(dict)

    def above(self, path: Path, pks: Iterable[Any], changes: Changes) -> None:
        """Ask which base objects some rows hang under now."""
        self._rows[path].update(dict.fromkeys(pks))
        if not any(each is changes for each in self._changes[path]):
            self._changes[path].append(changes)

    def compare(self, path: Path, pks: Iterable[Any], forms: Forms) -> None:
        """Ask how the base objects above some rows look now, if it is not known."""
        self._rows[path].update(dict.fromkeys(pks))
        if not any(each is forms for each in self._forms[path]):
            self._forms[path].append(forms)

    def owned(self, resource: Resource, noted: Noted) -> None:
        """Ask who owns an object that is about to be deleted, and how it looks if that is said."""
        self._deleted[resource][noted.pk] = noted

    def answer(self) -> None:
        """Ask, and note the answers."""
        compared: dict[tuple[Resource, int], tuple[Forms, dict[Any, None]]] = {}
        for path, rows in self._rows.items():
            for chunk in chunks(list(rows)):
                keys = chunk if path.is_base else path.base_keys(chunk, self._using)
                for changes in self._changes[path]:
                    changes.note_above(path.resource, keys)
                for forms in self._forms[path]:
                    place = path.resource, id(forms)
                    compared.setdefault(place, (forms, {}))[1].update(dict.fromkeys(keys))
        for (resource, _), (forms, pks) in compared.items():
            unknown = [pk for pk in pks if (resource, object_key(pk)) not in forms]
            for chunk in chunks(unknown):
                forms.update(self._looks(resource, chunk))
        for resource, deleted in self._deleted.items():
            for chunk in chunks(list(deleted)):
                for loaded in payloads.load(resource, chunk, self._using).values():
                    deleted[loaded.instance.pk].found = payloads.found(resource, loaded)

    def _looks(self, resource: Resource, pks: list[Any]) -> Iterator[tuple[Subject, Form]]:
        names = {object_key(pk): (resource.base_name, object_key(pk)) for pk in pks}
        # The count first: whoever says something of an object afterwards raises it.
        counts = numbering.counts(names.values(), self._using)
        loaded = payloads.load(resource, pks, self._using)
        for key, name in names.items():
            row = loaded.get(key)
            try:
                data = None if row is None else payloads.forms(resource, row)
            except PayloadError:
                # What cannot be serialized equals nothing.
                data = {}
            yield (resource, key), Form(data, counts.get(name, 0))


def chunks(items: list[Any]) -> list[list[Any]]:
    """Cut keys into lots that fit into one query."""
    return [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
