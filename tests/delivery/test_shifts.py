"""Shifts: one loop and one client for a process, a limited time, and an end that loses nothing."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from datetime import timedelta
from typing import Any, Self

import pytest
from django.conf import settings
from django.test import override_settings

from drf_webhooks.delivery.shifts import Shifts
from drf_webhooks.models import Attempt, Delivery
from drf_webhooks.testing import WebhookReceiver
from tests.delivery.test_worker import make_deliveries
from tests.e2e.test_death import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

LONG = timedelta(seconds=30)


@pytest.fixture
def shifts() -> Iterator[Shifts]:
    shifts = Shifts()
    yield shifts
    shifts.close()
    shifts.close()  # once more is nothing


def states() -> list[str]:
    return sorted(Delivery.objects.values_list("state", flat=True))


def test_what_is_due_is_delivered_and_connections_are_kept(shifts: Shifts) -> None:
    with Counting() as receiver:
        for _ in range(3):
            make_deliveries(1, receiver.url)
            assert not shifts.work("default", housekeeping=int, limit=LONG)

        assert len(receiver.requests) == 6
    assert set(states()) == {"delivered"}
    # Three turns, and never more in the air than endpoints: one for each of these.
    assert receiver.connections <= 3


class Counting(WebhookReceiver):
    """Counts the connections that were made to it."""

    connections = 0

    def __enter__(self) -> Self:
        super().__enter__()
        server = self._server
        assert server is not None
        accept = server.get_request

        def get_request() -> Any:
            self.connections += 1
            return accept()

        server.get_request = get_request  # type: ignore[method-assign]  # to count
        return self


def test_when_the_time_is_over_what_is_in_the_air_is_finished(shifts: Shifts) -> None:
    with WebhookReceiver() as receiver:
        receiver.respond(delay=timedelta(milliseconds=1200))
        # Ten in the air for one endpoint, no more.
        make_deliveries(12, receiver.url)

        assert shifts.work("default", housekeeping=int, limit=timedelta(seconds=1))

        assert states().count("delivered") == len(receiver.requests) == Attempt.objects.count()
        assert 0 < len(receiver.requests) < 12
        receiver.respond(200)
        assert not shifts.work("default", housekeeping=int, limit=LONG)
        assert len(receiver.requests) == 12


def test_what_comes_to_the_waiting_thread_ends_the_shift_in_peace(shifts: Shifts) -> None:
    class TimeIsUpError(Exception):
        """As Celery raises it in the thread of a task."""

    with WebhookReceiver() as receiver:
        receiver.respond(delay=timedelta(milliseconds=300))
        make_deliveries(1, receiver.url)

        def fail(*_: object) -> None:
            raise TimeIsUpError

        before = signal.signal(signal.SIGALRM, fail)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.15)
            with pytest.raises(TimeIsUpError):
                shifts.work("default", housekeeping=int, limit=LONG)
        finally:
            signal.signal(signal.SIGALRM, before)
        assert states() == ["waiting"]
        wait_until(lambda: states() == ["delivered"])
    assert len(receiver.requests) == 1


def test_a_defect_of_housekeeping_is_the_callers(shifts: Shifts) -> None:
    def fail() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        shifts.work("default", housekeeping=fail, limit=LONG)

    assert not shifts.work("default", housekeeping=int, limit=LONG)


def test_a_process_that_ends_drops_what_is_in_the_air(shifts: Shifts) -> None:
    with WebhookReceiver() as receiver:
        receiver.respond(delay=timedelta(seconds=10))
        make_deliveries(1, receiver.url)

        def work() -> None:
            # Or it finds that nothing else is due, in the same moment.
            with suppress(CancelledError):
                shifts.work("default", housekeeping=int, limit=LONG)

        working = threading.Thread(target=work)
        working.start()
        receiver.wait_for(1)
        shifts.close()
        working.join(10)

    assert not working.is_alive()
    assert states() == ["waiting"]


def test_another_timeout_is_heeded_at_once(shifts: Shifts) -> None:
    with WebhookReceiver() as receiver:
        make_deliveries(1, receiver.url)
        shifts.work("default", housekeeping=int, limit=LONG)
        receiver.respond(delay=timedelta(seconds=5))
        make_deliveries(1, receiver.url)
        started = time.monotonic()
        with override_settings(
            DRF_WEBHOOKS={**settings.DRF_WEBHOOKS, "REQUEST_TIMEOUT": timedelta(seconds=1)}
        ):
            shifts.work("default", housekeeping=int, limit=LONG)
        took = time.monotonic() - started

    assert took < 4
    assert "timeout_total" in Attempt.objects.values_list("error", flat=True)


def test_a_client_is_closed_by_its_last_user(shifts: Shifts) -> None:
    with WebhookReceiver() as receiver:
        receiver.respond(delay=timedelta(milliseconds=500), times=1)
        make_deliveries(1, receiver.url)
        slow = threading.Thread(
            target=shifts.work, args=("default",), kwargs={"housekeeping": int, "limit": LONG}
        )
        slow.start()
        receiver.wait_for(1)
        before = shifts._client
        assert before is not None
        with override_settings(DRF_WEBHOOKS={**settings.DRF_WEBHOOKS, "RESPONSE_LOG_BYTES": 1}):
            shifts.work("default", housekeeping=int, limit=LONG)
        assert before.users == 1
        slow.join(10)

    assert states() == ["delivered"]
    assert before.users == 0
    assert before.transport._connector is not None
    assert before.transport._connector.closed


def test_a_child_keeps_what_its_parent_uses_open(shifts: Shifts) -> None:
    loop = shifts._running_loop()
    thread = shifts._thread
    assert thread is not None
    shifts.begin_anew()

    assert shifts._running_loop() is not loop
    assert [each for each, _ in shifts._inherited] == [loop]
    assert loop.is_running()
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


def test_a_process_that_was_forked_has_a_loop_of_its_own() -> None:
    program = (
        "import os\n"
        "from django.conf import settings\n"
        "import django\n"
        "settings.configure(DATABASES={'default': {'ENGINE': 'django.db.backends.sqlite3'}},"
        " INSTALLED_APPS=['django.contrib.contenttypes', 'django.contrib.auth', 'drf_webhooks'])\n"
        "django.setup()\n"
        "from drf_webhooks.delivery.shifts import _shifts\n"
        "ours = _shifts._running_loop()\n"
        "if os.fork() == 0:\n"
        "    theirs = _shifts._running_loop()\n"
        "    _shifts.close()\n"
        "    os._exit(0 if theirs is not ours else 1)\n"
        "assert os.wait()[1] == 0\n"
    )
    done = subprocess.run(  # noqa: S603  # our own code
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        env={**os.environ, "PYTHONPATH": "src:."},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
