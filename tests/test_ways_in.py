"""Every way in which a project's code runs: what is said is the same."""

import asyncio
import contextvars
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connections
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import path

from drf_webhooks.models import Endpoint, Event
from drf_webhooks.session import disable_webhooks, webhook_signal_session
from tests.app.models import Deposit
from tests.chaos.harness import wait_until
from tests.chaos.servers import answers, needed
from tests.e2e.test_death import _SETUP, environment
from tests.factories import make_deposit
from tests.loops import run
from tests.test_session import names, said

pytestmark = pytest.mark.urls(__name__)


def save_twice(_: HttpRequest, pk: int) -> HttpResponse:
    for _each in range(2):
        Deposit.objects.get(pk=pk).save()
    return HttpResponse("done")


async def asave_twice(_: HttpRequest, pk: int) -> HttpResponse:
    for _each in range(2):
        await (await Deposit.objects.aget(pk=pk)).asave()
    return HttpResponse("done")


def save_and_fail(request: HttpRequest, pk: int) -> HttpResponse:
    save_twice(request, pk)
    raise ZeroDivisionError


urlpatterns = [
    path("twice/<int:pk>/", save_twice),
    path("atwice/<int:pk>/", asave_twice),
    path("fail/<int:pk>/", save_and_fail),
]


@pytest.fixture
def deposit(transactional_db: None, everything: Endpoint) -> Deposit:
    with disable_webhooks():
        return make_deposit(amount=0)


# Requests


@pytest.mark.parametrize("view", ["twice", "atwice"])
def test_a_request_of_the_test_client_is_a_session(deposit: Deposit, view: str) -> None:
    response = Client().get(f"/{view}/{deposit.pk}/")

    assert response.content == b"done"
    assert names() == ["updated"]


@pytest.mark.parametrize("view", ["twice", "atwice"])
def test_an_async_request_of_the_test_client_is_a_session(deposit: Deposit, view: str) -> None:
    run(AsyncClient().get(f"/{view}/{deposit.pk}/"))

    assert names() == ["updated"]


def test_requests_that_run_together_are_sessions_of_their_own(deposit: Deposit) -> None:
    async def main() -> None:
        await asyncio.gather(*(AsyncClient().get(f"/atwice/{deposit.pk}/") for _ in range(3)))

    run(main())

    assert names() == ["updated"] * 3


@pytest.mark.parametrize(
    ("view", "is_atomic", "expected"),
    [
        pytest.param("twice", True, ["updated"], id="a request in a transaction"),
        pytest.param("fail", True, [], id="undone with its transaction"),
        pytest.param("fail", False, ["updated"], id="committed before it failed"),
    ],
)
def test_what_a_request_committed_is_said(
    deposit: Deposit,
    monkeypatch: pytest.MonkeyPatch,
    view: str,
    is_atomic: bool,
    expected: list[str],
) -> None:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", is_atomic)

    Client(raise_request_exception=False).get(f"/{view}/{deposit.pk}/")

    assert names() == expected


# Tasks and threads


def test_tasks_that_run_together_do_not_disable_each_other(deposit: Deposit) -> None:
    """Each step of one waits for a step of the other."""
    steps = [asyncio.Event() for _ in range(3)]

    async def silent() -> None:
        async with disable_webhooks():
            steps[0].set()
            await steps[1].wait()
            await Deposit.objects.filter(pk=deposit.pk).aupdate(note="silent")
        steps[2].set()

    async def heard() -> None:
        await steps[0].wait()
        async with webhook_signal_session():
            await Deposit.objects.filter(pk=deposit.pk).aupdate(note="heard")
            steps[1].set()
            await steps[2].wait()
            await Deposit.objects.filter(pk=deposit.pk).aupdate(amount=1)

    async def main() -> None:
        await asyncio.wait_for(asyncio.gather(silent(), heard()), 30)

    run(main())

    assert [(name, data["note"]) for name, data in said()] == [("updated", "silent")]


def test_a_session_survives_async_code_called_from_sync_code(deposit: Deposit) -> None:
    """And the other way round, to any depth."""

    async def inner() -> None:
        await deposit.asave()
        await sync_to_async(deposit.save)()

    with webhook_signal_session():
        deposit.save()
        async_to_sync(inner)()
        assert names() == []
    with disable_webhooks():
        async_to_sync(inner)()

    assert names() == ["updated"]


@pytest.mark.parametrize(
    ("is_copied", "expected"),
    [
        pytest.param(False, ["updated"] * 4, id="each by itself"),
        pytest.param(True, ["updated"], id="all in the session"),
    ],
)
def test_threads_of_a_pool_join_a_session_with_a_copy_of_its_context(
    deposit: Deposit, is_copied: bool, expected: list[str]
) -> None:
    def save() -> None:
        Deposit.objects.filter(pk=deposit.pk).update(amount=F("amount") + 1)
        connections.close_all()

    with ThreadPoolExecutor(2) as pool, webhook_signal_session():
        contexts = [contextvars.copy_context() for _ in range(4)]
        started = [
            pool.submit(each.run, save) if is_copied else pool.submit(save) for each in contexts
        ]
        for each in started:
            each.result(30)

    assert names() == expected
    assert max(float(data["amount"]) for _, data in said()) == 4


@pytest.mark.parametrize("is_copied", [False, True])
def test_threads_of_a_pool_are_disabled_with_a_copy_of_the_context(
    deposit: Deposit, is_copied: bool
) -> None:
    def save() -> None:
        Deposit.objects.filter(pk=deposit.pk).update(amount=F("amount") + 1)
        connections.close_all()

    with ThreadPoolExecutor(1) as pool, disable_webhooks():
        context = contextvars.copy_context()
        started = pool.submit(context.run, save) if is_copied else pool.submit(save)
        started.result(30)

    assert names() == ([] if is_copied else ["updated"])


# Processes


@contextmanager
def process(code: str, **more: str) -> Iterator["subprocess.Popen[str]"]:
    """Run code in a process of its own, which is told more by its input."""
    program = _SETUP + textwrap.dedent(code)
    with subprocess.Popen(  # noqa: S603  # our own code
        [sys.executable, "-c", program],
        env={**environment(), **more},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def test_two_processes_change_an_object_at_the_same_instant(deposit: Deposit) -> None:
    """Two events each time, and their numbers are in the order of the commits."""
    code = f"""
        from django.db.models import F
        connection.ensure_connection()
        print("ready", flush=True)
        for _ in sys.stdin:
            with transaction.atomic():
                Deposit.objects.filter(pk={deposit.pk}).update(amount=F("amount") + 1)
            print("done", flush=True)
    """
    with process(code) as one, process(code) as other:
        both = (one, other)
        assert [each.stdout.readline() for each in both] == ["ready\n"] * 2
        for _ in range(10):
            for each in both:
                each.stdin.write("now\n")
                each.stdin.flush()
            assert [each.stdout.readline() for each in both] == ["done\n"] * 2

    events = Event.objects.order_by("sequence")
    assert [(each.sequence, int(float(each.data["amount"]))) for each in events] == [
        (number, number) for number in range(1, 21)
    ]


def test_a_management_command_needs_nothing(deposit: Deposit) -> None:
    code = """
        from django.core.management import execute_from_command_line
        execute_from_command_line(["manage.py", "raise_deposits"])
    """
    with process(code) as command:
        assert command.wait(60) == 0

    assert [(name, data["amount"]) for name, data in said()] == [("updated", "1.00")]


def test_the_shell_needs_nothing(deposit: Deposit) -> None:
    code = """
        from django.core.management import execute_from_command_line
        execute_from_command_line(["manage.py", "shell"])
    """
    typed = f"""
from tests.app.models import Deposit
deposit = Deposit.objects.get(pk={deposit.pk})
deposit.amount = 5
deposit.save()
"""
    with process(code) as shell:
        shell.communicate(typed, timeout=60)

    assert shell.returncode == 0
    assert [(name, data["amount"]) for name, data in said()] == [("updated", "5.00")]


# Celery


def test_a_task_of_celery_needs_nothing_and_may_be_a_session(deposit: Deposit) -> None:
    needed(find_spec("celery"), "celery")
    needed(answers(6379), "Redis on port 6379")
    from tests.app import tasks  # noqa: PLC0415  # not everybody has Celery

    queue = f"drf_webhooks_{uuid.uuid4().hex}"
    code = """
        from tests.app.tasks import app
        app.worker_main(["worker", "--concurrency=1", "--loglevel=error", "--without-gossip",
                         "--without-mingle", "--without-heartbeat"])
    """
    with process(code, CELERY_QUEUE=queue) as worker, tasks.app.connection_for_write() as broker:
        for task in (tasks.fail, tasks.save_twice, tasks.save_twice_in_a_session):
            task.apply_async((deposit.pk,), queue=queue, connection=broker)
        wait_until(lambda: len(names()) >= 3, "the tasks")
        worker.terminate()
        worker.wait(60)
        broker.default_channel.queue_delete(queue)

    assert names() == ["updated"] * 3
    assert Event.objects.exclude(session=None).count() == 1
