"""Celery for real: workers over Redis and RabbitMQ, brokers that are dead or hang, sweeps."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, _state
from django.conf import settings
from django.core import checks
from django.db import connection
from django.test import override_settings
from kombu import Queue
from rest_framework.test import APIClient
from standardwebhooks import Webhook

from drf_webhooks import waking
from drf_webhooks.contrib import celery as contrib
from drf_webhooks.models import Attempt, Delivery, Endpoint
from drf_webhooks.testing import WebhookReceiver
from tests.app.models import Tenant
from tests.chaos.harness import is_alone, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.contrib.rest")]

ENGINE = "drf_webhooks.contrib.celery.Engine"
BROKERS = {
    "redis": os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/6"),
    "rabbitmq": os.environ.get("RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//"),
}
PORTS = {"redis": 6379, "rabbitmq": 5672}
#: What the reference promises: how much longer a request takes with an engine, whatever it does.
BOUND_SECONDS = 0.1


def needs(broker: str) -> None:
    """Skip a test whose broker is not there, unless it has to be."""
    if f"{broker.upper()}_URL" in os.environ:
        return
    try:
        socket.create_connection(("127.0.0.1", PORTS[broker]), timeout=2).close()
    except OSError:
        if "DRF_WEBHOOKS_TEST_ALL" in os.environ:
            raise
        pytest.skip(f"No {broker} on port {PORTS[broker]}.")


@contextmanager
def web(broker: str, queue: str, **more: Any) -> Iterator[Celery]:
    """Give this process a Celery app, as a web process has one."""
    before = _state.default_app
    app = Celery("web", set_as_current=False)
    app.config_from_object(
        {
            "broker_url": broker,
            "task_default_queue": queue,
            "task_queues": [Queue(queue, queue_arguments={"x-expires": 120_000})],
            **more,
        }
    )
    _state.set_default_app(app)
    assert waking.flush(timedelta(seconds=30))
    waking._waker._engine = None
    try:
        with override_settings(DRF_WEBHOOKS={**settings.DRF_WEBHOOKS, "ENGINE": ENGINE}):
            yield app
    finally:
        _state.set_default_app(before)
        wait_until(lambda: not waking._waker._is_telling, "the engine")
        told, waking._waker._engine = waking._waker._engine, None
        if told is not None and told[1]._connection is not None:
            told[1]._close()
        if broker in BROKERS.values():
            with app.connection_for_write() as leaving:
                bound = app.amqp.queues[queue].bind(leaving.default_channel)
                # Over Redis a channel deletes only what it has declared.
                bound.declare()
                bound.delete()


@contextmanager
def worker(
    broker: str, queue: str, *arguments: str, **seconds: float
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a Celery worker until the block ends."""
    process = subprocess.Popen(  # noqa: S603  # our own code
        [
            *(sys.executable, "-m", "celery", "-A", "tests.contrib.celery_project"),
            *("worker", "--loglevel", "WARNING", "--concurrency", "2"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat", *arguments),
        ],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "PYTHONPATH": "src:.",
            "TEST_DB_NAME": str(connection.settings_dict["NAME"]),
            "TEST_BROKER": broker,
            "TEST_QUEUE": queue,
            "TEST_SECONDS": json.dumps(seconds),
        },
        stdout=subprocess.DEVNULL,
        stderr=None if "CELERY_LOG" in os.environ else subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
        process.terminate()
        process.wait(60)
    finally:
        # The children of one that was killed outlive it a moment.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
        wait_until(is_alone, "connections of the worker")


@pytest.fixture
def queue() -> str:
    return f"drf_webhooks_test_{uuid.uuid4().hex}"


def post(tenant: Tenant, amount: int) -> None:
    answer = APIClient().post("/deposits/", {"tenant": tenant.pk, "amount": amount})
    assert answer.status_code == 201


@pytest.mark.parametrize(
    ("broker", "pool"),
    [
        ("redis", "prefork"),
        ("redis", "threads"),
        ("rabbitmq", "prefork"),
        ("rabbitmq", "solo"),
    ],
)
def test_a_change_by_the_api_arrives_signed(
    broker: str,
    pool: str,
    queue: str,
    tenant: Tenant,
    endpoint: Endpoint,
    receiver: WebhookReceiver,
) -> None:
    needs(broker)

    with web(BROKERS[broker], queue), worker(BROKERS[broker], queue, "--pool", pool):
        # Published before the worker is there, and while it runs.
        post(tenant, 7)
        receiver.wait_for(1, timeout=timedelta(seconds=60))
        for amount in (8, 9):
            post(tenant, amount)
        requests = receiver.wait_for(3, timeout=timedelta(seconds=30))
        wait_until(lambda: not Delivery.objects.filter(state="waiting").exists(), "settling")

    assert {each.json["data"]["amount"] for each in requests} == {"7.00", "8.00", "9.00"}
    for each in requests:
        Webhook(endpoint.secret).verify(each.body, dict(each.headers))
    assert len(receiver.requests) == Attempt.objects.count() == 3


def test_b27_what_a_flushed_broker_and_a_killed_worker_leave_is_swept(
    queue: str, tenant: Tenant, endpoint: Endpoint, receiver: WebhookReceiver, tmp_path: Path
) -> None:
    """B27: the rows are the truth. The second worker has beat, whose sweep finds them."""
    needs("redis")
    broker = BROKERS["redis"]
    with web(broker, queue) as app:
        post(tenant, 1)
        assert waking.flush(timedelta(seconds=30))
        with app.connection_for_write() as flushing:
            assert flushing.default_channel.queue_purge(queue) == 1
        receiver.respond(delay=timedelta(seconds=20))
        with worker(broker, queue, REQUEST_TIMEOUT=1, LEASE=2) as first:
            post(tenant, 2)
            receiver.wait_for(2, timeout=timedelta(seconds=60))
            os.killpg(first.pid, signal.SIGKILL)
            first.wait(30)
        assert set(Delivery.objects.values_list("state", flat=True)) == {"waiting"}
        assert not Attempt.objects.exists()

        receiver.respond(200)
        schedule = str(tmp_path / "schedule")
        beat = ("--pool", "solo", "--beat", "--schedule", schedule)
        with worker(broker, queue, *beat, REQUEST_TIMEOUT=1, LEASE=2):
            wait_until(lambda: not Delivery.objects.filter(state="waiting").exists(), "the sweep")

    ids = [each.headers["webhook-id"] for each in receiver.requests]
    assert len(set(ids)) == 2
    assert len(ids) == 4
    assert set(Delivery.objects.values_list("state", flat=True)) == {"delivered"}


def closed_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port on which somebody accepts, and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=128)) as server:
        yield int(server.getsockname()[1])


def seconds(act: Callable[[], None]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
@pytest.mark.parametrize("is_silent", [True, False], ids=["never answers", "is closed"])
def test_b27_a_broker_that_is_away_delays_no_request_and_loses_nothing(
    scheme: str,
    queue: str,
    tenant: Tenant,
    endpoint: Endpoint,
    receiver: WebhookReceiver,
    silent_port: int,
    *,
    is_silent: bool,
) -> None:
    """B27: no request waits for it, and what it was not told of, the sweep delivers."""
    port = silent_port if is_silent else closed_port()
    times: dict[str | None, list[float]] = {None: [], ENGINE: []}

    with web(f"{scheme}://127.0.0.1:{port}//", queue):
        post(tenant, 0)
        wait_until(lambda: waking._waker._is_telling or waking._waker._failures, "the thread")
        # In turns, so that the noise of the machine meets both alike.
        for _ in range(10):
            for engine, took in times.items():
                with override_settings(DRF_WEBHOOKS={**settings.DRF_WEBHOOKS, "ENGINE": engine}):
                    took.append(seconds(lambda: post(tenant, 1)))
        wait_until(lambda: waking._waker._failures, "an error, within the time-outs")
        assert not waking.flush(timedelta(0))
    assert receiver.requests == []

    # The broker is back: here the one that runs tasks in the caller's thread.
    with web("memory://", queue, task_always_eager=True):
        contrib.sweep.delay()
        assert waking.flush(timedelta(seconds=60))

    assert min(times[ENGINE]) <= min(times[None]) + BOUND_SECONDS
    assert len(receiver.requests) == Delivery.objects.filter(state="delivered").count() == 21


def messages(app: Celery, queue: str) -> list[Any]:
    """Take everything out of a queue of the broker in memory."""
    found = []
    with app.connection_for_read() as reading:
        while (message := reading.default_channel.basic_get(queue, no_ack=True)) is not None:
            found.append(message)
    return found


def test_a_broker_learns_the_name_of_a_database_and_no_more(
    queue: str, tenant: Tenant, endpoint: Endpoint
) -> None:
    with web("memory://", queue) as app:
        post(tenant, 4711)
        assert waking.flush(timedelta(seconds=30))
        (message,) = messages(app, queue)

    arguments, named, _ = json.loads(message.body)
    assert (arguments, named) == (["default"], {})
    assert message.properties["delivery_info"]["routing_key"] == queue
    text = json.dumps(message.headers) + str(message.body)
    assert "drf_webhooks.deliver" in text
    assert "4711" not in text
    assert endpoint.secret not in text


def test_routes_of_celery_are_heeded(queue: str, tenant: Tenant, endpoint: Endpoint) -> None:
    routes = {"drf_webhooks.*": {"queue": f"{queue}_routed"}}

    with web("memory://", queue, task_queues=None, task_routes=routes) as app:
        post(tenant, 1)
        assert waking.flush(timedelta(seconds=30))

        assert len(messages(app, f"{queue}_routed")) == 1


def test_a_connection_that_was_lost_is_made_anew(queue: str) -> None:
    with web("memory://", queue) as app:
        engine = contrib.Engine()
        engine.wake("default")
        lost = engine._connection
        engine.wake("other")
        assert engine._connection is lost
        # As the broker's restart does, as seen from here.
        lost.default_channel.prepare_message = None
        engine.wake("third")

        assert engine._connection is not lost
        found = [json.loads(each.body)[0] for each in messages(app, queue)]
    assert found == [["default"], ["other"], ["third"]]


def test_a_task_that_makes_way_is_enqueued_again(
    queue: str, tenant: Tenant, endpoint: Endpoint, receiver: WebhookReceiver
) -> None:
    receiver.respond(delay=timedelta(milliseconds=300))
    for amount in range(12):
        post(tenant, amount)

    with web("memory://", queue) as app:
        limit = {"ENGINE_TIME_LIMIT": timedelta(milliseconds=200)}
        with override_settings(DRF_WEBHOOKS={**settings.DRF_WEBHOOKS, **limit}):
            contrib.deliver.apply()
        assert len(messages(app, queue)) == 1
        receiver.respond(200)
        contrib.deliver.apply()
        assert messages(app, queue) == []

    assert len(receiver.requests) == 12


def test_messages_stay_until_the_work_is_done() -> None:
    for task in (contrib.deliver, contrib.sweep):
        assert task.acks_late
        assert task.reject_on_worker_lost
        assert task.ignore_result


SCHEDULE = {"webhooks": {"task": "drf_webhooks.sweep", "schedule": 10}}


def found() -> list[str]:
    return [str(each.id)[-4:] for each in checks.run_checks(tags=["drf_webhooks"])]


@pytest.mark.parametrize(
    ("conf", "ids"),
    [
        pytest.param({"beat_schedule": SCHEDULE}, [], id="as it should be"),
        pytest.param({}, ["W111"], id="nobody sweeps"),
        pytest.param(
            {"beat_scheduler": "django_celery_beat.schedulers:DatabaseScheduler"},
            [],
            id="a schedule that is not in the settings",
        ),
        pytest.param(
            {"beat_schedule": SCHEDULE, "task_time_limit": 30, "task_soft_time_limit": 60},
            ["W112"],
            id="a time limit in the middle of a task",
        ),
    ],
)
def test_a_set_up_that_does_not_deliver_is_named(
    queue: str, conf: dict[str, Any], ids: list[str]
) -> None:
    before = found()

    with web("memory://", queue, **conf):
        assert [each for each in found() if each not in before] == ids


@pytest.mark.parametrize("app", [None, Celery("default", set_as_current=False)])
def test_a_process_without_the_projects_app_is_warned(app: Celery | None, queue: str) -> None:
    with web("memory://", queue, beat_schedule=SCHEDULE):
        _state.set_default_app(app)

        assert [each for each in found() if each != "W001"] == ["W110"]
