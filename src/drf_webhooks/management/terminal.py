"""One line of a terminal that is written over; elsewhere a line now and then."""

import shutil
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

__all__ = ["Line", "Pace", "age", "bar"]

_BAR = 24


class Stream(Protocol):
    """What a line is written to, as ``OutputWrapper`` of a command."""

    def isatty(self) -> bool:
        """Tell whether a person reads it."""
        ...

    def write(self, msg: str, style_func: Callable[[str], str], ending: str) -> None:
        """Write a text in some style."""
        ...

    def flush(self) -> None:
        """Do not wait for more."""
        ...


class Line:
    """The line of a terminal that says how far something is.

    Nothing of a terminal but the carriage return is used, so that it works on each of them and
    needs no library.

    Args:
        stream: Where to.
        every: How often a new line is written where no terminal is.
        log: Takes such a line instead of the stream.
        clock: Seconds that only grow.

    """

    def __init__(
        self,
        stream: Stream,
        *,
        every: timedelta = timedelta(minutes=1),
        log: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.is_live = stream.isatty()
        self._stream = stream
        self._every = every.total_seconds()
        self._log = log
        self._clock = clock
        self._written_at = clock()
        self._width = 0

    @property
    def is_due(self) -> bool:
        """Whether :meth:`show` would write something."""
        return self.is_live or self._clock() - self._written_at >= self._every

    def show(self, text: str) -> None:
        """Write over what stands there."""
        if not self.is_due:
            return
        self._written_at = self._clock()
        if not self.is_live:
            write = self._log or (lambda line: self._stream.write(line, str, "\n"))
            write(text)
        else:
            # Without the last column: a full line would be wrapped, and not be written over.
            shown = text[: shutil.get_terminal_size().columns - 1]
            self._stream.write(f"\r{shown.ljust(self._width)}", str, "")
            self._width = len(shown)
        self._stream.flush()

    def clear(self) -> None:
        """Leave the terminal as if nothing had stood there."""
        if self._width:
            self._stream.write(f"\r{' ' * self._width}\r", str, "")
            self._stream.flush()
            self._width = 0


class Pace:
    """Keeps to so many a second.

    Args:
        rate: So many; ``None`` for no limit.
        clock: Seconds that only grow.
        wait: Waits for so many seconds.

    """

    def __init__(
        self,
        rate: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._wait = wait
        self._started_at = clock()
        self._done = 0

    def keep(self, done: int) -> None:
        """Wait until so many more were not too many."""
        self._done += done
        if self._rate is not None:
            ahead = self._done / self._rate - (self._clock() - self._started_at)
            if ahead > 0:
                self._wait(ahead)


def bar(done: int, total: int) -> str:
    """Return how far something is, as a bar and in numbers."""
    part = min(done / total, 1) if total else 1
    filled = int(part * _BAR)
    return f"[{'#' * filled}{'-' * (_BAR - filled)}] {done}/{total}  {part:4.0%}"


def age(length: timedelta) -> str:
    """Return a length of time in its greatest unit, of which there are at least two."""
    seconds = int(length.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
