"""Encrypt what the database keeps of secrets, and read it again.

A text that is encrypted is ``fernet:``, the mark of the key, and a Fernet token. By the mark the
database can say which rows depend on which key; nothing else is told by it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.views.decorators.debug import sensitive_variables

from drf_webhooks.conf import config
from drf_webhooks.exceptions import SecretError

__all__ = ["PREFIX", "Stored", "in_clear", "marks", "opened", "seal"]

PREFIX = "fernet:"

#: So many secrets are kept decrypted in memory, to be decrypted once and not for each message.
#: Those of an endpoint are three at most; a text has some hundred bytes.
_KEPT = 4096


@dataclass(frozen=True, slots=True, repr=False)
class Stored:
    """A secret as its column has it, encrypted or not. Shown nowhere, whatever it is."""

    text: str

    @property
    def is_encrypted(self) -> bool:
        """Whether a key is needed to read it."""
        return self.text.startswith(PREFIX)

    def __repr__(self) -> str:
        return "<a secret>"


@sensitive_variables()
def seal(text: str) -> Stored:
    """Encrypt a text with the first of ``ENCRYPTION_KEYS``; without keys it stays in clear."""
    keys = config().ENCRYPTION_KEYS
    if not keys or not text:
        return Stored(text)
    token = Fernet(keys[0]).encrypt(text.encode()).decode()
    return Stored(f"{_mark(keys[0])}{token}")


def opened(stored: Stored) -> str:
    """Return the text of a secret. One that was read before costs nothing.

    Raises:
        SecretError: none of ``ENCRYPTION_KEYS`` can decrypt it.

    """
    if not stored.is_encrypted:
        return stored.text
    return _opened(stored.text, tuple(config().ENCRYPTION_KEYS))


def in_clear(stored: Stored) -> Stored:
    """Return the same, not encrypted.

    Raises:
        SecretError: as for :func:`opened`.

    """
    return Stored(opened(stored))


def marks(keys: Sequence[str]) -> list[str]:
    """Return what texts begin with that keys have encrypted."""
    return [_mark(key) for key in keys]


@sensitive_variables()
def _mark(key: str) -> str:
    # Half of the bits would do; a key cannot be found by them either way.
    return f"{PREFIX}{hashlib.sha256(key.encode()).hexdigest()[:8]}:"


@lru_cache(maxsize=_KEPT)
@sensitive_variables()
def _opened(text: str, keys: tuple[str, ...]) -> str:
    mark, _, token = text.removeprefix(PREFIX).partition(":")
    if not keys:
        _refuse(mark, "DRF_WEBHOOKS['ENCRYPTION_KEYS'] is empty")
    try:
        return MultiFernet([Fernet(key) for key in keys]).decrypt(token).decode()
    except InvalidToken:
        _refuse(mark, f"none of the {len(keys)} keys in DRF_WEBHOOKS['ENCRYPTION_KEYS'] fits")


def _refuse(mark: str, why: str) -> NoReturn:
    msg = (
        f"A secret was encrypted with the key {mark[:8]!r}, and {why}. Add that key to the end of "
        "ENCRYPTION_KEYS; all of them decrypt, and the first encrypts."
    )
    raise SecretError(msg) from None
