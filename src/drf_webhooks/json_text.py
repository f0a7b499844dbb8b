"""JSON as it is sent: compact UTF-8, of everything that DRF's renderer takes."""

from typing import Any

from rest_framework.utils.encoders import JSONEncoder

__all__ = ["encode"]

_encode = JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def encode(data: Any) -> bytes:
    """Return data as JSON.

    Raises:
        TypeError: it holds what JSON has no form for.
        ValueError: it holds a number that JSON has no form for.

    """
    return _encode(data).encode()
