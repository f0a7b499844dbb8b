"""The text form of an endpoint's key: ``whsec_`` and base64 (Standard Webhooks 1.0.0)."""

import base64
import binascii
import secrets
from functools import lru_cache

from django.core.exceptions import ValidationError

__all__ = ["decode", "generate", "validate"]

PREFIX = "whsec_"
SHORTEST, LONGEST = 24, 64


def generate() -> str:
    """Return a new key of 32 random bytes."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


@lru_cache(maxsize=1024)
def decode(text: str) -> bytes:
    """Return the key's bytes.

    Raises:
        ValueError: it is not ``whsec_`` and the base64 of 24 to 64 bytes.

    """
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.startswith(PREFIX) or not SHORTEST <= len(key) <= LONGEST:
        msg = (
            f"The secret must be {PREFIX!r} and the base64 of {SHORTEST} to {LONGEST} random "
            f"bytes. This one has {len(key)} bytes. Leave it out to have one made."
        )
        raise ValueError(msg)
    return key


def validate(text: str) -> None:
    """Refuse a text that :func:`decode` cannot read, as a form or a model wants it."""
    try:
        decode(text)
    except ValueError as error:
        raise ValidationError(str(error)) from error
