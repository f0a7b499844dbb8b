"""Read what sending needs of endpoints, and say how many deliveries each may have."""

import uuid
from collections.abc import Container, Mapping
from typing import Any, NamedTuple

from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet

from drf_webhooks.clock import Clock
from drf_webhooks.delivery.rows import Prepared
from drf_webhooks.encryption import Stored
from drf_webhooks.models import Endpoint

__all__ = ["Subscriber", "full_of", "room_of", "subscribers"]


class Subscriber(NamedTuple):
    """What sending needs of an endpoint; the names are those of its fields."""

    pk: uuid.UUID
    url: str
    method: str
    format: str
    headers: Stored
    secret: Stored
    old_secrets: Stored
    owner: Any
    state: str
    overrides: Mapping[str, Any] | None
    concurrency: int | None
    rate: float | None
    on_dead: str
    health__is_clean: bool | None
    health__ramp: int | None
    is_paused: bool | None

    @property
    def is_open(self) -> bool:
        """Whether it may be sent to: neither disabled nor paused."""
        return self.state == Endpoint.State.ENABLED and not self.is_paused

    def limit(self, each: int) -> int:
        """Return how many may be in the air, for one worker."""
        return each if self.concurrency is None else self.concurrency


def _select(using: str) -> QuerySet[Endpoint, Any]:
    is_paused = ExpressionWrapper(Q(health__paused_until__gt=Clock()), BooleanField())
    rows = Endpoint._base_manager.using(using).annotate(is_paused=is_paused)
    return rows.values_list(*Subscriber._fields)


_SUBSCRIBERS = Prepared(_select)


def subscribers(keys: set[uuid.UUID], *, using: str) -> dict[uuid.UUID, Subscriber]:
    """Read endpoints, with their health."""
    if not keys:
        return {}
    return {row[0]: Subscriber(*row) for row in _SUBSCRIBERS.among(keys, using=using)}


def room_of(
    endpoints: Mapping[uuid.UUID, Subscriber], *, each: int, in_air: Mapping[uuid.UUID, int]
) -> dict[uuid.UUID, int]:
    """Return how many more may be leased of each endpoint that may have more at all.

    One that recovers gets no more than its round may have.
    """
    room = {}
    for key, row in endpoints.items():
        count = row.limit(each) - in_air.get(key, 0)
        if row.health__ramp is not None:
            count = min(count, row.health__ramp)
        if count > 0 and row.is_open:
            room[key] = count
    return room


def full_of(
    endpoints: Mapping[uuid.UUID, Subscriber], room: Container[uuid.UUID]
) -> frozenset[uuid.UUID]:
    """Return the endpoints that have all they may have: that have no room."""
    return frozenset(key for key, row in endpoints.items() if row.is_open and key not in room)
