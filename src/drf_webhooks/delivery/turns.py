"""Find what a claim may take: first in the order in which it is due, in a crowd by turns.

Why, and what it costs: ``docs/explanation/delivery.md``.
"""

import random
import uuid
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.db import connections

from drf_webhooks.clock import NOW
from drf_webhooks.models import Delivery, Endpoint

__all__ = [
    "Due",
    "Turns",
    "due_by_turns",
    "due_in_order",
    "endpoints_in_turn",
    "interleave",
    "shares",
]

#: How many rows of each lane are looked at in the order in which they are due, at least.
WINDOW = 100
#: How many objects of one endpoint with ordering are visited for one claim.
OBJECTS = 100
#: Of so many deliveries of one endpoint one is a retry, if both are due.
RETRY_SHARE = 4

#: Parts of one statement, where each endpoint needs one.
_PARTS = 200

_NIL = uuid.UUID(int=0)
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1

#: What waits of an endpoint in a lane, the first that is due before the others: who wants what is
#: due reads as many as that from the beginning. Written like this for PostgreSQL only the index of
#: all three columns gives the order, and its scan ends with the endpoint. If that of the lane would
#: do, or that of the endpoint, a planner that takes the rows for few, as it does where it does not
#: know the values, may walk past all that wait for others, once for each endpoint.
_OF_ONE = {
    "postgresql": "d.lane = {0} AND d.endpoint_id >= {1} AND d.endpoint_id <= {1} "
    "AND d.due_at IS NOT NULL ORDER BY d.endpoint_id, d.due_at"
}
_OF_ONE_ELSEWHERE = (
    "d.lane = {0} AND d.endpoint_id = {1} AND d.due_at IS NOT NULL ORDER BY d.due_at"
)
#: What waits in a lane of the endpoint after one; likewise. Elsewhere what makes a partial index
#: usable would have a whole one walk over what is settled.
_AFTER_ONE = {
    "postgresql": "(d.lane, d.endpoint_id) > ({0}, {1}) AND d.lane <= {0} "
    "AND d.due_at IS NOT NULL ORDER BY d.lane, d.endpoint_id",
    "sqlite": "d.lane = {0} AND d.endpoint_id > {1} AND d.due_at IS NOT NULL "
    "ORDER BY d.endpoint_id",
}
_AFTER_ONE_ELSEWHERE = "d.lane = {0} AND d.endpoint_id > {1} ORDER BY d.endpoint_id"

_LANES = tuple(each.value for each in Delivery.Lane)


class Due(NamedTuple):
    """A delivery that is due and that nothing goes before.

    ``is_lost`` if a worker held it that has said nothing until its lease ended.
    """

    delivery: int
    endpoint: uuid.UUID
    lane: int
    is_lost: bool = False


@dataclass
class Turns:
    """Where a worker is in its round of the endpoints. Kept between its claims."""

    #: How many endpoints of each lane are visited for one claim.
    visits: int = 500
    #: More was due at the last claim than could be looked at in order.
    is_crowded: bool = False
    #: Nothing that may be sent was found since the round of the endpoints began.
    is_vain: bool = True
    #: For each lane the endpoint that was visited last, if they are too many for one claim.
    visited: dict[int, uuid.UUID] = field(default_factory=dict)
    #: The endpoint that was served last.
    served: uuid.UUID = _NIL


def due_in_order(
    wanted: int, *, using: str, lanes: Sequence[int] = _LANES
) -> tuple[list[Due], bool]:
    """Return what is due of each lane, the oldest first, and whether that is all."""
    window = max(WINDOW, 2 * wanted)
    table, now = _table(using), _now(using)
    parts = [
        f"SELECT * FROM (SELECT id, endpoint_id, lane, order_key, sequence, leased_at FROM {table} "  # noqa: S608  # names and numbers
        f"WHERE lane = {lane} AND due_at <= {now} ORDER BY due_at LIMIT {window}) lane{lane}"
        for lane in lanes
    ]
    rows = _rows(
        using,
        "SELECT d.id, d.endpoint_id, d.lane, d.leased_at IS NOT NULL, "  # noqa: S608  # as above
        "d.order_key IS NOT NULL AND EXISTS ("
        f"SELECT 1 FROM {table} b WHERE b.endpoint_id = d.endpoint_id "
        "AND b.order_key = d.order_key AND b.sequence < d.sequence) "
        f"FROM ({' UNION ALL '.join(parts)}) d",
    )
    counts = Counter(row[2] for row in rows)
    found = [
        Due(pk, _uuid(endpoint), lane, bool(is_lost))
        for pk, endpoint, lane, is_lost, has_to_wait in rows
        if not has_to_wait
    ]
    return found, max(counts.values(), default=0) < window


def endpoints_in_turn(turns: Turns, *, using: str) -> tuple[dict[int, list[uuid.UUID]], bool]:
    """Visit the endpoints with deliveries in each lane, and return those that have due ones.

    A loose scan of the index: it goes from endpoint to endpoint, whatever waits for each.

    Returns:
        For each lane the endpoints that have something due, and whether the round is over.

    """
    vendor = connections[using].vendor
    table, now = _table(using), _now(using)
    after_one = _AFTER_ONE.get(vendor, _AFTER_ONE_ELSEWHERE)
    of_one = _OF_ONE.get(vendor, _OF_ONE_ELSEWHERE)
    step = f"(SELECT d.endpoint_id FROM {table} d WHERE {after_one} LIMIT 1)"  # noqa: S608  # names
    starts = " UNION ALL ".join(f"SELECT {lane} AS lane, %s AS id" for lane in _LANES)
    statement = (
        f"WITH RECURSIVE t(lane, id, n) AS (SELECT s.lane, {step.format('s.lane', 's.id')}, 1 "  # noqa: S608  # names and numbers
        f"FROM ({starts}) s UNION ALL "
        f"SELECT t.lane, {step.format('t.lane', 't.id')}, t.n + 1 "
        f"FROM t WHERE t.id IS NOT NULL AND t.n < {turns.visits}) "
        f"SELECT t.lane, t.id, t.n, (SELECT d.due_at <= {now} FROM {table} d "
        f"WHERE {of_one.format('t.lane', 't.id')} LIMIT 1) FROM t WHERE t.id IS NOT NULL"
    )
    parameters = [_key(turns.visited.get(lane, _NIL), using) for lane in _LANES]
    turns.is_vain = turns.is_vain or not turns.visited
    turns.visited = {}
    found: dict[int, list[uuid.UUID]] = {lane: [] for lane in _LANES}
    for lane, endpoint, place, is_due in _rows(using, statement, *parameters):
        if is_due:
            found[lane].append(_uuid(endpoint))
        if place == turns.visits:
            turns.visited[lane] = _uuid(endpoint)
    return found, not turns.visited


def due_by_turns(
    wanted: Mapping[uuid.UUID, int],
    lanes: Mapping[int, Sequence[uuid.UUID]],
    *,
    using: str,
    after: uuid.UUID,
) -> list[Due]:
    """Return what is due of some endpoints, the oldest of each.

    Args:
        wanted: How many of each endpoint at most.
        lanes: For each lane the endpoints that have something due in it.
        using: The database.
        after: The endpoint that was served last; the round goes on behind it.

    """
    plain = [
        (endpoint, lane, wanted[endpoint])
        for lane in (Delivery.Lane.FIRST.value, Delivery.Lane.RETRY.value)
        for endpoint in _turned(lanes[lane], after)
        if endpoint in wanted
    ]
    ordered = [
        each for each in _turned(lanes[Delivery.Lane.ORDERED.value], after) if each in wanted
    ]
    found = _oldest(plain, using) if plain else []
    found += _heads(ordered, using) if ordered else []
    if not lanes[Delivery.Lane.BY_HAND.value]:
        return found
    by_hand, _ = due_in_order(WINDOW, using=using, lanes=[Delivery.Lane.BY_HAND.value])
    # One with an order may be found both ways.
    return list(dict.fromkeys([*by_hand, *found]))


def _turned(endpoints: Sequence[uuid.UUID], after: uuid.UUID) -> list[uuid.UUID]:
    """Let a round begin behind an endpoint, or anywhere if that one is not in it any more."""
    if not endpoints:
        return []
    try:
        place = endpoints.index(after) + 1
    except ValueError:
        place = random.randrange(len(endpoints))  # noqa: S311  # a place to begin
    return [*endpoints[place:], *endpoints[:place]]


def _oldest(some: Sequence[tuple[uuid.UUID, int, int]], using: str) -> list[Due]:
    table, now = _table(using), _now(using)
    if connections[using].vendor == "postgresql":
        rows = _rows(
            using,
            "SELECT d.id, p.place, d.leased_at IS NOT NULL "  # noqa: S608  # a table's name
            "FROM unnest(%s::uuid[], %s::int[], %s::int[]) "
            "WITH ORDINALITY AS p(endpoint_id, lane, wanted, place) "
            f"CROSS JOIN LATERAL (SELECT id, leased_at, due_at FROM {table} d WHERE "
            f"{_OF_ONE['postgresql'].format('p.lane', 'p.endpoint_id')} LIMIT p.wanted) d "
            f"WHERE d.due_at <= {now}",
            *(list(column) for column in zip(*some, strict=True)),
        )
        # To read the keys of endpoints again for each row would cost more than all else here.
        return [
            Due(pk, endpoint, lane, is_lost)
            for pk, place, is_lost in rows
            for endpoint, lane, _ in [some[place - 1]]
        ]
    # No LATERAL there: a part for each. Their number is bounded by that of the parts
    # that a statement may have.
    some = some[:_PARTS]
    parts = [
        "SELECT * FROM (SELECT id, endpoint_id, lane, leased_at IS NOT NULL "  # noqa: S608  # names and numbers
        f"FROM {table} WHERE lane = {lane} AND endpoint_id = %s "
        f"AND due_at <= {now} ORDER BY due_at LIMIT {count}) p{place}"
        for place, (_, lane, count) in enumerate(some)
    ]
    keys = [_key(endpoint, using) for endpoint, _, _ in some]
    rows = _rows(using, " UNION ALL ".join(parts), *keys)
    return _dues(rows)


def _heads(endpoints: Sequence[uuid.UUID], using: str) -> list[Due]:
    """Return what goes next for objects of endpoints with ordering, if it is due.

    A loose scan again, from object to object, from anywhere in the round of them: their keys
    are hashes.
    """
    table, keys = _table(using), [_key(each, using) for each in endpoints]
    marks = ", ".join(["%s"] * len(keys))
    step = (
        f"(SELECT d.id FROM {table} d WHERE d.endpoint_id = {{}} AND d.order_key > {{}} "  # noqa: S608  # names and numbers
        "ORDER BY d.order_key, d.sequence LIMIT 1)"
    )
    rows = _rows(
        using,
        "WITH RECURSIVE t(id, n) AS ("  # noqa: S608  # as above
        f"SELECT {step.format('p.id', 's.start')}, 1 FROM {_table(using, Endpoint)} p "
        "CROSS JOIN (SELECT %s AS start UNION ALL SELECT %s) s "
        f"WHERE p.id IN ({marks}) UNION ALL "
        f"SELECT {step.format('b.endpoint_id', 'b.order_key')}, t.n + 1 "
        f"FROM t JOIN {table} b ON b.id = t.id WHERE t.n < {OBJECTS}) "
        "SELECT d.id, d.endpoint_id, d.lane, d.leased_at IS NOT NULL "
        f"FROM t JOIN {table} d ON d.id = t.id WHERE d.due_at <= {_now(using)}",
        random.randint(_LOWEST, _HIGHEST),  # noqa: S311  # a place to begin
        _LOWEST,
        *keys,
    )
    return list(dict.fromkeys(_dues(rows)))


def _dues(rows: Iterable[Any]) -> list[Due]:
    return [Due(pk, _uuid(endpoint), lane, bool(is_lost)) for pk, endpoint, lane, is_lost in rows]


def shares(
    room: Mapping[uuid.UUID, int], groups: Mapping[uuid.UUID, Any], *, limit: int
) -> dict[uuid.UUID, int]:
    """Return how many rows to look at for each endpoint, so that each owner may have its part.

    A quarter more than an equal part, which those may use who wait beside others that have less.
    """
    sizes = Counter(groups[key] for key in room)
    parts = {
        group: -(-5 * limit // (4 * len(sizes) * endpoints)) for group, endpoints in sizes.items()
    }
    return {key: min(count, parts[groups[key]]) for key, count in room.items()}


def interleave(
    due: Iterable[Due],
    room: Mapping[uuid.UUID, int],
    groups: Mapping[uuid.UUID, Any],
    *,
    limit: int,
    after: uuid.UUID,
) -> list[Due]:
    """Choose in turn: an owner, an endpoint of it, a delivery of it.

    Args:
        due: What may be chosen, the oldest of each endpoint and lane first.
        room: How many of each endpoint at most; those that are not in it get nothing.
        groups: The owner of each endpoint.
        limit: How many at most.
        after: The endpoint that was served last; the round goes on behind it.

    """
    lanes: dict[uuid.UUID, tuple[list[Due], list[Due]]] = {}
    retry = Delivery.Lane.RETRY.value
    for each in due:
        found = lanes.get(each.endpoint)
        if found is None:
            if room.get(each.endpoint, 0) <= 0:
                continue
            found = lanes[each.endpoint] = ([], [])
        found[each.lane == retry].append(each)
    owners: dict[Any, deque[list[Due]]] = {}
    for endpoint in _turned(list(lanes), after):
        mixed = _mix(*lanes[endpoint])[: room[endpoint]]
        owners.setdefault(groups[endpoint], deque()).append(mixed[::-1])
    turns = deque(owners.values())
    chosen: list[Due] = []
    while turns and len(chosen) < limit:
        endpoints = turns.popleft()
        queue = endpoints.popleft()
        chosen.append(queue.pop())
        if queue:
            endpoints.append(queue)
        if endpoints:
            turns.append(endpoints)
    return chosen


def _mix(first: Sequence[Due], again: Sequence[Due]) -> list[Due]:
    """Put retries among first attempts, each at its share."""
    if not again:
        return list(first)
    mixed: list[Due] = []
    retries = iter(again)
    for number, each in enumerate(first, 1):
        mixed.append(each)
        if number % (RETRY_SHARE - 1) == 0:
            mixed += [retry for retry in [next(retries, None)] if retry]
    return [*mixed, *retries]


def _table(using: str, model: Any = Delivery) -> str:
    return str(connections[using].ops.quote_name(model._meta.db_table))


def _now(using: str) -> str:
    return NOW[connections[using].vendor]


def _key(endpoint: uuid.UUID, using: str) -> Any:
    return Endpoint._meta.pk.get_db_prep_value(endpoint, connections[using], prepared=False)


def _uuid(value: Any) -> uuid.UUID:
    return value if isinstance(value, uuid.UUID) else uuid.UUID(str(value))


def _rows(using: str, statement: str, *parameters: Any) -> list[Any]:
    with connections[using].cursor() as cursor:
        # Without parameters drivers leave "%%" as it is; an empty list counts as none.
        cursor.execute(
            statement if parameters else statement.replace("%%", "%"), parameters or None
        )
        return list(cursor.fetchall())
