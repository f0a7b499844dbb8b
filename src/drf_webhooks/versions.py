"""The versions of payloads that a project has, in their order, and the one for new endpoints."""

import re
from collections.abc import Callable, Iterable

from drf_webhooks.conf import config

__all__ = ["LONGEST", "chosen", "default", "is_version", "known", "newest", "order", "use"]

#: Characters of a version's name.
LONGEST = 32

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DIGITS = re.compile(r"(\d+)")

_sources: list[Callable[[], Iterable[str]]] = []


def use(source: Callable[[], Iterable[str]]) -> None:
    """Say where to ask for the versions that are declared."""
    _sources[:] = [source]


def is_version(text: object) -> bool:
    """Tell whether a text can name a version: letters, digits, full stops, ``-`` and ``_``."""
    return isinstance(text, str) and len(text) <= LONGEST and _NAME.fullmatch(text) is not None


def order(version: str) -> tuple[tuple[int, int, str], ...]:
    """Return what versions are sorted by: their names, and numbers in them by value."""
    return tuple(
        (1, int(part), "") if part.isdigit() else (0, 0, part)
        for part in _DIGITS.split(version)
        if part
    )


def known() -> list[str]:
    """Return every version that some resource declares, the oldest first."""
    return sorted({each for source in _sources for each in source()}, key=order)


def newest(versions: Iterable[str]) -> str:
    """Return the last of some versions; empty for none."""
    return max(versions, key=order, default="")


def chosen(declared: Iterable[str], pinned: str) -> str:
    """Return which of some versions an endpoint gets: the rule of a resource's ``version_for()``.

    Empty if there are none.
    """
    ordered = sorted(declared, key=order)
    wanted = order(pinned)
    older = [each for each in ordered if order(each) <= wanted]
    return (older[-1:] or ordered[:1] or [""])[0]


def default() -> str:
    """Return what a new endpoint is pinned to; empty if nothing has versions."""
    found = known()
    if not found:
        return ""
    return config().DEFAULT_VERSION or found[-1]
