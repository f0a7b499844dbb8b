"""The feed of an endpoint: its messages in the order of their commits, each at a place for good.

A place is given when somebody reads so far, under the lock of the feed, to what is committed by
then. What is committed later has a higher place, whenever it was written: so nobody who has
read up to a place can have missed anything before it. ``docs/howto/catch-up.md`` argues it.
"""

import uuid
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from django.db import connections, transaction
from django.db.models import Case, Value, When

from drf_webhooks.models import Delivery, Feed

__all__ = ["extend", "has_more"]

#: Deliveries that get a place at once.
CHUNK = 500


def extend(endpoint: uuid.UUID, count: int, *, using: str) -> int:
    """Give places to deliveries of an endpoint that have none yet; return to how many.

    Those that a worker is writing to at this moment have to wait, and all after them too: 0
    does not say that there are none. The events of one object keep their order.

    Args:
        endpoint: Its key.
        count: How many at most.
        using: The database.

    """
    with transaction.atomic(using=using):
        last = _locked(endpoint, using)
        rows = Delivery.objects.using(using).filter(endpoint=endpoint, position=None)
        # A row that is committed after this has a place after all of these, although its key
        # may be lower.
        wanted = list(rows.order_by("pk").values_list("pk", flat=True)[: min(count, CHUNK)])
        free = _free(wanted, using)
        pks = free if len(free) == len(wanted) else _front(wanted, set(free))
        if not pks:
            return 0
        places = [When(pk=pk, then=Value(last + number)) for number, pk in enumerate(pks, 1)]
        Delivery.objects.using(using).filter(pk__in=pks).update(position=Case(*places))
        Feed.objects.using(using).filter(pk=endpoint).update(last=last + len(pks))
    return len(pks)


def has_more(endpoint: uuid.UUID, *, using: str) -> bool:
    """Tell whether an endpoint has deliveries without a place."""
    return Delivery.objects.using(using).filter(endpoint=endpoint, position=None).exists()


def _locked(endpoint: uuid.UUID, using: str) -> int:
    """Lock the feed until the transaction ends, and return its last place.

    One statement makes or locks the row: to look first, and then to lock, is a deadlock of two
    first readers on MariaDB, and of a reader and a writer on SQLite.
    """
    connection = connections[using]
    quote = connection.ops.quote_name
    table, last = quote(Feed._meta.db_table), quote("last")
    found = {
        "mysql": f"ON DUPLICATE KEY UPDATE {last} = {last}",
        "sqlite": f"ON CONFLICT (endpoint_id) DO UPDATE SET {last} = {table}.{last}",
    }
    found["postgresql"] = found["sqlite"]
    key = Feed._meta.pk.get_db_prep_save(endpoint, connection=connection)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} (endpoint_id, {last}) VALUES (%s, 0) {found[connection.vendor]}",  # noqa: S608  # names of a table and of columns
            [key],
        )
    return Feed.objects.using(using).values_list("last", flat=True).get(pk=endpoint)


def _free(pks: Sequence[int], using: str) -> list[int]:
    """Lock those of some deliveries that nobody else holds: to wait could end in a deadlock."""
    rows: Any = Delivery.objects.using(using).filter(pk__in=pks, position=None)
    features = connections[using].features
    if features.has_select_for_update_skip_locked:
        # Weakly, where that is possible: who inserts an attempt does not stand in the way.
        weak = features.has_select_for_no_key_update
        rows = rows.select_for_update(skip_locked=True, no_key=weak)
    return sorted(rows.values_list("pk", flat=True))


def _front(wanted: Sequence[int], free: set[int]) -> list[int]:
    """Return those that come before the first one that is held."""
    return [*takewhile(free.__contains__, wanted)]
