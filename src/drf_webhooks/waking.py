"""Wake an engine once a commit has made something due: in a thread, never in the caller's time.

Rows are the truth, a wake-up is a hint: what gets lost of it, the sweep makes up for.
``docs/explanation/engines.md`` argues it.
"""

import atexit
import logging
import os
import threading
import time
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

from django.db import connections, transaction
from django.utils.module_loading import import_string

from drf_webhooks.conf import config

__all__ = ["Engine", "flush", "load", "prepare", "wake", "wake_on_commit"]

logger = logging.getLogger(__name__)

#: Between two wake-ups of one process, so that many transactions share one.
_PAUSE_SECONDS = 0.05
#: After wake-ups that failed, doubled each time.
_FIRST_BACK_OFF_SECONDS = 0.5
_LAST_BACK_OFF_SECONDS = 30.0
#: How long a process that ends waits for its last wake-up.
_LAST_WAIT = timedelta(seconds=2)


class Engine(Protocol):
    """What starts to deliver when it is woken: a class of which each process makes one."""

    def wake(self, using: str) -> None:
        """Have what is due in a database delivered soon, by another process.

        Called after a commit, in a thread of its own. It may wait, but not for ever: the next
        wake-up waits for it. What it raises is logged, and it is called again.
        """


def load(path: str) -> Engine:
    """Make the engine that a dotted path names; it may raise whatever its module raises."""
    engine: Engine = import_string(path)()
    return engine


def prepare() -> None:
    """Import the engine: its tasks are declared by that, for whoever runs them."""
    path = config().ENGINE
    if path is not None:
        # A check says what is wrong with it, and so does the log when it is to be woken.
        with suppress(Exception):
            import_string(path)


class Waker:
    """Hands wake-ups to the engine: one thread for a process, one wake-up for a database."""

    def __init__(self) -> None:
        self._inherited: list[Any] = []
        self._begin()

    def _begin(self) -> None:
        self._changed = threading.Condition()
        # An ordered set: however many wake-ups come, there are not more than databases.
        self._waiting: dict[str, None] = {}
        self._is_telling = False
        self._thread: threading.Thread | None = None
        self._engine: tuple[str, Engine] | None = None
        self._failures = 0

    def begin_anew(self) -> None:
        """Forget the parent's thread, lock and engine in a process that was forked.

        The engine is kept all the same: were it collected, it might close sockets that the
        parent still uses.
        """
        self._inherited.append(self._engine)
        self._begin()

    def wake(self, using: str) -> None:
        """Have the engine woken; costs a lock and no waiting."""
        with self._changed:
            self._waiting[using] = None
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="drf_webhooks_wake", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    logger.warning("No thread to wake the engine in: %s", error)
                    return
                self._thread = thread
            self._changed.notify_all()

    def flush(self, timeout: timedelta, *, is_last: bool = False) -> bool:
        """Wait until the engine has every wake-up; return whether it does.

        Args:
            timeout: How long at most.
            is_last: Do not wait for an engine that has just failed.

        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._has_told or (is_last and self._failures > 0), timeout.total_seconds()
            )
            return self._has_told

    @property
    def _has_told(self) -> bool:
        return not (self._waiting or self._is_telling)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                waiting, self._waiting = self._waiting, {}
                self._is_telling = True
            failed = [each for each in waiting if not self._tell(each)]
            # Of this thread, which an engine that writes rows has opened.
            connections.close_all()
            with self._changed:
                self._waiting = {**dict.fromkeys(failed), **self._waiting}
                self._failures = self._failures + 1 if failed else 0
                self._is_telling = False
                self._changed.notify_all()
            time.sleep(_pause(self._failures))

    def _tell(self, using: str) -> bool:
        path = config().ENGINE
        if path is None:
            return True
        try:
            if self._engine is None or self._engine[0] != path:
                self._engine = path, load(path)
            self._engine[1].wake(using)
        except Exception as error:  # noqa: BLE001  # an engine is anybody's code
            level = logging.DEBUG if self._failures else logging.WARNING
            logger.log(
                level,
                "The engine %s could not be woken, trying again: %s: %s. "
                "Until then a sweep or a worker delivers.",
                path,
                type(error).__name__,
                error,
            )
            return False
        if self._failures:
            logger.warning("The engine %s is woken again.", path)
        return True


def _pause(failures: int) -> float:
    if not failures:
        return _PAUSE_SECONDS
    # Bounded before the power is: it would be a very long number some day.
    wait: float = _FIRST_BACK_OFF_SECONDS * 2 ** min(failures - 1, 10)
    return min(wait, _LAST_BACK_OFF_SECONDS)


_waker = Waker()
if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no fork
    os.register_at_fork(after_in_child=_waker.begin_anew)
atexit.register(_waker.flush, _LAST_WAIT, is_last=True)


def wake(using: str = "default") -> None:
    """Have the project's engine woken, if it has one. Neither waits nor raises.

    Args:
        using: The database in which something is due, and committed.

    """
    if config().ENGINE is not None:
        _waker.wake(using)


def wake_on_commit(using: str = "default") -> None:
    """Wake the engine when the open transaction is committed; at once if there is none."""
    if config().ENGINE is not None:
        transaction.on_commit(partial(wake, using), using=using, robust=True)


def flush(timeout: timedelta = _LAST_WAIT) -> bool:
    """Wait until the engine has got every wake-up of this process; return whether it has."""
    return _waker.flush(timeout)
