"""Identifiers that sort by the time they were made (UUID version 7, RFC 9562, section 5.7)."""

import hashlib
import secrets
import threading
import time
import uuid

__all__ = ["object_hash", "uuid7"]

_COUNTER_BITS = 74
_lock = threading.Lock()
_last = 0


def uuid7() -> uuid.UUID:
    """Return an identifier greater than every one that this process made before.

    48 bits of Unix milliseconds, then 74 bits that start at random in each millisecond and
    are counted up within it (method 2 of section 6.2).
    """
    global _last  # noqa: PLW0603  # the process's last one, under a lock
    with _lock:
        fresh = (time.time_ns() // 1_000_000 << _COUNTER_BITS) | secrets.randbits(_COUNTER_BITS - 1)
        _last = max(fresh, _last + 1)
        value = _last
    return uuid.UUID(
        int=(value >> _COUNTER_BITS << 80)
        | 0x7 << 76
        | (value >> 62 & 0xFFF) << 64
        | 0b10 << 62
        | value & (1 << 62) - 1
    )


def object_hash(resource: str, object_key: str) -> int:
    """Return a number of 64 bits with a sign, the same for all events of an object.

    Two objects that share one only wait for each other.
    """
    text = f"{resource}\0{object_key}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), signed=True)
