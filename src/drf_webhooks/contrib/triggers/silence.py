"""Tell the triggers when they are not to look: in ``disable_webhooks()`` blocks.

By a setting of the transaction, never of the session: behind a pool that gives a connection
to another client after each transaction, nothing is left behind.
"""

import re
from collections.abc import Callable
from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from drf_webhooks import session
from drf_webhooks.registry import registry
from drf_webhooks.silence import is_disabled

__all__ = ["EVERYTHING", "NAME", "install", "names"]

#: The setting of PostgreSQL that the triggers ask.
NAME = "drf_webhooks.capture"

#: Its value when nothing is to be journaled. Else the names of disabled resources.
EVERYTHING = "off"

_FIRST_WORD = re.compile(
    r"(?:\s|\(|/\*.*?\*/|--[^\n]*(?:\n|$))*([a-z]*)", re.IGNORECASE | re.DOTALL
)
_READS = {"SELECT", "EXPLAIN", "SHOW", "FETCH", "DECLARE", "VALUES", "TABLE"}
_STEERS = {"SAVEPOINT", "RELEASE", "ROLLBACK", "COMMIT", "BEGIN", "START", "END", "ABORT", "SET"}
#: What may be given a transaction of its own; VACUUM and its like may not.
_WRITES = {"INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "COPY"}
#: libpq's PQTRANS_IDLE and PQTRANS_INERROR.
_IDLE, _IN_ERROR = 0, 3


def install() -> None:
    """Follow every connection to PostgreSQL from now on."""
    connection_created.connect(_follow, dispatch_uid="drf_webhooks.triggers.silence")
    for connection in connections.all(initialized_only=True):
        _follow(connection=connection)


def names(value: str) -> set[str]:
    """Return the base names of the resources that a value of the setting disables."""
    return set(value.split(",")) - {""}


def _follow(*, connection: BaseDatabaseWrapper, **_: object) -> None:
    known = any(isinstance(each, _Silence) for each in connection.execute_wrappers)
    if connection.vendor == "postgresql" and not known:
        connection.execute_wrappers.append(_Silence(connection))


def _wanted() -> str:
    if not session.is_recording():
        return EVERYTHING
    return ",".join(sorted(each.base_name for each in registry if is_disabled(each)))


class _Silence:
    """What the setting is in the open transaction of one connection."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        #: ``None`` when a savepoint was rolled back, and with it what was set since.
        self._value: str | None = ""

    def __call__(
        self,
        execute: Callable[..., Any],
        sql: Any,
        params: Any,
        many: bool,
        context: Any,  # Django's signature
    ) -> Any:
        word = _first_word(sql)
        status = self._status()
        if status == _IDLE:
            # The setting ended with the transaction.
            self._value = ""
        if word in _STEERS or status == _IN_ERROR:
            if word in {"ROLLBACK", "ABORT"} and self._value != "":
                self._value = None
            return execute(sql, params, many, context)
        if word in _READS and self._value == "":
            return execute(sql, params, many, context)
        wanted = _wanted()
        # A function that a SELECT calls may write, and that must not be missed.
        if wanted == self._value or (wanted and word in _READS):
            return execute(sql, params, many, context)
        if self._connection.in_atomic_block or not self._connection.get_autocommit():
            self._set(wanted)
            return execute(sql, params, many, context)
        if word not in _WRITES:
            return execute(sql, params, many, context)
        with transaction.atomic(using=self._connection.alias):
            self._set(wanted)
            return execute(sql, params, many, context)

    def _status(self) -> int:
        info: Any = self._connection.connection.info
        return int(info.transaction_status)

    def _set(self, value: str) -> None:
        # On the driver's own connection: this is no statement of the project's.
        with self._connection.connection.cursor() as cursor:
            cursor.execute("SELECT set_config(%s, %s, true)", [NAME, value])
        self._value = value


def _first_word(sql: Any) -> str:
    # What a driver composes is taken for a write.
    found = _FIRST_WORD.match(sql) if isinstance(sql, str) else None
    return found[1].upper() if found else "UPDATE"
