"""A real terminal for tests: what a process writes to it is read at the other end."""

import fcntl
import os
import pty
import struct
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Terminal", "terminal"]


class Terminal:
    """The reading end of a pseudo-terminal; ``descriptor`` is the end that is written to."""

    def __init__(self, columns: int) -> None:
        self._ours, self.descriptor = pty.openpty()
        size = struct.pack("HHHH", 24, columns, 0, 0)
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, size)
        self._parts: list[bytes] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        """All that was written so far."""
        return b"".join(self._parts).decode()

    @property
    def screen(self) -> list[str]:
        """The lines as a person sees them: a carriage return starts a line over."""
        lines = []
        for line in self.text.replace("\r\n", "\n").split("\n"):
            shown = ""
            for part in line.split("\r"):
                shown = part + shown[len(part) :]
            lines.append(shown.rstrip())
        return lines

    def write(self, text: str) -> None:
        """Type something."""
        os.write(self._ours, text.encode())

    def close(self) -> None:
        """End it, once all that was written is read."""
        os.close(self.descriptor)
        self._reader.join(10)
        os.close(self._ours)

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._ours, 4096)
            except OSError:
                # Linux says so when the other end is closed.
                return
            if not part:
                return
            self._parts.append(part)


@contextmanager
def terminal(columns: int = 80) -> Iterator[Terminal]:
    """Give a terminal of a width."""
    opened = Terminal(columns)
    try:
        yield opened
    finally:
        opened.close()
