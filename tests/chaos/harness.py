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
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.test import override_settings

from drf_webhooks.models import Delivery, Endpoint, Event
from drf_webhooks.session import disable_webhooks
from drf_webhooks.testing import WebhookReceiver
from tests.chaos.books import Books, check, forms
from tests.factories import make_deposit

__all__ = ["Chaos", "wait_until"]

#: Short, so that a kill costs little time; in the proportions that are checked at start-up.
_SETTINGS = {
    "REQUEST_TIMEOUT": {"seconds": 1},
    "CONNECT_TIMEOUT": {"seconds": 1},
    "LEASE": {"seconds": 1.5},
    "SESSION_HOLD": {"seconds": 1},
    "RECHECK_AFTER": {"seconds": 2},
    "POLL_INTERVAL": {"seconds": 0.1},
    "RETRY_SCHEDULE": [{"seconds": 0.2}] * 200,
}

_PATIENCE = 120


def wait_until(condition: Callable[[], Any], what: str) -> None:
    """Wait for what processes do.

    Raises:
        TimeoutError: it did not come.

    """
    until = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(what)
        time.sleep(0.02)


def _is_alone() -> bool:
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

    def __init__(self, chaos: "Chaos", command: dict[str, Any]) -> None:
        self._chaos = chaos
        self.pid = chaos._ask({"do": "start", **command})
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
            self.code = self._chaos._ask({"do": "wait", "pid": self.pid})
            self._chaos.kills += self.code == -signal.SIGKILL
        return self.code


class Chaos:
    """A world of writers, workers and receivers; use :meth:`world`."""

    def __init__(self, zygote: "subprocess.Popen[str]", receiver: WebhookReceiver) -> None:
        self._zygote = zygote
        self.receiver = receiver
        self.kills = 0
        with disable_webhooks():
            for _ in range(3):
                make_deposit(amount=1)
        self._before = forms()
        self.endpoint = Endpoint.objects.create(url=receiver.url, event_types=["*"])
        # Nobody listens there: what it is owed stays visible, and does not hold up the other.
        Endpoint.objects.create(url="http://127.0.0.1:9/", event_types=["core.landlord.*"])

    @classmethod
    @contextmanager
    def world(cls) -> Iterator["Chaos"]:
        """Give a world whose processes end with the block."""
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "PYTHONPATH": "src:.",
            "TEST_DB_NAME": str(connection.settings_dict["NAME"]),
            "CHAOS_SETTINGS": json.dumps(_SETTINGS),
        }
        here = {"RECHECK_AFTER": timedelta(seconds=2)}
        command = [sys.executable, "-m", "tests.chaos.zygote"]
        with (
            WebhookReceiver() as receiver,
            subprocess.Popen(  # noqa: S603  # our own code
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL if "CHAOS_LOG" not in os.environ else None,
                text=True,
                start_new_session=True,
            ) as zygote,
        ):
            try:
                # What the test itself changes waits no longer than what writers change.
                with override_settings(DRF_WEBHOOKS={**settings.DRF_WEBHOOKS, **here}):
                    yield cls(zygote, receiver)
            finally:
                os.killpg(zygote.pid, signal.SIGKILL)
                # The server notices a little later; until then no database can be dropped.
                wait_until(_is_alone, "the connections of those who were killed")

    def _ask(self, command: dict[str, Any]) -> int:
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.write(json.dumps(command) + "\n")
        self._zygote.stdin.flush()
        return int(self._zygote.stdout.readline())

    def writer(self, seed: int, *, units: int = 4, **death: Any) -> Process:
        """Start a writer; ``fatal`` and ``is_after`` say at which statement it dies."""
        return Process(self, {"what": "writer", "seed": seed, "units": units, **death})

    def worker(self, **death: Any) -> Process:
        """Start a worker, as above."""
        return Process(self, {"what": "worker", **death})

    def rest(self) -> Books:
        """Let one worker that nobody kills finish everything, and check the books."""
        self.receiver.respond()
        worker = self.worker()
        wait_until(self._is_at_rest, "deliveries are waiting")
        worker.signal(signal.SIGTERM)
        worker.wait()
        return check(self.receiver.requests, self.endpoint, self._before)

    def _is_at_rest(self) -> bool:
        return not (
            Event.objects.filter(held_until__isnull=False).exists()
            or Event.objects.filter(recheck_at__isnull=False).exists()
            or Delivery.objects.filter(endpoint=self.endpoint, state="waiting").exists()
        )

    def misbehave(self, chance: random.Random) -> None:
        """Let the receiver fail at some of the next requests."""
        way = chance.choice(["well", "well", "error", "reset", "late"])
        if way == "error":
            self.receiver.respond(500, times=chance.randint(1, 4))
        elif way == "reset":
            self.receiver.respond(reset=True, times=chance.randint(1, 2))
        elif way == "late":
            self.receiver.respond(delay=timedelta(milliseconds=100), times=chance.randint(1, 4))
