"""Events that wait: held ones for their release, others for a second look at their objects."""

import uuid
from collections.abc import Iterable, Sequence

from django.db import connections
from django.db.models import QuerySet

from drf_webhooks.changes import Key
from drf_webhooks.clock import NOW
from drf_webhooks.models import Event
from drf_webhooks.statements import fetch, table_of

__all__ = ["due", "due_rechecks", "rechecked", "take", "withdraw"]

#: Keys in one statement.
_MOST_IDS = 1000


def take(ids: Iterable[uuid.UUID], using: str) -> list[Event]:
    """Lock held events that are still held, and remove them: they are written anew.

    No signals: held events have no deliveries.
    """
    ids, connection = list(ids), connections[using]
    if not ids:
        return []
    if not connection.features.can_return_rows_from_bulk_insert:  # pragma: no cover  # MySQL
        held = Event.objects.using(using).filter(pk__in=ids, held_until__isnull=False)
        taken = list(held.select_for_update())
        Event.objects.using(using).filter(pk__in=[each.pk for each in taken])._raw_delete(using)
        return taken
    key = Event._meta.pk
    named = [key.get_db_prep_save(each, connection=connection) for each in ids]
    statement = (
        f"DELETE FROM {table_of(using, Event)} "  # noqa: S608  # a table's name
        f"WHERE id IN ({', '.join(['%s'] * len(named))}) AND held_until IS NOT NULL RETURNING *"
    )
    return list(Event.objects.using(using).raw(statement, named))


def due(using: str, *, limit: int) -> list[Event]:
    """Lock and remove held events whose hold is over, by the database's clock."""
    ids = _due("held_until", using, limit=limit)
    return take(ids, using) if ids else []


def due_rechecks(using: str, *, limit: int) -> list[Event]:
    """Lock the events whose objects are to be looked at once more, and let nobody else do it."""
    ids = _due("recheck_at", using, limit=limit)
    events = list(Event.objects.using(using).filter(pk__in=ids))
    if events:
        Event.objects.using(using).filter(pk__in=ids).update(recheck_at=None)
    return events


def rechecked(names: Sequence[str], using: str) -> set[str]:
    """Return those of some resources of which an object is yet to be looked at once more."""
    return set(_waiting(names, using).values_list("resource", flat=True).distinct())


def withdraw(names: Sequence[str], keys: Sequence[Key] | None, using: str) -> None:
    """Leave out second looks at objects of some resources.

    Args:
        names: The resources.
        keys: The objects; ``None`` for all of them.
        using: The database.

    """
    if not names:
        return
    waiting = _waiting(names, using)
    if keys is not None:
        waiting = waiting.filter(object_key__in=keys)
    # Rows that others hold are being looked at now, before this transaction is to be seen.
    ids = list(waiting.select_for_update(skip_locked=True).values_list("pk", flat=True))
    for start in range(0, len(ids), _MOST_IDS):
        Event.objects.using(using).filter(pk__in=ids[start : start + _MOST_IDS]).update(
            recheck_at=None
        )


def _waiting(names: Sequence[str], using: str) -> QuerySet[Event]:
    return Event.objects.using(using).filter(resource__in=names, recheck_at__isnull=False)


def _due(column: str, using: str, *, limit: int) -> list[uuid.UUID]:
    """Lock events whose time has come, by the database's clock; leave out what others hold."""
    connection = connections[using]
    skip = (
        " FOR UPDATE SKIP LOCKED" if connection.features.has_select_for_update_skip_locked else ""
    )
    rows = fetch(
        using,
        f"SELECT id FROM {table_of(using, Event)} WHERE {column} <= {NOW[connection.vendor]} "  # noqa: S608  # names of a table and a column
        f"ORDER BY {column} LIMIT {limit}{skip}",
        [],
    )
    return [uuid.UUID(str(pk)) for (pk,) in rows]
