"""Write events and their deliveries, in the transaction that made them true."""

import logging
import threading
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.models import Q, QuerySet
from django.utils import timezone

from drf_webhooks.changes import Key
from drf_webhooks.clock import LATER, NOW, later, moment
from drf_webhooks.conf import config
from drf_webhooks.event_types import Interest, patterns
from drf_webhooks.ids import object_hash
from drf_webhooks.models import BaseObject, Delivery, Endpoint, Event
from drf_webhooks.scoping import HEARS
from drf_webhooks.transactions import log_of
from drf_webhooks.waking import wake_on_commit

__all__ = [
    "CHANNEL",
    "due",
    "due_rechecks",
    "heard",
    "keep_all",
    "listeners",
    "number",
    "rechecked",
    "take",
    "wanted",
    "withdraw",
    "write",
    "write_to",
]

logger = logging.getLogger(__name__)

#: What PostgreSQL notifies when something is due, with "deliveries" or "events".
CHANNEL = "drf_webhooks"

#: Why a delivery is dead from the start. In SQL: no quotes.
_TOO_DEEP = "Not sent: {} webhooks or more have led to this change (MAX_DEPTH)."

#: Keys in one statement.
_MOST_IDS = 1000

#: Lists of event types that one query may bring; with more, each type is asked for.
_MOST_LISTS = 200

_keepers = 0
_keepers_lock = threading.Lock()


@contextmanager
def keep_all() -> Iterator[None]:
    """Store events although nobody subscribes, in the whole process: for tests."""
    global _keepers  # noqa: PLW0603  # for the whole process, threads included
    with _keepers_lock:
        _keepers += 1
    try:
        yield
    finally:
        with _keepers_lock:
            _keepers -= 1


def wanted(event_types: Iterable[str], using: str, interest: Interest) -> set[str]:
    """Return those event types that an enabled endpoint subscribes to.

    Args:
        event_types: What may have to be said.
        using: The database.
        interest: What was asked before, in this unit of work; answers are added.

    """
    types = set(event_types)
    if _keepers:
        return types
    unknown = {each for each in types if interest.knows(each) is None}
    if unknown:
        _ask(unknown, using, interest)
    return {each for each in types if interest.knows(each)}


def _ask(unknown: set[str], using: str, interest: Interest) -> None:
    """Read the lists of the enabled endpoints; with very many, ask for each type instead."""
    lists = _rows(
        using,
        f"SELECT event_types FROM {_table(using, Endpoint)} "  # noqa: S608  # a table's name
        f"WHERE state = 'enabled' LIMIT {_MOST_LISTS + 1}",
        [],
    )
    if len(lists) <= _MOST_LISTS:
        interest.heard = frozenset(pattern for (text,) in lists for pattern in text.split())
        return
    enabled = Endpoint.objects.using(using).filter(state=Endpoint.State.ENABLED)
    for each in unknown:
        is_heard = Q()
        for pattern in patterns(each):
            is_heard |= Q(event_types__contains=f" {pattern} ")
        interest.asked[each] = enabled.filter(is_heard).exists()


def listeners(event_types: Iterable[str], owners: Iterable[Any], using: str) -> set[Any]:
    """Return the keys of those owners who have an enabled endpoint for one of some types."""
    owners = list(owners)
    if _keepers:
        return set(owners)
    endpoints = Endpoint.objects.using(using).filter(owner__in=owners, state=Endpoint.State.ENABLED)
    asked = {pattern for each in event_types for pattern in patterns(each)}
    return {
        owner
        for owner, heard in endpoints.values_list("owner", "event_types")
        if not asked.isdisjoint(heard)
    }


def number(
    subjects: Iterable[tuple[str, Key]], using: str
) -> tuple[dict[tuple[str, Key], int], datetime]:
    """Count one more event for each object; return the new counts, and the database's time.

    Locks each object's row until the transaction ends, in one order for everybody. Whoever
    serializes the object after this sees what every earlier number said.
    """
    ordered = sorted(set(subjects))
    connection = connections[using]
    table = _table(using, BaseObject)
    values = ", ".join(["(%s, %s, 1)"] * len(ordered))
    parameters = [part for subject in ordered for part in subject]
    insert = f"INSERT INTO {table} (resource, object_key, sequence) VALUES {values} "  # noqa: S608  # a table's name
    read = f"resource, object_key, sequence, {NOW[connection.vendor]}"
    if connection.vendor == "mysql":
        _execute(using, f"{insert} ON DUPLICATE KEY UPDATE sequence = sequence + 1", parameters)
    else:
        insert += (
            f"ON CONFLICT (resource, object_key) DO UPDATE SET sequence = {table}.sequence + 1"
        )
        if connection.features.can_return_rows_from_bulk_insert:
            return _numbers(_rows(using, f"{insert} RETURNING {read}", parameters))
        _execute(using, insert, parameters)
    condition, parameters = _named(ordered, using)
    return _numbers(_rows(using, f"SELECT {read} FROM {table} WHERE {condition}", parameters))  # noqa: S608  # a table's name


def _numbers(rows: list[Any]) -> tuple[dict[tuple[str, Key], int], datetime]:
    found = {(resource, key): count for resource, key, count, _ in rows}
    return found, moment(rows[0][-1])


def counts(subjects: Iterable[tuple[str, Key]], using: str) -> dict[tuple[str, Key], int]:
    """Return how many events some objects have had; those without any are left out."""
    condition, parameters = _named(subjects, using)
    rows = _rows(
        using,
        f"SELECT resource, object_key, sequence FROM {_table(using, BaseObject)} "  # noqa: S608  # a table's name
        f"WHERE {condition}",
        parameters,
    )
    return {(resource, key): count for resource, key, count in rows}


def uncount(subjects: Sequence[tuple[str, Key]], using: str) -> None:
    """Take back numbers of this transaction that no event got."""
    if subjects:
        condition, parameters = _named(subjects, using)
        _execute(
            using,
            f"UPDATE {_table(using, BaseObject)} SET sequence = sequence - 1 "  # noqa: S608  # a table's name
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


def write(
    events: Sequence[Event], using: str, *, is_final: bool, held_for: timedelta | None = None
) -> None:
    """Insert events, and with ``is_final`` a delivery for each endpoint that subscribes.

    Two statements for any number of endpoints, one on PostgreSQL.

    Args:
        events: What is to be stored.
        using: The database.
        is_final: Whether they can be delivered.
        held_for: How long they are held, by the database's clock; else as they say themselves.

    """
    if not events:
        return
    for each in events:
        each.object_hash = object_hash(each.resource, each.object_key)
    connection = connections[using]
    sendable = [each for each in events if each.body is not None] if is_final else []
    _log_deep(sendable)
    if sendable or any(_is_due(each) for each in events):
        log_of(using).note_due()
    insert, parameters = _insert(connection, events, held_for)
    if connection.vendor == "postgresql":
        _write_at_once(using, insert, parameters, sendable)
        return
    _execute(using, insert, parameters)
    if sendable:
        marks = ", ".join(["%s"] * len(sendable))
        key = Event._meta.pk
        ids = [key.get_db_prep_save(each.pk, connection=connection) for each in sendable]
        fan_out, more = _fan_out(connection, _table(using, Event), sendable)
        _execute(using, f"{fan_out} AND e.id IN ({marks})", [*more, *ids])


def write_to(
    event: Event, endpoints: Collection[uuid.UUID], using: str, *, is_by_hand: bool = False
) -> None:
    """Insert an event for chosen endpoints, whatever they subscribe to; due before all else."""
    event.save(using=using, force_insert=True)
    now = timezone.now()
    Delivery.objects.using(using).bulk_create(
        # Long past by every clock.
        Delivery(
            event=event,
            endpoint_id=pk,
            due_at=now - timedelta(days=1),
            created_at=now,
            is_by_hand=is_by_hand,
            lane=Delivery.Lane.BY_HAND if is_by_hand else Delivery.Lane.FIRST,
            sequence=event.sequence,
        )
        for pk in endpoints
    )
    if connections[using].vendor == "postgresql":
        _execute(using, f"SELECT pg_notify('{CHANNEL}', 'deliveries')", [])
    wake_on_commit(using)


def _is_deep(event: Event) -> bool:
    return event.depth >= config().MAX_DEPTH


def _log_deep(events: Iterable[Event]) -> None:
    for each in events:
        if _is_deep(each):
            logger.warning(
                "Event %s is not sent: %d webhooks have led to it (MAX_DEPTH). Do two systems "
                "answer each other?",
                each.pk,
                each.depth,
            )


def _is_due(event: Event) -> bool:
    """Tell whether an event is left to the worker, not to the end of a session."""
    return event.held_until is not None and event.held_until <= event.created_at


def _write_at_once(
    using: str, insert: str, parameters: list[Any], sendable: Sequence[Event]
) -> None:
    """Insert, fan out and notify in one statement, as only PostgreSQL can."""
    notify = "SELECT pg_notify('{}', '{}')"
    if not sendable:
        # Events that the worker serializes are due too.
        notify = notify.format(CHANNEL, "events")
        _execute(using, f"WITH e AS ({insert} RETURNING id) {notify} FROM e LIMIT 1", parameters)
        return
    notify = notify.format(CHANNEL, "deliveries")
    connection = connections[using]
    fan_out, more = _fan_out(connection, "e", sendable)
    _execute(
        using,
        f"WITH e AS ({insert} RETURNING id, type, owner_id, body, object_hash, sequence, depth, "
        "origin_endpoint), "
        f"d AS ({fan_out} AND e.body IS NOT NULL RETURNING 1) {notify} FROM d LIMIT 1",
        [*parameters, *more],
    )


def _insert(
    connection: BaseDatabaseWrapper, events: Sequence[Event], held_for: timedelta | None
) -> tuple[str, list[Any]]:
    vendor = connection.vendor
    fields = [each for each in Event._meta.concrete_fields if each.name != "held_until"]
    columns = ", ".join(connection.ops.quote_name(str(each.column)) for each in fields)
    row = f"({', '.join(['%s'] * len(fields))}, {'%s' if held_for is None else LATER[vendor]})"
    until: Any = Event._meta.get_field("held_until")
    parameters = []
    for event in events:
        parameters += [
            each.get_db_prep_save(getattr(event, each.attname), connection=connection)
            for each in fields
        ]
        parameters.append(
            until.get_db_prep_save(event.held_until, connection=connection)
            if held_for is None
            else later(vendor, held_for)
        )
    columns += f", {connection.ops.quote_name(until.column)}"
    statement = (
        f"INSERT INTO {_table(connection.alias, Event)} ({columns}) "  # noqa: S608  # names of tables and columns
        f"VALUES {', '.join([row] * len(events))}"
    )
    return statement, parameters


def _fan_out(
    connection: BaseDatabaseWrapper, source: str, events: Sequence[Event]
) -> tuple[str, list[Any]]:
    """Return the statement that makes deliveries of events, open to one more condition."""
    using = connection.alias
    is_heard, same_type = {
        "postgresql": ("STRPOS(p.event_types, %s) > 0", "e.type = %s"),
        "mysql": ("LOCATE(BINARY %s, BINARY p.event_types) > 0", "BINARY e.type = BINARY %s"),
        "sqlite": ("INSTR(p.event_types, %s) > 0", "e.type = %s"),
    }[connection.vendor]
    conditions, parameters = [], []
    for kind in sorted({each.type for each in events}):
        matching = patterns(kind)
        conditions.append(f"{same_type} AND ({' OR '.join([is_heard] * len(matching))})")
        parameters += [kind, *(f" {pattern} " for pattern in matching)]
    now = NOW[connection.vendor]
    is_ordered = "p.ordering = 'object' AND e.object_hash IS NOT NULL"
    state, due_at, reason, settled_at = "'waiting'", now, "''", "NULL"
    if any(_is_deep(each) for each in events):
        # A chain that is cut is seen: in deliveries that are dead from the start.
        most = config().MAX_DEPTH
        is_deep = f"e.depth >= {most}"
        state = f"CASE WHEN {is_deep} THEN 'dead' ELSE 'waiting' END"
        due_at = f"CASE WHEN {is_deep} THEN NULL ELSE {now} END"
        reason = f"CASE WHEN {is_deep} THEN '{_TOO_DEEP.format(most)}' ELSE '' END"
        settled_at = f"CASE WHEN {is_deep} THEN {now} END"
        is_ordered += f" AND NOT {is_deep}"
    if any(each.origin_endpoint is not None for each in events):
        not_own = " AND (e.origin_endpoint IS NULL OR e.origin_endpoint <> p.id"
        not_own += " OR NOT p.ignores_own_changes)"
    else:
        not_own = ""
    statement = (
        f"INSERT INTO {_table(using, Delivery)} "  # noqa: S608  # names of tables
        "(event_id, endpoint_id, state, due_at, fence, attempt_count, reason, created_at, "
        "lane, order_key, sequence, settled_at) "
        f"SELECT e.id, p.id, {state}, {due_at}, 0, 0, {reason}, {now}, "
        f"CASE WHEN {is_ordered} THEN 2 ELSE 0 END, "
        f"CASE WHEN {is_ordered} THEN e.object_hash END, e.sequence, {settled_at} "
        f"FROM {source} e CROSS JOIN {_table(using, Endpoint)} p "
        f"WHERE p.state = 'enabled' AND {HEARS}{not_own} "
        f"AND ({' OR '.join(conditions)})"
    )
    return statement, parameters


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
        f"DELETE FROM {_table(using, Event)} "  # noqa: S608  # a table's name
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
    rows = _rows(
        using,
        f"SELECT id FROM {_table(using, Event)} WHERE {column} <= {NOW[connection.vendor]} "  # noqa: S608  # names of a table and a column
        f"ORDER BY {column} LIMIT {limit}{skip}",
        [],
    )
    return [uuid.UUID(str(pk)) for (pk,) in rows]


def _table(using: str, model: Any) -> str:
    return str(connections[using].ops.quote_name(model._meta.db_table))


def _execute(using: str, statement: str, parameters: list[Any]) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(statement, parameters)


def _rows(using: str, statement: str, parameters: list[Any]) -> list[Any]:
    cursor: CursorWrapper
    with connections[using].cursor() as cursor:
        # Without parameters drivers leave "%%" as it is; an empty list counts as none.
        cursor.execute(
            statement if parameters else statement.replace("%%", "%"), parameters or None
        )
        return list(cursor.fetchall())
