"""What endpoints have waiting, dead and delivered: three statements for a page of them."""

import uuid
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connections
from django.db.models import Count, Max, Q

from drf_webhooks.clock import database_now
from drf_webhooks.models import Attempt, Delivery, Endpoint
from drf_webhooks.status import LIMIT, Number

__all__ = ["DEAD_FOR", "Counts", "counts", "last_success"]

#: Of one endpoint no more that waits is counted.
_MOST_WAITING = 1000
#: What died longer ago is not counted.
DEAD_FOR = timedelta(days=7)


@dataclass(frozen=True)
class Counts:
    """What an endpoint has.

    ``attempts`` are those among the newest of all endpoints, ``succeeded`` how many of them were
    taken, and ``last_success_at`` is of these too.
    """

    waiting: Number
    dead: Number
    attempts: int = 0
    succeeded: int = 0
    last_success_at: datetime | None = None


def counts(keys: Collection[uuid.UUID], *, using: str) -> Mapping[uuid.UUID, Counts]:
    """Return the counts of some endpoints; what is read does not grow with the tables."""
    if not keys:
        return {}
    waiting = _waiting(list(keys), using)
    dead, is_least = _dead(using)
    found = _attempts(keys, using)
    return {
        key: Counts(
            waiting=Number(min(waiting[key], _MOST_WAITING), waiting[key] > _MOST_WAITING),
            dead=Number(dead[key], is_least),
            **found.get(key, {}),
        )
        for key in keys
    }


def _waiting(keys: list[uuid.UUID], using: str) -> Mapping[uuid.UUID, int]:
    """Count what waits for each endpoint, each to a limit: one may have very much."""
    connection = connections[using]
    table, lanes = Delivery._meta.db_table, ", ".join(str(each.value) for each in Delivery.Lane)
    parts = [
        f"SELECT {place}, (SELECT COUNT(*) FROM (SELECT 1 AS one FROM {table} "  # noqa: S608  # names and numbers
        f"WHERE lane IN ({lanes}) AND endpoint_id = %s AND due_at IS NOT NULL "
        f"LIMIT {_MOST_WAITING + 1}) of{place})"
        for place in range(len(keys))
    ]
    column = Endpoint._meta.pk
    with connection.cursor() as cursor:
        cursor.execute(
            " UNION ALL ".join(parts),
            [column.get_db_prep_value(key, connection) for key in keys],
        )
        return {keys[place]: count for place, count in cursor.fetchall()}


def _dead(using: str) -> tuple[Counter[uuid.UUID], bool]:
    """Count the newest that are dead, and tell whether there are more."""
    since = database_now(using) - DEAD_FOR
    rows = Delivery.objects.using(using).filter(
        state=Delivery.State.DEAD, replaced_by=None, settled_at__gte=since
    )
    newest = list(rows.order_by("-settled_at").values_list("endpoint", flat=True)[:LIMIT])
    return Counter(newest), len(newest) == LIMIT


def _attempts(keys: Collection[uuid.UUID], using: str) -> dict[uuid.UUID, dict[str, Any]]:
    attempts = Attempt.objects.using(using)
    last = attempts.aggregate(last=Max("pk"))["last"] or 0
    newest = attempts.filter(pk__gt=last - LIMIT)
    is_success = Q(attempts__status__gte=200, attempts__status__lt=300)
    rows: Any = (
        Delivery.objects.using(using)
        # Said twice, so that PostgreSQL goes from the few attempts to their deliveries by the key,
        # and not through all deliveries.
        .filter(pk__in=newest.values("delivery"), attempts__pk__gt=last - LIMIT, endpoint__in=keys)
        .order_by()
        .values_list("endpoint")
        .annotate(
            Count("attempts__pk"),
            succeeded=Count("attempts__pk", filter=is_success),
            last_success_at=Max("attempts__started_at", filter=is_success),
        )
    )
    names = ("attempts", "succeeded", "last_success_at")
    return {key: dict(zip(names, found, strict=True)) for key, *found in rows}


def last_success(key: uuid.UUID, *, using: str) -> datetime | None:
    """Return when something was delivered last, of what is kept; reads all of the endpoint's."""
    rows = Delivery.objects.using(using).filter(endpoint=key, state=Delivery.State.DELIVERED)
    found: datetime | None = rows.aggregate(last=Max("settled_at"))["last"]
    return found
