"""Sign what is sent (Standard Webhooks 1.0.0, symmetric signatures ``v1``)."""

import base64
import hmac
from datetime import datetime

__all__ = ["sign"]


def sign(secret: bytes, *, event_id: str, sent_at: datetime, body: bytes) -> str:
    """Return the ``webhook-signature`` header's value.

    Args:
        secret: The endpoint's key, 24 to 64 bytes, decoded from its text form.
        event_id: The same for every attempt at the event.
        sent_at: Aware; signed to the whole second.
        body: Exactly the bytes that are sent.

    Raises:
        ValueError: ``sent_at`` is naive.

    """
    if sent_at.tzinfo is None:
        msg = f"sent_at is {sent_at!r}, which is naive. Give it a time zone."
        raise ValueError(msg)
    signed = b".".join([event_id.encode(), str(int(sent_at.timestamp())).encode(), body])
    digest = hmac.digest(secret, signed, "sha256")
    return "v1," + base64.b64encode(digest).decode()
