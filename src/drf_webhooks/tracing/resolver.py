"""Turn changes into the base objects they concern, with as few queries as can be."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from drf_webhooks.changes import Changes, Noted, Operation, Subject, object_key
from drf_webhooks.tracing.paths import Path, base_keys

__all__ = ["CHUNK", "resolve"]

#: Keys in one query. Below every database's limit on parameters, and memory stays bounded.
CHUNK = 500


def resolve(
    changes: Changes, using: str, *, is_wanted: Callable[[Any], bool]
) -> dict[Subject, Noted]:
    """Return what is to be said of which base object, in the order of the first change.

    One query for each set of rows that changed, and each 500 of them.
    """
    said = {
        subject: replace(noted) for subject, noted in changes.bases.items() if is_wanted(subject[0])
    }
    nested = [(subject, noted) for subject, noted in changes.above.items() if is_wanted(subject[0])]
    for paths, rows in _grouped(changes, is_wanted):
        nested += _above(paths, rows, using)
    for subject, noted in nested:
        known = said.get(subject)
        if known is None:
            said[subject] = noted
        elif known.operation is Operation.UPDATED:
            known.order = min(known.order, noted.order)
    return {
        subject: noted
        for subject, noted in sorted(said.items(), key=lambda item: item[1].order)
        if noted.operation is not None
    }


def _grouped(
    changes: Changes, is_wanted: Callable[[Any], bool]
) -> list[tuple[list[Path], dict[Any, int]]]:
    """Return the paths of each resource that the very same rows go, as one save notes them."""
    groups: dict[Any, tuple[list[Path], dict[Any, int]]] = {}
    for path, rows in changes.nested.items():
        if isinstance(path, Path) and is_wanted(path.resource):
            place = path.resource, path.model, tuple(rows)
            groups.setdefault(place, ([], rows))[0].append(path)
    return list(groups.values())


def _above(paths: list[Path], rows: dict[Any, int], using: str) -> list[tuple[Subject, Noted]]:
    found: list[tuple[Subject, Noted]] = []
    resource = paths[0].resource
    pks = list(rows)
    for start in range(0, len(pks), CHUNK):
        chunk = pks[start : start + CHUNK]
        order = rows[chunk[0]]
        found += [
            ((resource, object_key(pk)), Noted(pk, Operation.UPDATED, order))
            for pk in base_keys(paths, chunk, using)
        ]
    return found
