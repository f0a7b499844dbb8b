"""Wake the worker by PostgreSQL's LISTEN, on a connection of its own."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from django.db import Error, connections

__all__ = ["DELIVERIES", "Listener"]

logger = logging.getLogger(__name__)

CHANNEL = "drf_webhooks"
#: What a notification says if only deliveries are due, and no event has to be serialized.
DELIVERIES = "deliveries"


class Listener:
    """Call a function in the event loop with what each notification says.

    Where the database has no notifications, while the connection is lost, and behind a pool of
    connections, the worker polls.
    """

    def __init__(self, using: str, wake: Callable[[str], object]) -> None:
        self._using = using
        self._wake = wake
        self._connection: Any = None
        self._descriptor: int | None = None
        self._is_pooled = False

    def connect(self) -> None:
        """Open the connection, if there is none; called in a thread where that may block."""
        # The names of drivers: psycopg2's connections wait in another way, and are polled.
        driver = getattr(connections[self._using].Database, "__name__", "")  # type: ignore[attr-defined]  # the driver's module
        if self._connection is not None or self._is_pooled or driver != "psycopg":
            return
        connection: Any = connections[self._using].copy()
        connection.inc_thread_sharing()
        try:
            with connection.cursor() as cursor:
                # A pool tells its clients numbers of its own. LISTEN would stay behind on one
                # of its connections, for whoever comes next.
                cursor.execute("SELECT pg_backend_pid()")
                self._is_pooled = cursor.fetchone() != (connection.connection.info.backend_pid,)
                if not self._is_pooled:
                    cursor.execute(f"LISTEN {CHANNEL}")
        except Error as error:
            logger.warning("Cannot listen for notifications, polling: %s", error)
            return
        if self._is_pooled:
            connection.close()
            logger.warning(
                "Database %r is behind a pool of connections, where nobody can listen for "
                "notifications: polling. Give the worker the server's own address.",
                self._using,
            )
            return
        self._connection = connection

    def attach(self) -> None:
        """Be called by the event loop; called in it."""
        if self._connection is not None and self._descriptor is None:
            self._descriptor = self._connection.connection.fileno()
            asyncio.get_running_loop().add_reader(self._descriptor, self._ready)

    def _ready(self) -> None:
        # libpq's own calls, which never wait: notifies() of psycopg may leave input unread.
        raw = self._connection.connection.pgconn
        try:
            raw.consume_input()
            while (notice := raw.notifies()) is not None:
                self._wake(notice.extra.decode())
        except self._connection.Database.Error as error:
            logger.warning("Lost the connection for notifications, polling: %s", error)
            self.close()
            self._wake("")

    def close(self) -> None:
        """Stop to listen."""
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            self._descriptor = None
        if self._connection is not None:
            # The driver's own: Django refuses to close one in an event loop.
            self._connection.connection.close()
            self._connection = None
