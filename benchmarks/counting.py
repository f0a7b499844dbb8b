"""Count the statements of a process that is measured, where another process can read it."""

import mmap
import os
import struct
import tempfile
from typing import Any

from django.apps import AppConfig
from django.db.backends.signals import connection_created

__all__ = ["Counter", "Counting"]


class Counter:
    """A number in a file that two processes have in memory."""

    def __init__(self, path: str | None = None) -> None:
        if path is None:
            handle, path = tempfile.mkstemp(prefix="drf_webhooks_bench_")
            os.write(handle, bytes(8))
            os.close(handle)
        self.path = path
        with open(path, "r+b") as file:  # noqa: PTH123  # its descriptor is wanted
            self._map = mmap.mmap(file.fileno(), 8)

    def read(self) -> int:
        """Return the number."""
        return int(struct.unpack("q", self._map[:8])[0])

    def add(self) -> None:
        """Count one more; only one thread does."""
        self._map[:8] = struct.pack("q", self.read() + 1)

    def remove(self) -> None:
        """Remove the file."""
        self._map.close()
        os.unlink(self.path)  # noqa: PTH108  # a path as text


class Counting(AppConfig):
    """Counts every statement of each connection; ``BENCH_COUNTER`` is the file's path."""

    name = "benchmarks"
    label = "benchmarks_counting"

    def ready(self) -> None:
        counter = Counter(os.environ["BENCH_COUNTER"])

        def count(execute: Any, *arguments: Any) -> Any:
            counter.add()
            return execute(*arguments)

        def connected(connection: Any, **_: object) -> None:
            connection.execute_wrappers.append(count)

        connection_created.connect(connected, weak=False, dispatch_uid="benchmarks")
