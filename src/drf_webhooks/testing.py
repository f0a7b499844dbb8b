"""Helpers for tests: what was said, other declarations, deliveries at once, a receiver."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connections, router

from drf_webhooks import housekeeping, notices, pipeline, subscriptions
from drf_webhooks.audit import audit
from drf_webhooks.delivery import batches
from drf_webhooks.models import Event
from drf_webhooks.receiver_server import WebhookReceiver
from drf_webhooks.registry import registry
from drf_webhooks.transactions import log_of

__all__ = [
    "CapturedEvent",
    "WebhookReceiver",
    "assert_traced",
    "capture_events",
    "deliver_now",
    "isolated_registry",
]


@dataclass(frozen=True)
class CapturedEvent:
    """An event that was written.

    ``error`` says why there is no ``data``; it is empty if there is.
    """

    type: str
    object_key: str
    data: Any
    id: str
    sequence: int | None
    owner_id: Any
    created_at: datetime
    error: str = field(default="", repr=False)


@contextmanager
def capture_events(using: str | None = None) -> Iterator[list[CapturedEvent]]:
    """Give a list that holds, at the block's end, the events that were written inside it.

    Events are written although nobody subscribes. Works in ``TestCase`` too, where what would
    be an outermost transaction counts as committed at its end.

    Args:
        using: The database; by default the one that events are written to.

    """
    using = using or router.db_for_write(Event)
    captured: list[CapturedEvent] = []
    with subscriptions.keep_all():
        _settle(using)
        before = set(Event.objects.using(using).values_list("pk", flat=True))
        try:
            yield captured
        finally:
            # A transaction that is broken can be asked nothing.
            if not connections[using].needs_rollback:
                _settle(using)
                captured += _written(using, before)


def _settle(using: str) -> None:
    """Write what is noted, and serialize what was left to the worker."""
    log_of(using).end_test_unit()
    if not connections[using].in_atomic_block or log_of(using).is_in_test_case:
        pipeline.release_due(using)


def _written(using: str, before: set[Any]) -> list[CapturedEvent]:
    events = Event.objects.using(using).filter(held_until=None).exclude(pk__in=before)
    return [
        CapturedEvent(
            type=each.type,
            object_key=each.object_key,
            data=each.data,
            id=each.message_id,
            sequence=each.sequence,
            owner_id=each.owner_id,
            created_at=each.created_at,
            error=each.error,
        )
        # Identifiers sort by the time they were made.
        for each in sorted(events, key=lambda event: (event.created_at, event.pk))
    ]


@contextmanager
def isolated_registry() -> Iterator[None]:
    """Start with no resources declared, and bring back the project's at the block's end."""
    with registry.isolated():
        yield


def assert_traced(
    declared: type[Any], *, sample: int = 50, using: str = "default", statements: int = 0
) -> None:
    """Fail if a serializer reads rows that are not monitored from the start.

    Serializes objects that the test has made, and watches. What its code reads must be
    declared with ``depends_on``: that it would be learnt is not enough.

    Args:
        declared: A resource, or the serializer of one.
        sample: How many objects, the newest ones.
        using: The database that has them.
        statements: How many statements each object may cost by itself.

    Raises:
        AssertionError: there is such a read, there is no object, or an object costs more.
        ValueError: nothing of that name is declared.

    """
    resource = next((each for each in registry if declared in {each, each.serializer_class}), None)
    if resource is None:
        msg = f"{declared.__name__} is no resource, and no declared resource's serializer."
        raise ValueError(msg)
    report = audit(resource, sample=sample, using=using)
    found = [f"not monitored: {each}" for each in report.findings]
    found += [f"not known: {each}" for each in report.unknown]
    if not report.objects:
        found.append(f"there is no {resource.model.__name__} to serialize")
    if report.statements > statements:
        found.append(f"each object costs {report.statements} statements")
    if found:
        msg = f"{resource.__name__}: " + "; ".join(found)
        raise AssertionError(msg)


def deliver_now(using: str = "default") -> int:
    """Deliver everything that is due, in this process and thread; return how many attempts.

    Held events whose hold is over are released first, and notices about endpoints are told of.
    """

    def keep_house() -> int:
        return housekeeping.keep_house(using) + notices.tell(using)

    return batches.deliver_now(using, housekeeping=keep_house)
