"""The trace that a change belongs to, as W3C writes it: none, until somebody tells of one."""

from collections.abc import Callable

__all__ = ["install", "is_installed", "traceparent"]

_source: Callable[[], str] | None = None


def install(source: Callable[[], str] | None) -> None:
    """Say who knows the current ``traceparent``; ``None`` for nobody."""
    global _source  # noqa: PLW0603  # for the whole process
    _source = source


def is_installed() -> bool:
    """Tell whether changes have traces in this process."""
    return _source is not None


def traceparent() -> str:
    """Return the ``traceparent`` of what is done now, or an empty text."""
    return "" if _source is None else _source()
