"""Let only so many tasks of an engine deliver at once on a machine.

By locks on files, which the system gives back when a process dies, however it dies.
"""

import hashlib
import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db import connections

try:
    import fcntl
except ImportError:  # pragma: no cover  # Windows: nothing is limited there
    fcntl = None  # type: ignore[assignment]  # see above

__all__ = ["Slots"]

logger = logging.getLogger(__name__)


class Slots:
    """The slots of one database on this machine, for the processes of one user.

    Args:
        using: The database. Processes that use the same one share its slots.
        count: How many there are.
        folder: Where their files are; by default the system's folder for such.

    """

    def __init__(self, using: str, count: int, *, folder: Path | None = None) -> None:
        self._count = count
        self._folder = (folder or Path(tempfile.gettempdir())) / _name(using)
        self._asked = self._folder / "asked"

    @contextmanager
    def take(self) -> Iterator[bool]:
        """Hold a slot inside the block, or say that there is none.

        Whoever got none may leave: one of those that hold a slot is told, by
        :meth:`is_asked_again`, when it has given back its own.
        """
        try:
            # First of all: whoever gives back a slot after this looks at it.
            self._open()
            self._asked.touch()
            held = self._hold()
        except OSError as error:
            logger.warning("Nothing limits how many tasks deliver at once: %s", error)
            yield True
            return
        if held is None:
            yield False
            return
        try:
            # Before any claim: what was committed before somebody asked is found by this one.
            self._asked.unlink(missing_ok=True)
            yield True
        finally:
            # A child that was forked meanwhile has the file too: closing it is not enough.
            fcntl.flock(held, fcntl.LOCK_UN)
            os.close(held)

    def is_asked_again(self) -> bool:
        """Tell whether somebody found no slot since the last block of this kind began."""
        return self._asked.exists()

    def _open(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        found = self._folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            msg = f"{self._folder} is somebody else's."
            raise PermissionError(msg)

    def _hold(self) -> int | None:
        for number in range(self._count):
            descriptor = os.open(self._folder / str(number), os.O_CREAT | os.O_RDWR, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
            else:
                return descriptor
        return None


def _name(using: str) -> str:
    """Name a database so that two of them do not share a folder, nor do two users."""
    connection = connections[using]
    where = [str(connection.settings_dict.get(each, "")) for each in ("HOST", "PORT", "NAME")]
    digest = hashlib.sha256("\n".join([connection.vendor, *where]).encode()).hexdigest()[:16]
    return f"drf_webhooks_{os.getuid()}_{digest}"
