"""What a process that only delivers may do with itself: its event loop, its garbage collector."""

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec

__all__ = ["loop_factory", "rarely_collecting"]

#: So many more objects than were freed are made before the collector looks at the new ones.
_YOUNG = 20_000


def loop_factory(
    find: Callable[[str], object | None] = find_spec,
) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the loop, for ``asyncio.Runner``: uvloop's, if it is installed.

    It comes with the extra ``speedups``. ``None`` stands for asyncio's own.
    """
    if find("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = import_module("uvloop").new_event_loop
    return factory


@contextmanager
def rarely_collecting() -> Iterator[None]:
    """Let the garbage collector leave alone what was there before, and look rarely at the rest.

    A worker makes and frees much that is in no cycle, beside a large project that stays as it
    is. To walk through that again and again is a sixth of all it does.
    """
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
