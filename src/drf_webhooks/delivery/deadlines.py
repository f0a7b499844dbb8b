"""End what takes too long, with one timer for all.

What ``asyncio.timeout()`` does, for many that may all take equally long: they are over in the
order in which they began, so that only the first needs a timer. A timer for each request is a
twentieth of what the request costs.
"""

import asyncio
from types import TracebackType

__all__ = ["Deadlines"]


class Deadlines:
    """Deadlines of one length, in one event loop.

    Args:
        seconds: How long each block may take.

    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._open: dict[_Deadline, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self) -> "_Deadline":
        """Return a context manager that cancels what its block awaits when the time is over.

        Raises:
            TimeoutError: at the end of a block that was cancelled for that.

        """
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None  # noqa: S101  # called in one
        deadline = _Deadline(self._open, task, loop.time() + self._seconds)
        self._open[deadline] = None
        if self._timer is None:
            self._timer = loop.call_at(deadline.at, self._look, loop)
        return deadline

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        self._timer = None
        for each in list(self._open):
            if each.at > now:
                self._timer = loop.call_at(each.at, self._look, loop)
                return
            each.pass_by()


class _Deadline:
    __slots__ = ("_cancelling", "_is_passed", "_open", "_task", "at")

    def __init__(
        self, among: "dict[_Deadline, None]", task: "asyncio.Task[object]", at: float
    ) -> None:
        self._open = among
        self._task = task
        self._cancelling = task.cancelling()
        self._is_passed = False
        self.at = at

    def pass_by(self) -> None:
        """Cancel the block, which is over time."""
        self._open.pop(self, None)
        self._is_passed = True
        self._task.cancel()

    def __enter__(self) -> None:
        return

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.pop(self, None)
        if not self._is_passed:
            return
        # A cancellation from elsewhere goes on.
        is_ours = self._task.uncancel() <= self._cancelling
        if is_ours and kind is asyncio.CancelledError:
            raise TimeoutError from error
