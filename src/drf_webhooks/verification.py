"""Verification: an endpoint shows that it wants webhooks before anything else is sent to it.

It is asked by an event, ``webhooks.endpoint.verify``, which a worker delivers as every other:
guarded, signed, within the deadlines, and logged. What came back is judged by the verifier of
the setting ``ENDPOINT_VERIFIER``.
"""

import hmac
import json
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.module_loading import import_string

from drf_webhooks import endpoints, outbox
from drf_webhooks.clock import database_now
from drf_webhooks.conf import config
from drf_webhooks.event_types import ENDPOINT_VERIFY
from drf_webhooks.models import Attempt, Delivery, Endpoint, Verification
from drf_webhooks.notices import described, make_event

__all__ = ["WAITS", "Answer", "Echo", "Verifier", "ask", "is_open", "judge", "settle", "verifier"]

logger = logging.getLogger(__name__)

#: Why an endpoint is disabled until it has answered.
WAITS = "It waits for its verification."
_AT_ONCE = 100
_SUCCESS = range(200, 300)


@dataclass(frozen=True)
class Answer:
    """What a receiver answered: the body is what is kept of it, ``RESPONSE_LOG_BYTES``."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return a header's first value, by a name in lower case."""
        return next((value for key, value in self.headers if key.lower() == name), None)


class Verifier:
    """What an endpoint is asked, and which answer will do.

    Subclass it, and name the subclass in the setting ``ENDPOINT_VERIFIER``.
    """

    def challenge(self, endpoint: Endpoint) -> dict[str, Any]:
        """Return members for the ``data`` of the event that asks, as JSON has them."""
        raise NotImplementedError

    def refusal(self, data: Mapping[str, Any], answer: Answer) -> str:
        """Say why an answer will not do; nothing if it does.

        Args:
            data: That of the event, with what :meth:`challenge` gave.
            answer: Of any status.

        """
        raise NotImplementedError


class Echo(Verifier):
    """The receiver answers 2xx with the challenge: as ``{"challenge": "…"}``, or as the body."""

    def challenge(self, endpoint: Endpoint) -> dict[str, Any]:
        return {"challenge": secrets.token_urlsafe(32)}

    def refusal(self, data: Mapping[str, Any], answer: Answer) -> str:
        if answer.status not in _SUCCESS:
            return f"The receiver answered with status {answer.status}, and not with 2xx."
        if not hmac.compare_digest(_echo(answer.body), str(data["challenge"]).encode()):
            return 'The answer has no challenge. Answer with {"challenge": "…"} as it was sent.'
        return ""


def _echo(body: bytes) -> bytes:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return body.strip()
    if isinstance(found, dict):
        found = found.get("challenge")
    return found.encode(errors="replace") if isinstance(found, str) else body.strip()


def verifier() -> Verifier | None:
    """Return what the setting names, if anything."""
    path = config().ENDPOINT_VERIFIER
    if path is None:
        return None
    made: Verifier = import_string(path)()
    return made


def is_open(endpoint: Endpoint, *, using: str = "default") -> bool:
    """Tell whether an endpoint may be sent to: it is verified, or was never asked."""
    rows = Verification.objects.using(using).filter(pk=endpoint.pk)
    return not rows.exclude(state=Verification.State.VERIFIED).exists()


def ask(
    endpoint: Endpoint, chosen: Verifier, *, using: str = "default", now: datetime | None = None
) -> Delivery:
    """Ask an endpoint once, in place of what it was asked before; until it answers it is disabled.

    Args:
        endpoint: Its ``state`` and ``disabled_reason`` are set too.
        chosen: What asks.
        using: The database.
        now: By default, now.

    """
    now = now or timezone.now()
    with transaction.atomic(using=using):
        data = {**described(endpoint), **chosen.challenge(endpoint)}
        event = make_event(endpoint, ENDPOINT_VERIFY, data, using=using, at=now)
        Endpoint.objects.using(using).filter(pk=endpoint.pk).update(
            state=Endpoint.State.DISABLED, disabled_reason=WAITS, updated_at=now
        )
        endpoint.state, endpoint.disabled_reason = Endpoint.State.DISABLED, WAITS
        _withdraw(endpoint, using, now)
        outbox.write_to(event, [endpoint.pk], using, is_by_hand=True)
        delivery = Delivery.objects.using(using).get(event=event)
        Verification.objects.using(using).update_or_create(
            endpoint_id=endpoint.pk,
            defaults={
                "state": Verification.State.PENDING,
                "delivery": delivery.pk,
                "error": "",
                "asked_at": database_now(using),
                "settled_at": None,
            },
        )
    return delivery


def _withdraw(endpoint: Endpoint, using: str, now: datetime) -> None:
    """Let what was to be sent at once wait, and an older question be dead."""
    waiting = Delivery.objects.using(using).filter(endpoint=endpoint.pk, state="waiting")
    waiting.filter(event__type=ENDPOINT_VERIFY).give_up("It is asked anew.", now=now)
    waiting.filter(is_by_hand=True).update(is_by_hand=False, lane=Delivery.Lane.RETRY)


def judge(using: str = "default") -> int:
    """Look at the answers of endpoints that were asked; return how many are decided."""
    chosen = verifier()
    if chosen is None:
        return 0
    pending = Verification.objects.using(using).filter(settled_at=None).order_by("asked_at")
    count = 0
    for each in pending.select_related("endpoint")[:_AT_ONCE]:
        attempts = Attempt.objects.using(using).filter(delivery=each.delivery)
        attempt = attempts.select_related("delivery__event").order_by("pk").first()
        if attempt is not None:
            count += settle(each, _refusal(chosen, attempt), using=using)
        elif not Delivery.objects.using(using).filter(pk=each.delivery, state="waiting").exists():
            count += settle(each, "It could not be asked.", using=using)
    return count


def _refusal(chosen: Verifier, attempt: Attempt) -> str:
    if attempt.status is None:
        return f"There was no answer: {attempt.error or attempt.detail}."
    answer = Answer(
        attempt.status,
        tuple((str(key), str(value)) for key, value in attempt.response_headers),
        bytes(attempt.response_body),
    )
    try:
        return chosen.refusal(attempt.delivery.event.data or {}, answer)
    except Exception:
        logger.exception("The verifier failed at delivery %s.", attempt.delivery_id)
        return "The answer could not be judged."


def settle(found: Verification, refusal: str, *, using: str = "default") -> bool:
    """Decide: an endpoint that is verified is enabled, another one stays disabled.

    For a project whose verifier has an answer of its own in its hands. Of two callers at the
    same time one decides.

    Args:
        found: One that is not decided.
        refusal: Why it is not verified; empty if it is.
        using: The database.

    """
    now = database_now(using)
    state = Verification.State.FAILED if refusal else Verification.State.VERIFIED
    with transaction.atomic(using=using):
        mine = Verification.objects.using(using).filter(
            pk=found.pk, delivery=found.delivery, settled_at=None
        )
        if not mine.update(state=state, error=refusal[:300], settled_at=now):
            return False
        endpoint = Endpoint.objects.using(using).get(pk=found.pk)
        Delivery.objects.using(using).filter(pk=found.delivery).give_up(
            "The endpoint is not verified.", now=now
        )
        # Not if somebody has disabled it for another reason since.
        if not refusal and endpoint.disabled_reason == WAITS:
            endpoints.enable(endpoint, using=using, now=now)
    logger.info("Endpoint %s: %s", found.pk, refusal or "it is verified.")
    return True
