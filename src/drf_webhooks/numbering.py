"""Number what is said of each object, in the order of the commits."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db import connections

from drf_webhooks.changes import Key
from drf_webhooks.clock import NOW, moment
from drf_webhooks.models import BaseObject
from drf_webhooks.statements import execute, fetch, table_of

__all__ = ["counts", "heard", "number", "uncount"]


def number(
    subjects: Iterable[tuple[str, Key]], using: str
) -> tuple[dict[tuple[str, Key], int], datetime]:
    """Count one more event for each object; return the new counts, and the database's time.

    Locks each object's row until the transaction ends, in one order for everybody. Whoever
    serializes the object after this sees what every earlier number said.
    """
    ordered = sorted(set(subjects))
    connection = connections[using]
    table = table_of(using, BaseObject)
    values = ", ".join(["(%s, %s, 1)"] * len(ordered))
    parameters = [part for subject in ordered for part in subject]
    insert = f"INSERT INTO {table} (resource, object_key, sequence) VALUES {values} "  # noqa: S608  # a table's name
    read = f"resource, object_key, sequence, {NOW[connection.vendor]}"
    if connection.vendor == "mysql":
        execute(using, f"{insert} ON DUPLICATE KEY UPDATE sequence = sequence + 1", parameters)
    else:
        insert += (
            f"ON CONFLICT (resource, object_key) DO UPDATE SET sequence = {table}.sequence + 1"
        )
        if connection.features.can_return_rows_from_bulk_insert:
            return _numbers(fetch(using, f"{insert} RETURNING {read}", parameters))
        execute(using, insert, parameters)
    condition, parameters = _named(ordered, using)
    return _numbers(fetch(using, f"SELECT {read} FROM {table} WHERE {condition}", parameters))  # noqa: S608  # a table's name


def _numbers(rows: list[Any]) -> tuple[dict[tuple[str, Key], int], datetime]:
    found = {(resource, key): count for resource, key, count, _ in rows}
    return found, moment(rows[0][-1])


def counts(subjects: Iterable[tuple[str, Key]], using: str) -> dict[tuple[str, Key], int]:
    """Return how many events some objects have had; those without any are left out."""
    condition, parameters = _named(subjects, using)
    rows = fetch(
        using,
        f"SELECT resource, object_key, sequence FROM {table_of(using, BaseObject)} "  # noqa: S608  # a table's name
        f"WHERE {condition}",
        parameters,
    )
    return {(resource, key): count for resource, key, count in rows}


def uncount(subjects: Sequence[tuple[str, Key]], using: str) -> None:
    """Take back numbers of this transaction that no event got."""
    if subjects:
        condition, parameters = _named(subjects, using)
        execute(
            using,
            f"UPDATE {table_of(using, BaseObject)} SET sequence = sequence - 1 "  # noqa: S608  # a table's name
            f"WHERE {condition}",
            parameters,
        )


def heard(subjects: Iterable[tuple[str, Key]], using: str) -> list[tuple[str, Key]]:
    """Return those of some objects of which anything was said.

    Whoever is about to say something is waited for, and finds the object as this transaction
    leaves it.
    """
    asked = list(subjects)
    if not asked:
        return []
    numbers, _ = number(asked, using)
    uncount(asked, using)
    return [subject for subject in asked if numbers[subject] > 1]


def _named(subjects: Iterable[tuple[str, Key]], using: str) -> tuple[str, list[Any]]:
    ordered = sorted(set(subjects))
    pairs = ", ".join(["(%s, %s)"] * len(ordered))
    rows = pairs if connections[using].vendor == "mysql" else f"VALUES {pairs}"
    return f"(resource, object_key) IN ({rows})", [part for each in ordered for part in each]
