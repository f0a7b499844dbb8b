"""Enable, disable and test endpoints, with everything that belongs to it."""

import logging
import uuid
from datetime import datetime
from typing import Literal

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from drf_webhooks import outbox
from drf_webhooks.delivery.health_rows import forget
from drf_webhooks.event_types import ENDPOINT_TEST
from drf_webhooks.models import Delivery, Endpoint, EndpointHealth, Notice
from drf_webhooks.notices import described, make_event

__all__ = ["disable", "enable", "recover", "send_test"]

logger = logging.getLogger(__name__)


def enable(
    endpoint: Endpoint,
    *,
    waiting: Literal["resume", "skip"] = "resume",
    using: str = "default",
    now: datetime | None = None,
) -> bool:
    """Enable an endpoint, and send it a test; return ``False`` if it was enabled already.

    What was counted against it is forgotten. It begins with one request at once, the test, and
    the more it takes the more go at once. Of two callers at the same time one enables it.

    Args:
        endpoint: Its ``state`` and ``disabled_reason`` are set too.
        waiting: ``"resume"`` sends what has waited for it, ``"skip"`` gives that up.
        using: The database.
        now: By default, now.

    """
    now = now or timezone.now()
    with transaction.atomic(using=using):
        disabled = Endpoint.objects.using(using).filter(
            pk=endpoint.pk, state=Endpoint.State.DISABLED
        )
        is_changed = disabled.update(
            state=Endpoint.State.ENABLED, disabled_reason="", updated_at=now
        )
        if is_changed:
            _skip(endpoint.pk, using, now, is_wanted=waiting == "skip")
            EndpointHealth.objects.using(using).bulk_create(
                [EndpointHealth(endpoint_id=endpoint.pk)], ignore_conflicts=True
            )
            forget([endpoint.pk], using=using, ramp=1)
            endpoint.state, endpoint.disabled_reason = Endpoint.State.ENABLED, ""
            send_test(endpoint, is_by_hand=False, using=using, now=now)
            _note(endpoint, Notice.Kind.ENABLED, "", using, now)
    return bool(is_changed)


def _skip(pk: uuid.UUID, using: str, now: datetime, *, is_wanted: bool) -> None:
    if is_wanted:
        count = (
            Delivery.objects.using(using)
            .filter(endpoint=pk, state=Delivery.State.WAITING)
            .update(
                state=Delivery.State.DEAD,
                due_at=None,
                leased_at=None,
                settled_at=now,
                reason="Skipped when the endpoint was enabled again.",
                fence=F("fence") + 1,
                is_by_hand=False,
                order_key=None,
            )
        )
        logger.info("Endpoint %s: %d deliveries that waited are skipped.", pk, count)


def disable(
    endpoint: Endpoint, reason: str, *, using: str = "default", now: datetime | None = None
) -> bool:
    """Disable an endpoint; return ``False`` if it was disabled already.

    What waits for it is kept, and burns no attempts. What changes meanwhile is not said to it.
    """
    now = now or timezone.now()
    with transaction.atomic(using=using):
        enabled = Endpoint.objects.using(using).filter(pk=endpoint.pk, state=Endpoint.State.ENABLED)
        is_changed = enabled.update(
            state=Endpoint.State.DISABLED, disabled_reason=reason[:200], updated_at=now
        )
        if is_changed:
            endpoint.state, endpoint.disabled_reason = Endpoint.State.DISABLED, reason[:200]
            _note(endpoint, Notice.Kind.DISABLED, reason, using, now)
    return bool(is_changed)


def _note(endpoint: Endpoint, kind: Notice.Kind, reason: str, using: str, now: datetime) -> None:
    Notice.objects.using(using).create(
        endpoint=endpoint, kind=kind, reason=reason[:300], created_at=now, due_at=now
    )


def recover(endpoint: Endpoint, *, using: str = "default") -> None:
    """End the pause of an endpoint and forget what was counted against it.

    For who has mended a receiver, or changed its URL, and does not want to wait.
    """
    if EndpointHealth.objects.using(using).filter(pk=endpoint.pk, is_clean=False).exists():
        forget([endpoint.pk], using=using, ramp=1)


def send_test(
    endpoint: Endpoint,
    *,
    is_by_hand: bool = True,
    using: str = "default",
    now: datetime | None = None,
) -> Delivery:
    """Send an endpoint a ``webhooks.endpoint.test``, whatever it subscribes to, once.

    Args:
        endpoint: May be disabled.
        is_by_hand: A person asks: it waits for no pause, and a failure is not charged.
        using: The database.
        now: By default, now.

    """
    now = now or timezone.now()
    with transaction.atomic(using=using):
        data = described(endpoint)
        event = make_event(endpoint, ENDPOINT_TEST, data, using=using, at=now)
        outbox.write_to(event, [endpoint.pk], using, is_by_hand=is_by_hand)
    return Delivery.objects.using(using).get(event=event)
