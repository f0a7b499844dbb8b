"""Keep to a number of requests a second to an endpoint, all workers together."""

import math
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta

from django.db import connections, transaction

from drf_webhooks.clock import database_now
from drf_webhooks.delivery.subscribers import Subscriber
from drf_webhooks.delivery.turns import Due
from drf_webhooks.models import Endpoint

__all__ = ["BURST", "admit", "within_rates"]

#: What an endpoint may get at once, as a part of what it may get in a second.
BURST = timedelta(milliseconds=100)


def admit(
    wanted: Mapping[uuid.UUID, tuple[int, float]], *, using: str
) -> tuple[dict[uuid.UUID, int], timedelta]:
    """Take room in the rates of some endpoints, by the database's clock.

    Each endpoint has the moment from which on its next request is free of those before it
    (the generic cell rate algorithm, ITU-T I.371). Its row is locked meanwhile.

    Args:
        wanted: How many requests of each endpoint, and how many a second it may get.
        using: The database.

    Returns:
        How many of each may be sent now, and after how long to ask again.

    """
    admitted = {}
    with transaction.atomic(using=using):
        rows = Endpoint.objects.using(using).filter(pk__in=list(wanted)).order_by("pk")
        if connections[using].features.has_select_for_update:
            rows = rows.select_for_update()
        endpoints = list(rows.only("pk", "rate_from"))
        now = database_now(using)
        for each in endpoints:
            count, rate = wanted[each.pk]
            start = max(each.rate_from or now, now)
            # A first request needs no more than that it is not too early.
            ahead = max(BURST.total_seconds(), 1 / rate) - (start - now).total_seconds()
            admitted[each.pk] = min(count, max(0, math.floor(ahead * rate + 1e-6)))
            each.rate_from = start + timedelta(seconds=admitted[each.pk] / rate)
        Endpoint.objects.using(using).bulk_update(endpoints, ["rate_from"])
    longest = max(1 / rate for _, rate in wanted.values())
    return admitted, max(BURST, timedelta(seconds=longest / 2))


def within_rates(
    chosen: Sequence[Due],
    endpoints: Mapping[uuid.UUID, Subscriber],
    *,
    using: str,
    rate: float | None,
) -> tuple[list[Due], timedelta | None]:
    """Leave out what would be too much for a second; costs nothing where there are no rates."""
    rates = {key: most for key, row in endpoints.items() if (most := row.rate or rate)}
    counts = Counter(each.endpoint for each in chosen) if rates else Counter()
    wanted = {key: (counts[key], most) for key, most in rates.items() if counts[key]}
    if not wanted:
        return list(chosen), None
    admitted, again_in = admit(wanted, using=using)
    kept = []
    for each in chosen:
        if each.endpoint in wanted:
            if not admitted.get(each.endpoint):
                continue
            admitted[each.endpoint] -= 1
        kept.append(each)
    return kept, None if len(kept) == len(chosen) else again_in
