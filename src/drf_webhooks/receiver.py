"""Receive webhooks: verify who sent one, in a function or around a view.

For any sender that follows Standard Webhooks 1.0.0. Needs no app in ``INSTALLED_APPS``.
"""

import base64
import hmac
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, TypeAlias

from asgiref.sync import iscoroutinefunction
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.views.decorators.debug import sensitive_variables

from drf_webhooks import secret_keys
from drf_webhooks.secret_keys import signed_content

__all__ = ["TOLERANCE", "Headers", "Keys", "ReceivedWebhook", "verified", "verify"]

#: How far a webhook's timestamp may be from now, in both directions.
TOLERANCE = timedelta(minutes=5)

#: Secrets (``whsec_``, ``whsk_``) and public keys (``whpk_``); during a rotation several.
Keys: TypeAlias = str | Sequence[str]
#: By name, in any case; or pairs, as a server has them.
Headers: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]

#: Senders make one for each key that is valid, and have few.
_MOST_SIGNATURES = 20
_NAMES = ("webhook-id", "webhook-timestamp", "webhook-signature")
#: Without a full stop, which would let one part of what is signed pass for another.
_ID = re.compile(r"[!-\-/-~]+")
_TIMESTAMP = re.compile(r"[0-9]{1,11}")
_BAD_REQUEST, _UNAUTHORIZED = 400, 401


@dataclass(frozen=True)
class ReceivedWebhook:
    """A webhook whose sender is known.

    ``id`` is the same each time that the sender tries: who has seen it has seen the message.
    """

    id: str
    sent_at: datetime


@dataclass(frozen=True)
class _Refused:
    status: int
    why: str


def verify(
    body: bytes,
    headers: Headers,
    keys: Keys,
    *,
    tolerance: timedelta = TOLERANCE,
    now: datetime | None = None,
) -> bool:
    """Tell whether a request was sent by who has one of some keys, and not long ago.

    Whatever a request consists of, the answer is ``False`` and no exception. A signature is
    compared in constant time.

    Args:
        body: Exactly the bytes that came, not what was parsed of them.
        headers: Those of the request.
        keys: One or several.
        tolerance: How far ``webhook-timestamp`` may be from now.
        now: Aware; by default, now.

    Raises:
        ValueError: one of the keys is none. That is no fault of a request.

    """
    return isinstance(_examined(body, headers, keys, tolerance, now), ReceivedWebhook)


def verified(
    keys: Keys | Callable[[Any], Keys], *, tolerance: timedelta = TOLERANCE
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a view that receives webhooks: only those come through that are signed.

    The view finds a :class:`ReceivedWebhook` in ``request.webhook``. What is no webhook is
    answered with 400, and what nobody known has signed, or not lately, with 401; both with the
    reason as JSON. No CSRF token is asked for. For functions, also asynchronous ones and those of
    ``@api_view`` (below it), and with ``method_decorator(..., name="dispatch")`` for classes.

    Args:
        keys: One or several, or a function of the request that returns them: none for
            somebody unknown.
        tolerance: How far ``webhook-timestamp`` may be from now.

    Raises:
        ValueError: one of the keys is none.

    """
    if not callable(keys):
        _decoded(keys)

    def judged(request: Any) -> HttpResponseBase | None:
        chosen = keys(request) if callable(keys) else keys
        found = _examined(request.body, request.headers, chosen, tolerance, None)
        if isinstance(found, _Refused):
            return JsonResponse({"detail": found.why}, status=found.status)
        request.webhook = found
        return None

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        if iscoroutinefunction(view):

            async def receive_async(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                return judged(request) or await view(request, *args, **kwargs)

            return _exempt(wraps(view)(receive_async))

        def receive(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            return judged(request) or view(request, *args, **kwargs)

        return _exempt(wraps(view)(receive))

    return decorate


def _exempt(view: Any) -> Callable[..., Any]:
    view.csrf_exempt = True
    exempt: Callable[..., Any] = view
    return exempt


@sensitive_variables("keys", "secrets", "key", "expected")
def _examined(
    body: bytes, headers: Headers, keys: Keys, tolerance: timedelta, now: datetime | None
) -> ReceivedWebhook | _Refused:
    secrets, public = _decoded(keys)
    found = _ours(headers)
    if found is None:
        return _Refused(
            _BAD_REQUEST, f"A webhook has each of the headers {', '.join(_NAMES)} once."
        )
    message_id, timestamp, signatures = found
    if not _ID.fullmatch(message_id):
        return _Refused(_BAD_REQUEST, "webhook-id has other characters than printable ASCII.")
    if not _TIMESTAMP.fullmatch(timestamp):
        return _Refused(_BAD_REQUEST, "webhook-timestamp is no number of seconds since 1970.")
    now = now or datetime.now(tz=UTC)
    if abs(now.timestamp() - int(timestamp)) > tolerance.total_seconds():
        return _Refused(_UNAUTHORIZED, "webhook-timestamp is too far from now.")
    signed = signed_content(message_id.encode(), timestamp.encode(), body)
    expected = [hmac.digest(key, signed, "sha256") for key in secrets]
    is_valid = False
    for version, signature in _read(signatures):
        if version == "v1":
            # Each one, so that the time does not tell which.
            for each in expected:
                is_valid |= hmac.compare_digest(each, signature)
        else:
            is_valid = is_valid or any(_is_signed(key, signature, signed) for key in public)
    if not is_valid:
        return _Refused(_UNAUTHORIZED, "webhook-signature has none that is valid.")
    return ReceivedWebhook(message_id, datetime.fromtimestamp(int(timestamp), tz=UTC))


@sensitive_variables()
def _decoded(keys: Keys) -> tuple[list[bytes], list[Ed25519PublicKey]]:
    secrets: list[bytes] = []
    public: list[Ed25519PublicKey] = []
    for each in [keys] if isinstance(keys, str) else keys:
        if each.startswith(secret_keys.PUBLIC):
            public.append(secret_keys.decode_public(each))
            continue
        key = secret_keys.decode(each)
        if isinstance(key, bytes):
            secrets.append(key)
        else:
            public.append(key.public_key())
    return secrets, public


def _ours(headers: Headers) -> tuple[str, str, str] | None:
    """Return the three headers of a webhook, or ``None`` if one is not there or is there twice."""
    found: dict[str, str] = {}
    for name, value in headers.items() if isinstance(headers, Mapping) else headers:
        lower = name.lower() if isinstance(name, str) else ""
        if lower in _NAMES:
            if lower in found or not isinstance(value, str) or not value.isascii():
                return None
            found[lower] = value
    if len(found) < len(_NAMES):
        return None
    message_id, timestamp, signatures = (found[name] for name in _NAMES)
    return message_id, timestamp, signatures


def _read(signatures: str) -> list[tuple[str, bytes]]:
    """Return the signatures of known versions; what cannot be read is none."""
    found = []
    for each in signatures.split(" ", _MOST_SIGNATURES)[:_MOST_SIGNATURES]:
        version, _, text = each.partition(",")
        if version in {"v1", "v1a"}:
            try:
                found.append((version, base64.b64decode(text, validate=True)))
            except ValueError:
                continue
    return found


def _is_signed(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True
