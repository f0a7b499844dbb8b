"""One attempt: sign, send, judge."""

import json
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from traceback import clear_frames

from drf_webhooks.conf import Config
from drf_webhooks.delivery.formats import Message, format_named, source
from drf_webhooks.delivery.leases import Leased
from drf_webhooks.delivery.observing import observed
from drf_webhooks.delivery.results import Result
from drf_webhooks.delivery.retries import retry_after, wait_before_next
from drf_webhooks.delivery.signing import sign_with_all, signing_keys
from drf_webhooks.delivery.transport import Answer, Failure, Transport
from drf_webhooks.encryption import Stored, opened
from drf_webhooks.exceptions import FormatError, SecretError
from drf_webhooks.models import Delivery
from drf_webhooks.origins import DEPTH_HEADER
from drf_webhooks.overrides import rules
from drf_webhooks.scoping import may_hear
from drf_webhooks.secret_keys import SigningKey

__all__ = ["Verdict", "attempt", "attempted", "judge"]

logger = logging.getLogger(__name__)

_PUT_OFF = (429, 503)
_GONE = 410

try:
    _USER_AGENT = f"drf-webhooks/{version('drf-webhooks')}"
except PackageNotFoundError:  # pragma: no cover  # run from a source tree that is not installed
    _USER_AGENT = "drf-webhooks"


_NAMED = {"user-agent": _USER_AGENT}


class _RefusedError(Exception):
    """A delivery that can never be sent; says why."""


@dataclass(slots=True)
class Verdict:
    """What becomes of a delivery after an attempt."""

    state: Delivery.State
    wait: timedelta | None = None
    reason: str = ""
    disables: str = ""


async def attempted(leased: Leased, transport: Transport, settings: Config) -> Result:
    """Send a delivery once, with whoever stands around attempts. Raises nothing."""
    started_at = datetime.now(tz=UTC)
    try:
        return await observed(leased, lambda each: attempt(each, transport, settings))
    except Exception as error:
        # A defect of ours: the delivery takes its turn again, and the rest goes on.
        logger.exception("Attempt at delivery %s failed.", leased.delivery)
        failure = Failure("internal_error", f"{type(error).__name__}: {error}"[:500])
        verdict = judge(
            failure,
            attempts=leased.attempt_count + 1,
            age=leased.age,
            now=started_at,
            chance=random.random(),  # noqa: S311  # jitter
            settings=settings,
        )
        return Result(
            leased,
            started_at,
            timedelta(0),
            verdict.state,
            wait=verdict.wait,
            reason=verdict.reason,
            error=failure.error,
            detail=failure.detail,
        )


async def attempt(
    leased: Leased, transport: Transport, settings: Config, *, now: datetime | None = None
) -> Result:
    """Send a delivery once, and say what came of it. Raises nothing but defects of ours."""
    try:
        return await _attempt(leased, transport, settings, now or datetime.now(tz=UTC))
    except Exception as error:
        _forget_locals(error)
        raise


def _forget_locals(error: BaseException | None) -> None:
    """Keep what is secret out of reports that show the variables of each frame.

    Keys and headers are in frames of ours and of aiohttp, and a project's error mail has them all.
    """
    while error is not None:
        clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


async def _attempt(
    leased: Leased, transport: Transport, settings: Config, started_at: datetime
) -> Result:
    try:
        _check(leased)
        outcome: Answer | Failure | None = None
        keys, own = _secrets(leased, started_at)
    except _RefusedError as refusal:
        return Result(leased, started_at, timedelta(0), Delivery.State.DEAD, reason=str(refusal))
    except SecretError as error:
        outcome = Failure("secret_error", str(error)[:500])
    settings = rules(
        settings, event_type=leased.standing.event_type, overrides=leased.standing.overrides
    )
    if outcome is None:
        outcome = await _sent(leased, keys, own, transport, settings, started_at)
    ended_at = datetime.now(tz=UTC)
    verdict = judge(
        outcome,
        attempts=leased.attempt_count + 1,
        age=leased.age,
        now=started_at,
        chance=random.random(),  # noqa: S311  # jitter
        settings=settings,
    )
    result = Result(
        leased,
        started_at,
        max(ended_at - started_at, timedelta(0)),
        verdict.state,
        wait=verdict.wait,
        reason=verdict.reason,
        disables=verdict.disables,
        detail=outcome.detail,
        timing=outcome.timing,
    )
    if isinstance(outcome, Failure):
        result.error = outcome.error
    else:
        result.status, result.headers = outcome.status, outcome.headers
        result.body, result.end = outcome.body, outcome.end
        result.is_public = outcome.is_public
    return result


async def _sent(
    leased: Leased,
    keys: Sequence[SigningKey],
    own: Mapping[str, str],
    transport: Transport,
    settings: Config,
    now: datetime,
) -> Answer | Failure:
    """Write the message in the endpoint's format, sign these bytes, and send them."""
    message = Message(leased.message_id, leased.object_key, leased.body, source(settings))
    try:
        chosen = format_named(leased.to.format, settings)
        body = chosen.write(message)
    except FormatError as error:
        return Failure("format_error", str(error)[:500])
    headers = {
        **_beside(own, leased.event_headers),
        **({"traceparent": leased.traceparent} if leased.traceparent else {}),
        "content-type": chosen.content_type,
        "accept-encoding": "identity",
        "webhook-id": leased.message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        DEPTH_HEADER: str(leased.depth + 1),
        "webhook-signature": sign_with_all(
            keys, event_id=leased.message_id, sent_at=now, body=body
        ),
    }
    if leased.sequence is not None:
        headers["webhook-sequence"] = str(leased.sequence)
    return await transport.send(leased.to.url, method=leased.to.method, headers=headers, body=body)


def _own(stored: Stored) -> Mapping[str, str]:
    """Return the endpoint's own headers, with our name unless it has another one for us."""
    if not stored.text:
        return _NAMED
    headers: Mapping[str, str] = json.loads(opened(stored))
    if any(name.lower() == "user-agent" for name in headers):
        return headers
    return {"user-agent": _USER_AGENT, **headers}


def _beside(own: Mapping[str, str], of_event: Mapping[str, str] | None) -> Mapping[str, str]:
    """Return the endpoint's own headers, and those of the event that it has no value for."""
    if not of_event:
        return own
    names = {name.lower() for name in own}
    return {**{name: each for name, each in of_event.items() if name.lower() not in names}, **own}


def judge(
    outcome: Answer | Failure,
    *,
    attempts: int,
    age: timedelta,
    now: datetime,
    chance: float,
    settings: Config,
) -> Verdict:
    """Decide what becomes of a delivery.

    2xx is success and everything else is not, redirects included. 410 and the response
    header ``webhook-delivery: disable`` disable the endpoint, ``abort-message`` ends the
    delivery, and 429 and 503 may put it off with ``Retry-After``.
    """
    asked = None
    what = outcome.error if isinstance(outcome, Failure) else f"status {outcome.status}"
    if isinstance(outcome, Answer):
        wish = (outcome.header("webhook-delivery") or "").strip().lower()
        is_success = 200 <= outcome.status < 300  # noqa: PLR2004  # HTTP's class of success
        if outcome.status == _GONE or wish == "disable":
            why = f"The receiver answered {what}" + (" and asked for it." if wish else ".")
            state = Delivery.State.DELIVERED if is_success else Delivery.State.DEAD
            return Verdict(state, reason="" if is_success else why, disables=why)
        if is_success:
            return Verdict(Delivery.State.DELIVERED)
        if wish == "abort-message":
            return Verdict(Delivery.State.DEAD, reason=f"The receiver aborted it with {what}.")
        if outcome.status in _PUT_OFF:
            asked = retry_after(
                outcome.header("retry-after"), now=now, longest=settings.RETRY_AFTER_LIMIT
            )
    wait = wait_before_next(attempts, age=age, chance=chance, asked=asked, settings=settings)
    if wait is None:
        why = f"Given up after {attempts} attempts over {age}; the last one: {what}."
        return Verdict(Delivery.State.DEAD, reason=why)
    return Verdict(Delivery.State.WAITING, wait=wait)


def _check(leased: Leased) -> None:
    """Refuse what can never be sent.

    Raises:
        _RefusedError: it can never be sent.

    """
    if not may_hear(leased.event_owner, leased.to.owner):
        raise _RefusedError("The endpoint's owner does not own the object.")
    if not leased.to.may_receive:
        raise _RefusedError("The endpoint's owner may not receive any more (OWNER_MAY_RECEIVE).")
    if not leased.has_body:
        raise _RefusedError("The event has no message.")


def _secrets(leased: Leased, now: datetime) -> tuple[Sequence[SigningKey], Mapping[str, str]]:
    """Return what a delivery is signed with, and the headers that are the endpoint's own.

    Raises:
        SecretError: they cannot be decrypted. Given the right key, they can.
        _RefusedError: what is stored is no secret.

    """
    try:
        keys = signing_keys(leased.to.secret, leased.to.old_secrets, now=now)
    except ValueError:
        raise _RefusedError("The endpoint's secret cannot be read.") from None
    return keys, _own(leased.to.headers)
