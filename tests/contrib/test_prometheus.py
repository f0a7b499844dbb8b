"""Metrics: gauges of the database for whoever may see them, counters of each process."""

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.test import Client, override_settings
from django.urls import include, path
from django.utils import timezone
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families as parse

from drf_webhooks.conf import Config, mistakes
from drf_webhooks.models import Delivery
from drf_webhooks.signals import attempts_settled, worker_started
from drf_webhooks.testing import WebhookReceiver, deliver_now
from tests.app.models import User
from tests.delivery.test_worker import make_deliveries
from tests.e2e.test_death import _SETUP, environment
from tests.management.test_commands import run
from tests.test_status import MINUTE, make_endpoint
from tests.test_status import make_deliveries as make_rows

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls(__name__),
]

urlpatterns = [path("metrics/", include("drf_webhooks.contrib.prometheus.urls"))]


@pytest.fixture
def counted() -> Iterator[None]:
    """Count attempts in this process, as an installed app does."""
    installed = [
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "drf_webhooks",
        "drf_webhooks.contrib.prometheus",
        "tests.app",
        "tests.bookshop",
    ]
    with override_settings(INSTALLED_APPS=installed):
        assert apps.is_installed("drf_webhooks.contrib.prometheus")
        yield
    for each in (attempts_settled, worker_started):
        assert each.disconnect(dispatch_uid="drf_webhooks.prometheus")


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def allow(settings: Any, **more: Any) -> Client:
    settings.DRF_WEBHOOKS = {**settings.DRF_WEBHOOKS, "METRICS_TOKEN": "s3cret", **more}
    return Client(headers={"authorization": "Bearer s3cret"})


def test_gauges_say_what_the_database_holds(settings: Any) -> None:
    make_rows(make_endpoint(), 3, due=5 * MINUTE, attempt_count=1)
    make_rows(make_endpoint(state="disabled"), 1, due=9 * MINUTE)
    make_rows(make_endpoint(), 2, state="dead", settled_at=timezone.now())

    answer = allow(settings).get("/metrics/")

    assert answer["content-type"].startswith("text/plain; version=")
    assert "max-age=0" in answer["cache-control"]
    found = samples(answer.content.decode())
    assert found.pop(("drf_webhooks_oldest_due_seconds", ())) == pytest.approx(300, abs=60)
    assert found == {
        ("drf_webhooks_deliveries_waiting", ()): 4,
        ("drf_webhooks_deliveries_failing", ()): 3,
        ("drf_webhooks_deliveries_dead", ()): 2,
        ("drf_webhooks_endpoints", (("state", "enabled"),)): 2,
        ("drf_webhooks_endpoints", (("state", "disabled"),)): 1,
    }


def test_prometheus_may_ask_for_its_newer_format(settings: Any) -> None:
    answer = allow(settings).get(
        "/metrics/", headers={"accept": "application/openmetrics-text; version=1.0.0"}
    )

    assert answer["content-type"].startswith("application/openmetrics-text")
    assert answer.content.endswith(b"# EOF\n")


@pytest.mark.parametrize(
    ("given", "token", "status"),
    [
        pytest.param("Bearer s3cret", "s3cret", 200, id="right"),
        pytest.param("bearer s3cret", "s3cret", 200, id="in lower case"),
        pytest.param("Bearer other", "s3cret", 403, id="wrong"),
        pytest.param("Bearer ünï", "s3cret", 403, id="not ASCII"),
        pytest.param("Basic s3cret", "s3cret", 403, id="another scheme"),
        pytest.param("", "s3cret", 403, id="none"),
        pytest.param("Bearer None", None, 403, id="no token is set"),
        pytest.param("Bearer ", "", 403, id="an empty token is none"),
    ],
)
def test_metrics_are_closed(settings: Any, given: str, token: str | None, status: int) -> None:
    allow(settings, METRICS_TOKEN=token)

    assert Client(headers={"authorization": given}).get("/metrics/").status_code == status


def test_staff_who_may_see_deliveries_may_see_metrics() -> None:
    user = User.objects.create(username="ada", is_staff=True)
    client = Client()
    client.force_login(user)
    assert client.get("/metrics/").status_code == 403
    user.user_permissions.add(
        Permission.objects.get_or_create(
            codename="view_delivery",
            content_type=ContentType.objects.get_for_model(Delivery),
            defaults={"name": "Can view delivery"},
        )[0]
    )
    assert client.get("/metrics/").status_code == 200
    User.objects.update(is_staff=False)
    assert client.get("/metrics/").status_code == 403
    assert client.post("/metrics/").status_code == 405


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0


def test_a_process_counts_what_it_attempts(counted: None) -> None:
    def read() -> list[float]:
        name = "drf_webhooks_attempts_total"
        return [
            value(name, outcome="delivered", result="2xx"),
            value(name, outcome="retried", result="5xx"),
            value(name, outcome="retried", result="connection_refused"),
            value("drf_webhooks_attempt_duration_seconds_count"),
        ]

    before = read()
    with WebhookReceiver() as receiver:
        receiver.respond(500, times=1)
        make_deliveries(3, receiver.url)
        deliver_now()
    Delivery.objects.filter(state="waiting").update(due_at=timezone.now() - timedelta(days=1))
    deliver_now()

    assert [after - was for after, was in zip(read(), before, strict=True)] == [2, 1, 1, 4]


def test_counters_of_several_processes_are_summed(tmp_path: Path) -> None:
    program = _SETUP + (
        "import uuid\n"
        "from datetime import datetime, timedelta, UTC\n"
        "from prometheus_client import generate_latest\n"
        "from drf_webhooks.contrib.prometheus import metrics\n"
        "from drf_webhooks.models import Delivery\n"
        "from drf_webhooks.signals import SettledAttempt, attempts_settled\n"
        "metrics.connect()\n"
        "one = SettledAttempt(1, uuid.uuid4(), 'x', 1, datetime.now(UTC), timedelta(0), "
        "'delivered', 200, '')\n"
        "def count(times):\n"
        "    attempts_settled.send_robust(Delivery, attempts=(one,) * times, refused=1, using='')\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    count(3)\n"
        "    os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
        "count(2)\n"
        "print(generate_latest(metrics.registry('default')).decode())\n"
    )
    done = subprocess.run(  # noqa: S603  # our own code
        [sys.executable, "-W", "ignore", "-c", program],
        env={**environment(), "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    found = samples(done.stdout)
    counter = "drf_webhooks_attempts_total"
    assert found[counter, (("outcome", "delivered"), ("result", "2xx"))] == 5
    assert found["drf_webhooks_results_refused_total", ()] == 2
    assert found["drf_webhooks_deliveries_waiting", ()] == 0


def test_a_worker_serves_what_it_has_counted(counted: None, settings: Any) -> None:
    with WebhookReceiver() as free:
        port = free.port
    settings.DRF_WEBHOOKS = {**settings.DRF_WEBHOOKS, "METRICS_BIND": f"127.0.0.1:{port}"}
    run("webhooks_worker", "--once")

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()

    assert "drf_webhooks_attempt_duration_seconds_bucket" in text


def test_a_port_that_is_taken_stops_no_worker(
    counted: None, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with WebhookReceiver() as taken:
        bind = f"127.0.0.1:{taken.port}"
        settings.DRF_WEBHOOKS = {**settings.DRF_WEBHOOKS, "METRICS_BIND": bind}
        run("webhooks_worker", "--once")

    assert f"Metrics cannot be served at {bind}" in caplog.text


def test_without_an_address_a_worker_serves_nothing(counted: None) -> None:
    assert "Stopped" in run("webhooks_worker", "--once")[1]


def test_an_address_has_a_port() -> None:
    assert "address and a port" in mistakes({"METRICS_BIND": "localhost"})[0]
    assert mistakes({"METRICS_BIND": "[::]:9108"}) == []
    assert "s3cret" not in repr(Config(METRICS_TOKEN="s3cret"))  # noqa: S106  # the point
