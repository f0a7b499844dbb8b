"""Die at a chosen instant: before or after the n-th statement or commit of this process."""

import os
import signal
from collections.abc import Callable
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

__all__ = ["count", "die"]


def die() -> None:
    """Be killed: nothing is cleaned up, nothing is said."""
    os.kill(os.getpid(), signal.SIGKILL)


def count(fatal: int | None, *, is_after: bool) -> None:
    """Count what this process has the database do, on every connection that it opens.

    Args:
        fatal: Which statement or commit it does not survive, counted from 1.
        is_after: Whether the database has done it then.

    """
    passed = 0

    def counted(act: Callable[[], Any]) -> Any:
        nonlocal passed
        passed += 1
        is_fatal = passed == fatal
        if is_fatal and not is_after:
            die()
        result = act()
        if is_fatal:
            die()
        return result

    def statement(execute: Any, *arguments: Any) -> Any:
        return counted(lambda: execute(*arguments))

    def follow(*, connection: BaseDatabaseWrapper, **_: object) -> None:
        connection.execute_wrappers.insert(0, statement)

    commit = BaseDatabaseWrapper._commit  # type: ignore[attr-defined]  # Django's own seam

    def commit_counted(self: BaseDatabaseWrapper) -> Any:
        return counted(lambda: commit(self))

    BaseDatabaseWrapper._commit = commit_counted  # type: ignore[attr-defined]  # see above
    connection_created.connect(follow, weak=False)
