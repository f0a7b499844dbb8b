"""Say on a method or property which rows its code reads. Imports nothing, so models may use it."""

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["declared", "depends_on"]

F = TypeVar("F", bound=Callable[..., Any])

_NAME = "_drf_webhooks_depends_on"


def depends_on(*paths: str) -> Callable[[F], F]:
    """Declare the ORM paths that a function reads, from the model of the instance it gets.

    For the method of a ``SerializerMethodField``, a ``to_representation()``, a model's method,
    ``__str__()``, or the function of a property (below ``@property``). The code is not asked
    about any more: what is declared is all that counts. Without a path it reads nothing but
    the instance's own columns.

    Args:
        paths: Relations or columns, ``"tenant__address"``.

    """

    def mark(function: F) -> F:
        setattr(function, _NAME, paths)
        return function

    return mark


def declared(code: Any) -> tuple[str, ...] | None:
    """Return what a function, a property or a bound method declares; ``None`` for nothing."""
    function = getattr(code, "fget", None) or getattr(code, "func", None) or code
    found: tuple[str, ...] | None = getattr(function, _NAME, None)
    return found
