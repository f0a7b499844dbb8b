"""Processes that are killed: nothing is lost, nothing invented, duplicates have one id."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from drf_webhooks.models import Attempt, Delivery, Endpoint, Event
from drf_webhooks.pipeline import release_due
from drf_webhooks.session import disable_webhooks
from drf_webhooks.testing import WebhookReceiver, deliver_now
from tests.app.models import Deposit, Tenant
from tests.factories import make_deposit

pytestmark = pytest.mark.django_db(transaction=True)

#: What a process of a test does first: the same database, the same project.
_SETUP = """
import os, signal, sys
import django
from django.conf import settings
settings.DATABASES["default"]["NAME"] = os.environ["TEST_DB_NAME"]
# Commands ask each database at the start, and this one is known by another name.
del settings.DATABASES["other"]
django.setup()
from django.db import connection, transaction
from drf_webhooks import transactions
from drf_webhooks.session import webhook_signal_session
from tests.app.models import Deposit, Tenant
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PYTHONPATH": "src:.",
        "TEST_DB_NAME": str(connection.settings_dict["NAME"]),
    }


def run(code: str) -> int:
    """Run code in a process of its own, and return how it ended."""
    program = _SETUP + textwrap.dedent(code)
    return subprocess.run(  # noqa: S603  # our own code
        [sys.executable, "-c", program], env=environment(), timeout=60, check=False
    ).returncode


@contextmanager
def worker() -> Iterator[subprocess.Popen[str]]:
    program = _SETUP + (
        "from django.core.management import call_command\ncall_command('webhooks_worker')\n"
    )
    process = subprocess.Popen(  # noqa: S603  # our own code
        [sys.executable, "-c", program], env=environment(), stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=30)


def wait_until(condition: Callable[[], Any]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.02)


def due_again() -> None:
    Delivery.objects.filter(state="waiting").update(due_at=timezone.now() - timedelta(days=1))


@pytest.fixture
def tenant() -> Tenant:
    with disable_webhooks():
        deposit = make_deposit()
    Deposit.objects.all().delete()
    return deposit.tenant


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as receiver:
        Endpoint.objects.create(url=receiver.url, event_types=["core.deposit.*"])
        yield receiver


def test_killed_before_the_commit_nothing_is_there(
    tenant: Tenant, receiver: WebhookReceiver
) -> None:
    ended = run(f"""
        Deposit.objects.get_or_create  # the models are there
        log = transactions.log_of("default")
        connection.commit.func.__globals__["_check_is_usable"] = die
        Deposit.objects.create(tenant_id={tenant.pk}, amount=7)
    """)

    assert ended == -signal.SIGKILL
    assert not Deposit.objects.exists()
    assert not Event.objects.filter(type__startswith="core.deposit").exists()


def test_killed_right_after_the_commit_it_is_delivered(
    tenant: Tenant, receiver: WebhookReceiver
) -> None:
    ended = run(f"""
        with transaction.atomic():
            transaction.on_commit(die)
            Deposit.objects.create(tenant_id={tenant.pk}, amount=7)
    """)

    assert ended == -signal.SIGKILL
    assert Deposit.objects.count() == 1
    assert deliver_now() == 1
    assert receiver.requests[0].json["data"]["amount"] == "7.00"


def test_killed_in_an_open_session_it_is_delivered_after_the_hold(
    tenant: Tenant, receiver: WebhookReceiver
) -> None:
    ended = run(f"""
        with webhook_signal_session():
            deposit = Deposit.objects.create(tenant_id={tenant.pk}, amount=7)
            deposit.amount = 8
            deposit.save()
            die()
    """)

    assert ended == -signal.SIGKILL
    assert deliver_now() == 0
    Event.objects.filter(held_until__isnull=False).update(
        held_until=timezone.now() - timedelta(seconds=1)
    )
    assert release_due() == 1
    assert deliver_now() == 1
    assert receiver.requests[0].json["type"] == "core.deposit.created"
    assert receiver.requests[0].json["data"]["amount"] == "8.00"


def test_a_worker_killed_with_deliveries_in_the_air_loses_none(
    tenant: Tenant, receiver: WebhookReceiver
) -> None:
    receiver.respond(delay=timedelta(seconds=5))
    for amount in range(12):
        Deposit.objects.create(tenant=tenant, amount=amount)

    with worker() as process:
        receiver.wait_for(5, timeout=timedelta(seconds=30))
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    assert Delivery.objects.filter(state="waiting").count() == 12

    receiver.respond(200)
    due_again()
    deliver_now()
    # Those that were in the air wait as after an attempt that failed.
    due_again()
    deliver_now()
    ids = Counter(each.headers["webhook-id"] for each in receiver.requests)
    bodies = {(each.headers["webhook-id"], each.body) for each in receiver.requests}
    assert len(ids) == len(bodies) == 12
    assert sum(ids.values()) >= 17


def test_a_worker_finishes_what_is_in_the_air_when_it_is_asked_to_stop(
    tenant: Tenant, receiver: WebhookReceiver
) -> None:
    receiver.respond(delay=timedelta(seconds=1))
    Deposit.objects.create(tenant=tenant, amount=1)

    with worker() as process:
        receiver.wait_for(1, timeout=timedelta(seconds=30))
        process.terminate()
        assert process.wait(30) == 0

    assert Delivery.objects.get().state == "delivered"


def test_a_second_signal_ends_a_worker_at_once(tenant: Tenant, receiver: WebhookReceiver) -> None:
    receiver.respond(delay=timedelta(seconds=12))
    Deposit.objects.create(tenant=tenant, amount=1)

    with worker() as process:
        receiver.wait_for(1, timeout=timedelta(seconds=30))
        started = time.monotonic()
        # Signals that come together are one; they are sent until the process has had two.
        while process.poll() is None and time.monotonic() < started + 10:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
        # The last of them may meet an interpreter that is about to exit.
        assert process.returncode in {0, -signal.SIGTERM}
        assert time.monotonic() - started < 6

    assert Delivery.objects.get().state == "waiting"


def test_a_late_result_of_a_worker_that_was_stopped_is_refused(
    tenant: Tenant, receiver: WebhookReceiver
) -> None:
    receiver.respond(500, delay=timedelta(seconds=2), times=1)
    Deposit.objects.create(tenant=tenant, amount=1)

    with worker() as process:
        receiver.wait_for(1, timeout=timedelta(seconds=30))
        process.send_signal(signal.SIGSTOP)
        due_again()
        assert deliver_now() == 0
        due_again()
        assert deliver_now() == 1
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: Attempt.objects.count() == 3)

    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.attempt_count) == ("delivered", 2)
    # That it seemed lost, what the other worker saw, and what it had to say in the end.
    log = Attempt.objects.order_by("pk").values_list("number", "error", "status")
    assert [*log] == [(1, "worker_lost", None), (2, "", 200), (1, "", 500)]
    assert len({each.headers["webhook-id"] for each in receiver.requests}) == 1


def test_two_workers_send_each_delivery_once(tenant: Tenant, receiver: WebhookReceiver) -> None:
    for amount in range(60):
        Deposit.objects.create(tenant=tenant, amount=amount)

    with worker(), worker():
        wait_until(lambda: not Delivery.objects.filter(state="waiting").exists())

    assert len(receiver.requests) == Attempt.objects.count() == 60


def test_a_worker_delivers_soon_after_the_commit(tenant: Tenant, receiver: WebhookReceiver) -> None:
    with worker():
        for amount in range(3):
            Deposit.objects.create(tenant=tenant, amount=amount)
            receiver.wait_for(amount + 1, timeout=timedelta(seconds=30))
        wait_until(lambda: not Delivery.objects.filter(state="waiting").exists())

    assert Attempt.objects.count() == 3
