"""Wake the worker by PostgreSQL's LISTEN, on a connection of its own."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from django.db import DatabaseError, connections

__all__ = ["Listener"]

logger = logging.getLogger(__name__)

CHANNEL = "drf_webhooks"


class Listener:
    """Call a function in the event loop for each notification.

    Where the database has no notifications, and while the connection is lost, the worker
    polls.
    """

    def __init__(self, using: str, wake: Callable[[], None]) -> None:
        self._using = using
        self._wake = wake
        self._connection: Any = None
        self._descriptor: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether notifications arrive."""
        return self._descriptor is not None

    def open(self) -> None:
        """Start to listen, or start again after the connection was lost."""
        if self.is_open or connections[self._using].vendor != "postgresql":
            return
        try:
            self._connection = connections[self._using].copy()
            self._connection.inc_thread_sharing()
            with self._connection.cursor() as cursor:
                cursor.execute(f"LISTEN {CHANNEL}")
        except DatabaseError as error:
            logger.warning("Cannot listen for notifications, polling: %s", error)
            return
        self._descriptor = self._connection.connection.fileno()
        asyncio.get_running_loop().add_reader(self._descriptor, self._ready)

    def _ready(self) -> None:
        raw = self._connection.connection
        try:
            if hasattr(raw, "poll"):  # psycopg2
                raw.poll()
                raw.notifies.clear()
            else:
                for _ in raw.notifies(timeout=0):
                    pass
        except self._connection.Database.Error as error:
            logger.warning("Lost the connection for notifications, polling: %s", error)
            self.close()
        self._wake()

    def close(self) -> None:
        """Stop to listen."""
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            self._descriptor = None
            self._connection.close()
