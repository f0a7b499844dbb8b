"""django.tasks: the immediate backend and that of the database, with a worker of its own."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import django
import pytest
from django.conf import settings
from django.core import checks
from django.db import transaction
from django.test import override_settings
from django_tasks_db.models import DBTaskResult

from drf_webhooks import waking
from drf_webhooks.contrib import tasks
from drf_webhooks.models import Attempt, Delivery, Endpoint
from drf_webhooks.testing import WebhookReceiver
from tests.app.models import Deposit, Tenant
from tests.chaos.harness import is_alone, wait_until
from tests.contrib.test_celery import post
from tests.e2e.test_death import environment

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.contrib.rest")]

_PACKAGE = "django_tasks" if django.VERSION < (6,) else "django.tasks"
IMMEDIATE = f"{_PACKAGE}.backends.immediate.ImmediateBackend"
DATABASE = "django_tasks_db.DatabaseBackend"


@contextmanager
def backend(path: str, **more: Any) -> Iterator[None]:
    assert waking.flush(timedelta(seconds=30))
    with override_settings(
        TASKS={"default": {"BACKEND": path}},
        DRF_WEBHOOKS={
            **settings.DRF_WEBHOOKS,
            "ENGINE": "drf_webhooks.contrib.tasks.Engine",
            **more,
        },
    ):
        yield
        assert waking.flush(timedelta(seconds=30))


@contextmanager
def worker() -> Iterator[None]:
    """Run the worker of the database backend until the block ends."""
    program = (
        "import os\n"
        "import django\n"
        "from django.conf import settings\n"
        "from django.core.management import call_command\n"
        "settings.DATABASES['default']['NAME'] = os.environ['TEST_DB_NAME']\n"
        f"settings.TASKS = {{'default': {{'BACKEND': {DATABASE!r}}}}}\n"
        "django.setup()\n"
        "call_command('db_worker', interval=0.1, startup_delay=False, reload=False, verbosity=0)\n"
    )
    process = subprocess.Popen(  # noqa: S603  # our own code
        [sys.executable, "-c", program], env=environment()
    )
    try:
        yield
        process.terminate()
        process.wait(60)
    finally:
        process.kill()
        process.wait(30)
        wait_until(is_alone, "connections of the worker")


def test_the_immediate_backend_delivers_after_the_commit_in_another_thread(
    tenant: Tenant, endpoint: Endpoint
) -> None:
    threads: list[str] = []

    class Asking(WebhookReceiver):
        """Waits until the request that caused it is over."""

        def _wait(self, length: timedelta) -> None:
            is_over.wait(10)
            threads.extend(each.name for each in threading.enumerate())

    is_over = threading.Event()
    with Asking() as receiver, backend(IMMEDIATE):
        Endpoint.objects.update(url=receiver.url)
        with transaction.atomic():
            Deposit.objects.create(tenant=tenant, amount=1)
            assert waking.flush(timedelta(0))
            assert receiver.requests == []
        post(tenant, 2)
        # Both requests are over, and no webhook has been answered.
        is_over.set()
        receiver.wait_for(2)

    assert "drf_webhooks_wake" in threads
    assert set(Delivery.objects.values_list("state", flat=True)) == {"delivered"}


def test_a_task_inside_a_transaction_sends_nothing_before_its_end(
    tenant: Tenant, endpoint: Endpoint, receiver: WebhookReceiver
) -> None:
    post(tenant, 1)

    with backend(IMMEDIATE):
        with transaction.atomic():
            tasks.sweep.enqueue()
            assert waking.flush(timedelta(seconds=10))
            assert receiver.requests == []
        receiver.wait_for(1)


def test_the_immediate_backend_goes_on_until_nothing_is_due(
    tenant: Tenant, endpoint: Endpoint, receiver: WebhookReceiver
) -> None:
    receiver.respond(delay=timedelta(milliseconds=100))
    for amount in range(12):
        post(tenant, amount)

    with backend(IMMEDIATE, ENGINE_TIME_LIMIT=timedelta(milliseconds=50)):
        tasks.sweep.enqueue()

    assert len(receiver.requests) == Attempt.objects.count() == 12


def test_what_fails_in_the_immediate_backend_is_tried_again(
    tenant: Tenant, endpoint: Endpoint, receiver: WebhookReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    with backend(IMMEDIATE):
        with pytest.raises(RuntimeError, match="there_is_no_such_database"):
            tasks.Engine().wake("there_is_no_such_database")
        post(tenant, 1)
        receiver.wait_for(1)


def test_the_database_backend_delivers_by_its_worker(
    tenant: Tenant, endpoint: Endpoint, receiver: WebhookReceiver
) -> None:
    with backend(DATABASE), worker():
        with transaction.atomic():
            for amount in (1, 2):
                Deposit.objects.create(tenant=tenant, amount=amount)
        receiver.wait_for(2, timeout=timedelta(seconds=60))
        post(tenant, 3)
        receiver.wait_for(3, timeout=timedelta(seconds=30))
        wait_until(
            lambda: set(DBTaskResult.objects.values_list("status", flat=True)) == {"SUCCESSFUL"},
            "the end of the tasks",
        )

    rows = DBTaskResult.objects.values_list("task_path", "args_kwargs")
    assert {path for path, _ in rows} == {"drf_webhooks.contrib.tasks.deliver"}
    assert {str(given) for _, given in rows} == {"{'args': ['default'], 'kwargs': {}}"}
    assert len(receiver.requests) == 3


def test_a_task_of_the_database_backend_makes_way_and_is_enqueued_again(
    tenant: Tenant, endpoint: Endpoint, receiver: WebhookReceiver
) -> None:
    receiver.respond(delay=timedelta(milliseconds=100))
    for amount in range(12):
        post(tenant, amount)

    with backend(DATABASE, ENGINE_TIME_LIMIT=timedelta(milliseconds=50)):
        tasks.deliver.enqueue("default")
        (first,) = DBTaskResult.objects.all()
        context = type("Context", (), {"task_result": first.task_result})
        first.task.func(context, "default")

        assert DBTaskResult.objects.count() == 2
    assert len(receiver.requests) == Attempt.objects.count() < 12


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({}, {"backend": "default", "queue_name": "default"}),
        (
            {"default": ["default", "drf_webhooks"]},
            {"backend": "default", "queue_name": "drf_webhooks"},
        ),
        (
            {"default": ["default"], "drf_webhooks": ["default"]},
            {"backend": "drf_webhooks", "queue_name": "default"},
        ),
        (
            {"default": ["default"], "drf_webhooks": ["drf_webhooks"]},
            {"backend": "drf_webhooks", "queue_name": "drf_webhooks"},
        ),
    ],
    ids=["as Django has it", "a queue", "a backend", "both"],
)
def test_a_project_may_have_a_place_for_webhooks_alone(
    given: dict[str, list[str]], place: dict[str, str]
) -> None:
    default = {"default": {"BACKEND": IMMEDIATE}}
    names = {alias: {"BACKEND": IMMEDIATE, "QUEUES": queues} for alias, queues in given.items()}

    with override_settings(TASKS=names or default):
        assert tasks._place() == place


def test_the_set_up_is_in_order() -> None:
    before = checks.run_checks(tags=["drf_webhooks"])

    with backend(DATABASE):
        assert checks.run_checks(tags=["drf_webhooks"]) == before
