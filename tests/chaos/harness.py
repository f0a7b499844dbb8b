"""Start processes, kill them, start them again, and let everything come to rest."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection
from django.test import override_settings

from drf_webhooks.models import Delivery, Endpoint, Event
from drf_webhooks.session import disable_webhooks
from drf_webhooks.testing import WebhookReceiver
from tests.chaos.books import Books, check, forms
from tests.factories import make_deposit

__all__ = ["Chaos", "Process", "is_alone", "wait_until"]

#: Short, so that a kill costs little time; in the proportions that are checked at start-up.
_SETTINGS = {
    "REQUEST_TIMEOUT": {"seconds": 1},
    "CONNECT_TIMEOUT": {"seconds": 1},
    "LEASE": {"seconds": 1.5},
    "SESSION_HOLD": {"seconds": 1},
    # Transactions last long on a busy machine.
    "RECHECK_AFTER": {"seconds": 5},
    "POLL_INTERVAL": {"seconds": 0.1},
    "RETRY_SCHEDULE": [{"seconds": 0.2}] * 200,
    # A busy machine makes the receiver time out often.
    "BREAKER_PAUSE": {"seconds": 0.2},
    "BREAKER_PAUSE_LIMIT": {"seconds": 1},
}

_PATIENCE = 120

#: What a process must know of where the database is.
_PLACE = ("NAME", "HOST", "PORT", "USER", "PASSWORD", "OPTIONS", "DISABLE_SERVER_SIDE_CURSORS")


def wait_until(condition: Callable[[], Any], what: str, *, seconds: float = _PATIENCE) -> None:
    """Wait for what processes do.

    Raises:
        TimeoutError: it did not come.

    """
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(what)
        time.sleep(0.02)


def is_alone() -> bool:
    """Tell whether nobody else is connected to the database of the test."""
    if connection.vendor != "postgresql":
        return True
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        return bool(cursor.fetchone() == (0,))


class Process:
    """A writer or a worker, which may be killed."""

    def __init__(
        self, chaos: "Chaos", command: dict[str, Any], clock: timedelta = timedelta(0)
    ) -> None:
        self._chaos = chaos
        self._zygote = chaos._zygote(clock)
        self.pid = self._zygote.ask({"do": "start", **command})
        self.code: int | None = None

    def signal(self, number: int) -> None:
        """Send a signal; one that has ended gets none."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def is_over(self) -> bool:
        """Whether it has ended and only waits to be waited for."""
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as stat:  # noqa: PTH123  # a process, no file
            return stat.read().rpartition(")")[2].split()[0] == "Z"

    def wait(self) -> int:
        """Wait for its end, and return how it ended."""
        if self.code is None:
            wait_until(self.is_over, "the end of a process")
            self.code = self._zygote.ask({"do": "wait", "pid": self.pid})
            self._chaos.kills += self.code == -signal.SIGKILL
        return self.code


class _Zygote:
    """A process that is ready to become a writer or a worker, whose clock may be off."""

    def __init__(self, environment: dict[str, str], clock: timedelta) -> None:
        shifted = {"CHAOS_CLOCK_SECONDS": f"{clock.total_seconds():.0f}"}
        if clock:
            shifted["LD_PRELOAD"] = environment["CHAOS_CLOCK"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.zygote"],
            env={**environment, **shifted},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if "CHAOS_LOG" not in os.environ else None,
            text=True,
            start_new_session=True,
        )

    def ask(self, command: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def end(self) -> None:
        """End it, and all that came of it."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


class Chaos:
    """A world of writers, workers and receivers; use :meth:`world`."""

    def __init__(
        self, environment: dict[str, str], receiver: WebhookReceiver, stack: ExitStack
    ) -> None:
        self._environment = environment
        self._stack = stack
        self._zygotes: dict[timedelta, _Zygote] = {}
        self.receiver = receiver
        self.kills = 0
        with disable_webhooks():
            for _ in range(3):
                make_deposit(amount=1)
        self._before = forms()
        self.endpoint = Endpoint.objects.create(url=receiver.url, event_types=["*"])
        # Nobody listens there: what it is owed stays visible, and does not hold up the other.
        Endpoint.objects.create(url="http://127.0.0.1:1024/", event_types=["core.landlord.*"])

    @classmethod
    @contextmanager
    def world(
        cls,
        *,
        clock: Path | None = None,
        database: dict[str, Any] | None = None,
        is_private: bool = False,
        **changed: Any,
    ) -> Iterator["Chaos"]:
        """Give a world whose processes end with the block.

        Args:
            clock: The compiled ``clock.c``, if the clocks of some are off.
            database: What the processes have otherwise of the settings of the database.
            is_private: Whether the database's server ends with the test, by itself.
            changed: Settings of the library that are otherwise, with ``{"seconds": …}``.

        """
        here = connection.settings_dict
        place = {key: here[key] for key in _PLACE if key in here}
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "PYTHONPATH": "src:.",
            "CHAOS_DATABASE": json.dumps({**place, **(database or {})}, default=str),
            "CHAOS_CLOCK": str(clock),
            "CHAOS_SETTINGS": json.dumps({**_SETTINGS, **changed}),
        }
        recheck = {"RECHECK_AFTER": timedelta(seconds=5)}
        with WebhookReceiver() as receiver:
            try:
                # What the test itself changes waits no longer than what writers change.
                with (
                    override_settings(DRF_WEBHOOKS={**settings.DRF_WEBHOOKS, **recheck}),
                    ExitStack() as stack,
                ):
                    yield cls(environment, receiver, stack)
            finally:
                if not is_private:
                    # The server notices a little later; until then no database can be dropped.
                    wait_until(is_alone, "the connections of those who were killed")

    def _zygote(self, clock: timedelta) -> _Zygote:
        if clock not in self._zygotes:
            self._zygotes[clock] = _Zygote(self._environment, clock)
            self._stack.callback(self._zygotes[clock].end)
        return self._zygotes[clock]

    def writer(
        self, seed: int, *, units: int = 4, clock: timedelta = timedelta(0), **death: Any
    ) -> Process:
        """Start a writer; ``fatal`` and ``is_after`` say at which statement it dies.

        ``clock`` is how far its clock is ahead.
        """
        return Process(self, {"what": "writer", "seed": seed, "units": units, **death}, clock)

    def worker(
        self, *, clock: timedelta = timedelta(0), log: Path | None = None, **death: Any
    ) -> Process:
        """Start a worker, as above; what it says is appended to ``log``."""
        told = {} if log is None else {"log": str(log)}
        return Process(self, {"what": "worker", **told, **death}, clock)

    def rest(self) -> Books:
        """Let one worker that nobody kills finish everything, and check the books."""
        self.receiver.respond()
        worker = self.worker()
        left = -1
        while (now_left := self._waiting()) != left:
            # However slow the machine: as long as there is progress.
            left = now_left
            with contextlib.suppress(TimeoutError):
                wait_until(self.is_at_rest, "less to do")
        wait_until(self.is_at_rest, "deliveries are waiting", seconds=1)
        worker.signal(signal.SIGTERM)
        worker.wait()
        return check(self.receiver.requests, self.endpoint, self._before)

    def _waiting(self) -> int:
        return Delivery.objects.filter(endpoint=self.endpoint, state="waiting").count()

    def is_at_rest(self) -> bool:
        """Tell whether nothing is left to do."""
        return not (
            Event.objects.filter(held_until__isnull=False).exists()
            or Event.objects.filter(recheck_at__isnull=False).exists()
            or Delivery.objects.filter(endpoint=self.endpoint, state="waiting").exists()
        )

    def clock(self, clock: timedelta) -> timedelta:
        """Return how far the clock of processes is ahead that were to be started with one."""
        told = self._zygote(clock).ask({"do": "tell"})
        return timedelta(seconds=round(told - time.time()))

    def misbehave(self, chance: random.Random) -> None:
        """Let the receiver fail at some of the next requests."""
        way = chance.choice(["well", "well", "error", "reset", "late"])
        if way == "error":
            self.receiver.respond(500, times=chance.randint(1, 4))
        elif way == "reset":
            self.receiver.respond(reset=True, times=chance.randint(1, 2))
        elif way == "late":
            self.receiver.respond(delay=timedelta(milliseconds=100), times=chance.randint(1, 4))
