"""The text form of keys (Standard Webhooks 1.0.0), and which of them sign how.

``whsec_`` and the base64 of 24 to 64 bytes signs with HMAC-SHA256 (``v1``), ``whsk_`` and the
base64 of an ed25519 key, its seed and then its public half, with that (``v1a``). ``whpk_`` and
the base64 of the public half verifies the latter, and is no secret.
"""

import base64
import binascii
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Literal, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from django.core.exceptions import ValidationError
from django.views.decorators.debug import sensitive_variables

__all__ = [
    "OldSecret",
    "Signature",
    "SigningKey",
    "decode",
    "decode_public",
    "generate",
    "public_key",
    "signed_content",
    "validate",
]

#: What Standard Webhooks calls the two kinds of signatures.
Signature: TypeAlias = Literal["v1", "v1a"]
#: A key of bytes signs with HMAC-SHA256.
SigningKey: TypeAlias = bytes | Ed25519PrivateKey

PREFIX, PRIVATE, PUBLIC = "whsec_", "whsk_", "whpk_"
SHORTEST, LONGEST = 24, 64
_HALF = 32


@dataclass(frozen=True)
class OldSecret:
    """A secret that was replaced, and until when messages are signed with it too."""

    secret: str = field(repr=False)
    expires_at: datetime


def generate(signature: Signature = "v1") -> str:
    """Return a new key: 32 random bytes, or for ``"v1a"`` an ed25519 key."""
    if signature == "v1":
        return PREFIX + _text(secrets.token_bytes(32))
    if signature == "v1a":
        key = Ed25519PrivateKey.generate()
        return PRIVATE + _text(key.private_bytes_raw() + key.public_key().public_bytes_raw())
    msg = f"The signature is {signature!r}. It must be 'v1' (HMAC) or 'v1a' (ed25519)."
    raise ValueError(msg)


@lru_cache(maxsize=1024)
@sensitive_variables()
def decode(text: str) -> SigningKey:
    """Return what to sign with.

    Raises:
        ValueError: it is neither ``whsec_`` and the base64 of 24 to 64 bytes, nor ``whsk_`` and
            the base64 of an ed25519 key.

    """
    if text.startswith(PRIVATE):
        return _private(_bytes(text.removeprefix(PRIVATE)))
    key = _bytes(text.removeprefix(PREFIX))
    if not text.startswith(PREFIX) or not SHORTEST <= len(key) <= LONGEST:
        msg = (
            f"The secret must be {PREFIX!r} and the base64 of {SHORTEST} to {LONGEST} random "
            f"bytes. This one has {len(key)} bytes. Leave it out to have one made."
        )
        raise ValueError(msg)
    return key


@sensitive_variables()
def _private(halves: bytes) -> Ed25519PrivateKey:
    if len(halves) == 2 * _HALF:
        key = Ed25519PrivateKey.from_private_bytes(halves[:_HALF])
        if key.public_key().public_bytes_raw() == halves[_HALF:]:
            return key
    msg = (
        f"The secret must be {PRIVATE!r} and the base64 of an ed25519 key: 32 bytes of a seed, "
        f"and the 32 bytes of its public half. This one has {len(halves)} bytes"
        + (", and the halves do not belong together." if len(halves) == 2 * _HALF else ".")
    )
    raise ValueError(msg)


@lru_cache(maxsize=1024)
def decode_public(text: str) -> Ed25519PublicKey:
    """Return what to verify ``v1a`` with.

    Raises:
        ValueError: it is not ``whpk_`` and the base64 of 32 bytes.

    """
    key = _bytes(text.removeprefix(PUBLIC))
    if not text.startswith(PUBLIC) or len(key) != _HALF:
        msg = (
            f"A public key is {PUBLIC!r} and the base64 of {_HALF} bytes. "
            f"This one has {len(key)} bytes."
        )
        raise ValueError(msg)
    return Ed25519PublicKey.from_public_bytes(key)


@sensitive_variables()
def public_key(text: str) -> str | None:
    """Return the public half of a ``whsk_`` secret, to hand out; ``None`` for ``whsec_``.

    Raises:
        ValueError: the secret is none.

    """
    key = decode(text)
    if isinstance(key, bytes):
        return None
    return PUBLIC + _text(key.public_key().public_bytes_raw())


@sensitive_variables()
def validate(text: str) -> None:
    """Refuse a text that :func:`decode` cannot read, as a form or a model wants it."""
    try:
        decode(text)
    except ValueError as error:
        raise ValidationError(str(error)) from None


def signed_content(message_id: bytes, timestamp: bytes, body: bytes) -> bytes:
    """Return the bytes that are signed."""
    return b".".join([message_id, timestamp, body])


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode()


@sensitive_variables()
def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
