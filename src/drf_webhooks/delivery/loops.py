"""The event loop of a worker: uvloop's, if it is installed (the extra ``speedups``)."""

import asyncio
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

__all__ = ["loop_factory"]


def loop_factory(
    find: Callable[[str], object | None] = find_spec,
) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the loop, for ``asyncio.Runner``; ``None`` for asyncio's own."""
    if find("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = import_module("uvloop").new_event_loop
    return factory
