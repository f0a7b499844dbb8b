"""Enable, disable and test endpoints, with everything that belongs to it."""

import logging
import uuid
from datetime import datetime
from typing import Any, Literal

from django.apps import apps
from django.db import transaction
from django.utils import timezone

from drf_webhooks import outbox, secret_keys
from drf_webhooks.delivery.health_rows import forget
from drf_webhooks.encryption import seal
from drf_webhooks.event_types import ENDPOINT_TEST
from drf_webhooks.exceptions import SecretError
from drf_webhooks.models import (
    Attempt,
    Delivery,
    Endpoint,
    EndpointHealth,
    Notice,
    owner_model,
)
from drf_webhooks.notices import described, make_event
from drf_webhooks.scoping import owner_key

__all__ = ["create", "delete", "disable", "enable", "recover", "send_test", "transfer"]

logger = logging.getLogger(__name__)


def create(*, owner: Any, using: str = "default", **fields: Any) -> Endpoint:
    """Make an endpoint of an owner, validated, within the number that an owner may have.

    Args:
        owner: An owner or its key; ``None`` for an endpoint of nobody.
        using: The database.
        fields: Those of an endpoint.

    Raises:
        ValidationError: a field is wrong, or the owner has too many.

    """
    with transaction.atomic(using=using):
        endpoint = Endpoint(owner_id=owner_key(owner), **fields)
        endpoint._state.db = using
        _lock(owner, using)
        endpoint.full_clean()
        endpoint.save(using=using, force_insert=True)
    return endpoint


def _lock(owner: Any, using: str) -> None:
    """Let nobody else give an owner an endpoint until the transaction ends."""
    model: Any = apps.get_model(owner_model())
    # On SQLite without an effect, nor a need: one transaction writes at a time.
    rows = model._base_manager.using(using).filter(pk=owner_key(owner)).order_by()
    list(rows.select_for_update().values_list("pk"))


def transfer(
    endpoint: Endpoint, *, to: Any, using: str = "default", now: datetime | None = None
) -> bool:
    """Give an endpoint to another owner; return ``False`` if it is that one's already.

    It gets a new secret, and loses its custom headers, which may hold the old owner's. What
    waits for it is dead. What was sent to it before is not shown to the new owner, and what was
    counted against it is forgotten.

    Args:
        endpoint: Its ``owner`` and ``secret`` are set too.
        to: An owner or its key; ``None`` for nobody.
        using: The database.
        now: By default, now.

    Raises:
        ValidationError: the new owner has too many.

    """
    now, key = now or timezone.now(), owner_key(to)
    with transaction.atomic(using=using):
        _lock(to, using)
        rows = Endpoint.objects.using(using).filter(pk=endpoint.pk)
        found = rows.select_for_update().get()
        if found.owner_id == key:
            return False
        Endpoint.check_room(key, using=using)
        rows.give(key, secret=seal(secret_keys.generate(_signature(found))), at=now)
        count = _give_up(endpoint.pk, "The endpoint was given to another owner.", using, now)
        EndpointHealth.objects.using(using).filter(pk=endpoint.pk).delete()
        Notice.objects.using(using).filter(endpoint=endpoint, due_at__isnull=False).update(
            due_at=None
        )
    endpoint.refresh_from_db(using=using)
    logger.info("Endpoint %s has another owner; %d deliveries are dead.", endpoint.pk, count)
    return True


def _signature(endpoint: Endpoint) -> secret_keys.Signature:
    """Return how an endpoint signs, or the usual way if its secret cannot be read."""
    try:
        return endpoint.signature
    except SecretError:
        return "v1"


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
        count = _give_up(pk, "Skipped when the endpoint was enabled again.", using, now)
        logger.info("Endpoint %s: %d deliveries that waited are skipped.", pk, count)


def _give_up(pk: uuid.UUID, reason: str, using: str, now: datetime) -> int:
    """Let what waits for an endpoint be dead; return how many deliveries that were."""
    return Delivery.objects.using(using).filter(endpoint=pk).give_up(reason, now=now)


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


def delete(endpoint: Endpoint, *, using: str = "default", size: int = 1000) -> None:
    """Delete an endpoint, with its deliveries, a lot at a time: it may have had millions.

    It hears nothing from the first moment on. Called again after it was broken off, it goes on.
    """
    rows = Endpoint.objects.using(using).filter(pk=endpoint.pk)
    rows.update(state=Endpoint.State.DISABLED, disabled_reason="It is being deleted.")
    deliveries = Delivery.objects.using(using).filter(endpoint=endpoint.pk).order_by("pk")
    while pks := list(deliveries.values_list("pk", flat=True)[:size]):
        with transaction.atomic(using=using):
            Attempt.objects.using(using).filter(delivery__in=pks).delete()
            Delivery.objects.using(using).filter(pk__in=pks).delete()
    rows.delete()


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
