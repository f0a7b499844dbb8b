"""Write events and their deliveries, in the transaction that made them true."""

import logging
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import CharField, TextField
from django.utils import timezone

from drf_webhooks.clock import LATER, NOW, later
from drf_webhooks.conf import config
from drf_webhooks.deliveries import EventBody
from drf_webhooks.event_types import Way, patterns
from drf_webhooks.ids import object_hash
from drf_webhooks.models import Delivery, Endpoint, Event
from drf_webhooks.scoping import HEARS
from drf_webhooks.statements import execute, table_of
from drf_webhooks.transactions import log_of
from drf_webhooks.waking import wake_on_commit

__all__ = ["CHANNEL", "write", "write_to"]

logger = logging.getLogger(__name__)

#: What PostgreSQL notifies when something is due, with "deliveries" or "events".
CHANNEL = "drf_webhooks"

#: Why a delivery is dead from the start. In SQL: no quotes.
_TOO_DEEP = "Not sent: {} webhooks or more have led to this change (MAX_DEPTH)."

#: The statement that inserts events, up to the values, and whose values these are; by vendor.
_fronts: dict[str, tuple[str, list[Any], Any]] = {}


class Written(Protocol):
    """How one event is written besides its own body."""

    #: By name.
    bodies: dict[str, bytes]
    #: The name of what an endpoint gets; empty for the event's own body.
    by_way: dict[Way, str]
    otherwise: str


def write(
    events: Sequence[Event],
    using: str,
    *,
    is_final: bool,
    held_for: timedelta | None = None,
    variants: Mapping[uuid.UUID, Written] | None = None,
) -> None:
    """Insert events, and with ``is_final`` a delivery for each endpoint that subscribes.

    Two statements for any number of endpoints, one on PostgreSQL; one more for variants.

    Args:
        events: What is to be stored.
        using: The database.
        is_final: Whether they can be delivered.
        held_for: How long they are held, by the database's clock; else as they say themselves.
        variants: How some of them are written besides, and who gets what.

    """
    if not events:
        return
    variants = variants or {}
    for each in events:
        each.object_hash = object_hash(each.resource, each.object_key)
    connection = connections[using]
    sendable = [each for each in events if each.body is not None] if is_final else []
    _log_deep(sendable)
    if sendable or any(_is_due(each) for each in events):
        log_of(using).note_due()
    insert, parameters = _insert(connection, events, held_for)
    if connection.vendor == "postgresql":
        _write_at_once(using, insert, parameters, sendable, variants)
        _write_bodies(variants, using)
        return
    execute(using, insert, parameters)
    if sendable:
        marks = ", ".join(["%s"] * len(sendable))
        key = Event._meta.pk
        ids = [key.get_db_prep_save(each.pk, connection=connection) for each in sendable]
        fan_out, more = _fan_out(connection, table_of(using, Event), sendable, variants)
        execute(using, f"{fan_out} AND e.id IN ({marks})", [*more, *ids])
    _write_bodies(variants, using)


def _write_bodies(variants: Mapping[uuid.UUID, Written], using: str) -> None:
    rows = [
        EventBody(event_id=pk, variant=name, body=body)
        for pk, each in variants.items()
        for name, body in each.bodies.items()
    ]
    if rows:
        EventBody.objects.using(using).bulk_create(rows)


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
        execute(using, f"SELECT pg_notify('{CHANNEL}', 'deliveries')", [])
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
    using: str,
    insert: str,
    parameters: list[Any],
    sendable: Sequence[Event],
    variants: Mapping[uuid.UUID, Written],
) -> None:
    """Insert, fan out and notify in one statement, as only PostgreSQL can."""
    notify = "SELECT pg_notify('{}', '{}')"
    if not sendable:
        # Events that the worker serializes are due too.
        notify = notify.format(CHANNEL, "events")
        execute(using, f"WITH e AS ({insert} RETURNING id) {notify} FROM e LIMIT 1", parameters)
        return
    notify = notify.format(CHANNEL, "deliveries")
    connection = connections[using]
    fan_out, more = _fan_out(connection, "e", sendable, variants)
    execute(
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
    if vendor not in _fronts:
        # The last column is the one that may be an expression.
        *fields, until = sorted(
            Event._meta.concrete_fields, key=lambda each: each.name == "held_until"
        )
        columns = ", ".join(
            connection.ops.quote_name(str(each.column)) for each in (*fields, until)
        )
        front = f"INSERT INTO {table_of(connection.alias, Event)} ({columns}) VALUES "  # noqa: S608  # names of tables and columns
        _fronts[vendor] = front, fields, until
    front, fields, until = _fronts[vendor]
    row = f"({'%s, ' * len(fields)}{'%s' if held_for is None else LATER[vendor]})"
    parameters = []
    for event in events:
        parameters += [_prepared(each, getattr(event, each.attname), connection) for each in fields]
        parameters.append(
            _prepared(until, event.held_until, connection)
            if held_for is None
            else later(vendor, held_for)
        )
    return front + ", ".join([row] * len(events)), parameters


def _prepared(field: Any, value: Any, connection: BaseDatabaseWrapper) -> Any:
    # Most columns hold what no field would change: nothing, or a text.
    if value is None or (type(value) is str and isinstance(field, CharField | TextField)):
        return value
    return field.get_db_prep_save(value, connection=connection)


def _fan_out(
    connection: BaseDatabaseWrapper,
    source: str,
    events: Sequence[Event],
    variants: Mapping[uuid.UUID, Written],
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
    column, variant = "", ""
    if variants:
        chosen, more = _variant(connection, events, variants)
        column, variant, parameters = ", variant", f", {chosen}", [*more, *parameters]
    statement = (
        f"INSERT INTO {table_of(using, Delivery)} "  # noqa: S608  # names of tables
        "(event_id, endpoint_id, state, due_at, fence, attempt_count, reason, created_at, "
        f"lane, order_key, sequence, settled_at{column}) "
        f"SELECT e.id, p.id, {state}, {due_at}, 0, 0, {reason}, {now}, "
        f"CASE WHEN {is_ordered} THEN 2 ELSE 0 END, "
        f"CASE WHEN {is_ordered} THEN e.object_hash END, e.sequence, {settled_at}{variant} "
        f"FROM {source} e CROSS JOIN {table_of(using, Endpoint)} p "
        f"WHERE p.state = 'enabled' AND {HEARS}{not_own} "
        f"AND ({' OR '.join(conditions)})"
    )
    return statement, parameters


def _variant(
    connection: BaseDatabaseWrapper,
    events: Sequence[Event],
    variants: Mapping[uuid.UUID, Written],
) -> tuple[str, list[Any]]:
    """Return, in SQL, which variant of an event an endpoint gets.

    Most events are written in the same ways: they are one condition, or a few.
    """
    key = Event._meta.pk
    alike: dict[Any, list[uuid.UUID]] = defaultdict(list)
    for each in events:
        written = variants.get(each.pk)
        if written is not None:
            alike[frozenset(written.by_way.items()), written.otherwise].append(each.pk)
    cases, parameters = [], []
    for (by_way, otherwise), pks in alike.items():
        ids = [key.get_db_prep_save(each, connection=connection) for each in pks]
        is_one = f"e.id IN ({', '.join(['%s'] * len(ids))})"
        inner = ""
        own: list[Any] = [*ids]
        for way, name in sorted(by_way):
            inner += "WHEN p.version = %s AND p.is_thin = %s THEN %s "
            own += [way.version, way.is_thin, name]
        cases.append(f"WHEN {is_one} THEN CASE {inner}ELSE %s END")
        parameters += [*own, otherwise]
    return f"CASE {' '.join(cases)} ELSE '' END", parameters
