"""Sign what is sent (Standard Webhooks 1.0.0)."""

import base64
import hmac
from collections.abc import Sequence
from datetime import datetime

from drf_webhooks import secret_keys
from drf_webhooks.encryption import Stored, opened
from drf_webhooks.fields import read_old_secrets
from drf_webhooks.secret_keys import SigningKey, signed_content

__all__ = ["sign", "sign_with_all", "signing_keys"]


def sign(secret: SigningKey, *, event_id: str, sent_at: datetime, body: bytes) -> str:
    """Return the ``webhook-signature`` header's value, of one key.

    Args:
        secret: The endpoint's key, decoded from its text form.
        event_id: The same for every attempt at the event.
        sent_at: Aware; signed to the whole second.
        body: Exactly the bytes that are sent.

    Raises:
        ValueError: ``sent_at`` is naive.

    """
    return sign_with_all([secret], event_id=event_id, sent_at=sent_at, body=body)


def sign_with_all(
    keys: Sequence[SigningKey], *, event_id: str, sent_at: datetime, body: bytes
) -> str:
    """Return the ``webhook-signature`` header's value: a signature by each key, with spaces.

    Raises:
        ValueError: ``sent_at`` is naive.

    """
    if sent_at.tzinfo is None:
        msg = f"sent_at is {sent_at!r}, which is naive. Give it a time zone."
        raise ValueError(msg)
    timestamp = str(int(sent_at.timestamp()))
    signed = signed_content(event_id.encode(), timestamp.encode(), body)
    return " ".join([_signature(key, signed) for key in keys])


def signing_keys(
    secret: Stored, old_secrets: Stored, *, now: datetime
) -> tuple[SigningKey, ...] | list[SigningKey]:
    """Return the keys that a message is signed with: the present one, then the old ones.

    Decrypting and decoding are remembered, so that for most messages this is a few look-ups.

    Raises:
        SecretError: they cannot be decrypted.
        ValueError: what is stored is no secret.

    """
    keys = (secret_keys.decode(opened(secret)),)
    if not old_secrets.text:
        return keys
    old = reversed(read_old_secrets(opened(old_secrets)))
    return [*keys, *(secret_keys.decode(each.secret) for each in old if now < each.expires_at)]


def _signature(key: SigningKey, signed: bytes) -> str:
    if isinstance(key, bytes):
        return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    return "v1a," + base64.b64encode(key.sign(signed)).decode()
