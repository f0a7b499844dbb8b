"""The commands, as an operator types them."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from django.utils import timezone

from drf_webhooks import secret_keys
from drf_webhooks.models import Attempt, Endpoint, Notice
from drf_webhooks.receiver_server import WebhookReceiver
from drf_webhooks.registry import registry
from drf_webhooks.testing import deliver_now
from tests.e2e.test_death import wait_until
from tests.factories import make_deposit, make_user

URL = "https://a.example/"


def run(*arguments: Any) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command(*arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.django_db
def test_an_endpoint_is_made_and_its_secret_shown_once() -> None:
    make_user(username="ada")

    out, err = run("webhooks_endpoint", "add", URL, "--events", "core.deposit.*", "--owner", "ada")

    endpoint = Endpoint.objects.get()
    assert endpoint.secret in out
    assert "shown this once" in err
    assert endpoint.owner is not None
    listed, _ = run("webhooks_endpoint", "list")
    assert str(endpoint.pk) in listed
    assert endpoint.secret not in listed


@pytest.mark.django_db
def test_an_endpoint_with_a_given_secret_and_an_owner_by_key() -> None:
    user, secret = make_user(username="ada"), secret_keys.generate()

    run(
        "webhooks_endpoint",
        "add",
        URL,
        "--events",
        "*",
        "--owner",
        str(user.pk),
        "--secret",
        secret,
    )

    endpoint = Endpoint.objects.get()
    assert (endpoint.owner, endpoint.secret) == (user, secret)


@pytest.mark.django_db
def test_an_endpoint_with_its_own_way_of_being_sent_to() -> None:
    headers = ["--header", "X-Api-Key: k3y", "--header", "X-B: c"]
    more = ["--method", "PUT", "--format", "xml", *headers]

    out, _ = run("webhooks_endpoint", "add", URL, "--events", "*", *more)

    endpoint = Endpoint.objects.get()
    assert (endpoint.method, endpoint.format) == ("PUT", "xml")
    assert endpoint.headers == {"X-Api-Key": "k3y", "X-B": "c"}
    assert "k3y" not in out + run("webhooks_endpoint", "list")[0]


@pytest.mark.django_db
def test_no_endpoints_are_said_to_be_none() -> None:
    assert "There are no endpoints" in run("webhooks_endpoint", "list")[1]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ftp://a.example/", "--events", "*"], "does not start with http"),
        ([URL, "--events", "core..x"], "'core..x' is no event type"),
        ([URL, "--events", "core.flat.*"], "No resource emits 'core.flat.*'. Event types: core."),
        ([URL, "--events", "*", "--secret", "whsec_c2hvcnQ="], "has 5 bytes"),
        ([URL, "--events", "*", "--header", "Host: a"], "is set by the library"),
        ([URL, "--events", "*", "--header", "k3y"], "Line 1 of the headers has no colon"),
        ([URL, "--events", "*", "--format", "cloudevents"], "needs a source"),
        ([URL, "--events", "*", "--format", "yaml"], "no format 'yaml'"),
        ([URL, "--events", "*", "--owner", "nobody"], "There is no user 'nobody'"),
        ([URL, "--events", "*", "--owner", "77777"], "There is no user '77777'"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=said.replace("*", r"\*").replace("(", r"\(")):
        run("webhooks_endpoint", "add", *arguments)

    assert not Endpoint.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["webhooks.endpoint.failing", "webhooks.*"])
def test_an_endpoint_may_hear_of_endpoints(kind: str) -> None:
    run("webhooks_endpoint", "add", URL, "--events", kind)

    assert Endpoint.objects.get().event_types == [kind]


@pytest.mark.django_db
def test_without_resources_no_event_type_exists() -> None:
    with registry.isolated(), pytest.raises(CommandError, match="none; declare one"):
        run("webhooks_endpoint", "add", URL, "--events", "*")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("ends", ["--once", "--until-empty"])
def test_a_worker_ends_by_itself(ends: str) -> None:
    with WebhookReceiver() as receiver:
        Endpoint.objects.create(url=receiver.url, event_types=["core.deposit.*"])
        make_deposit()
        _, err = run("webhooks_worker", ends, "--concurrency", "3")

    assert Attempt.objects.count() == len(receiver.requests) == 1
    assert "3 requests at once" in err
    assert "Stopped after 1 attempts." in err


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {},
            (
                "10 attempts at the earliest after 0:00:00, 0:00:05, 0:05:05, 0:35:05, 2:35:05, "
                "7:35:05, 17:35:05, 1 day, 7:35:05, 2 days, 3:35:05, 3 days, 3:35:05; the last "
                "after 3 days, 3:35:05 to 3 days, 18:42:06; none after 4 days, 0:00:00."
            ),
        ),
        (
            {
                "MAX_AGE": timedelta(hours=1),
                "RETRY_JITTER": 0,
                "RETRY_SCHEDULE": [timedelta(minutes=1), timedelta(hours=1)],
                "PER_EVENT_TYPE": {"a.b": {}, "a.*": {}},
            },
            (
                "2 attempts at the earliest after 0:00:00, 0:01:00; the last after 0:01:00; none "
                "after 1:00:00. 1 more of RETRY_SCHEDULE may come too late for MAX_AGE. "
                "Other values for a.b, a.*."
            ),
        ),
    ],
)
def test_d48_a_worker_says_what_schedule_the_settings_give(
    settings: dict[str, Any], said: str
) -> None:
    with override_settings(DRF_WEBHOOKS=settings):
        _, err = run("webhooks_worker", "--once")

    assert said in err


@pytest.mark.django_db(transaction=True)
def test_a_worker_tells_of_notices() -> None:
    endpoint = Endpoint.objects.create(url=URL, event_types=["*"])
    now = timezone.now()
    Notice.objects.create(endpoint=endpoint, kind="failing", created_at=now, due_at=now)

    run("webhooks_worker", "--once")

    assert Notice.objects.get().due_at is None


@pytest.mark.django_db(transaction=True)
def test_once_with_nothing_due_ends_too() -> None:
    assert "Stopped after 0 attempts." in run("webhooks_worker", "--once")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--database", "nowhere"], "no database 'nowhere' in DATABASES. Known: default, other"),
        (["--concurrency", "0"], "--concurrency is 0"),
    ],
)
def test_a_worker_refuses_what_cannot_be(arguments: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        run("webhooks_worker", *arguments)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_right", [True, False])
def test_a_listener_shows_what_comes_and_verifies_it(*, is_right: bool) -> None:
    with WebhookReceiver() as free:
        port = free.port
    endpoint = Endpoint.objects.create(
        url=f"http://127.0.0.1:{port}/", event_types=["core.deposit.*"]
    )
    secret = endpoint.secret if is_right else secret_keys.generate()
    with ThreadPoolExecutor(1) as pool:
        listening = pool.submit(run, "webhooks_listen", port, "--secret", secret, "--count", 1)
        wait_until(lambda: is_open(port))
        make_deposit()
        assert deliver_now() == 1
        shown, _ = listening.result(30)

    assert '\n  "type": "core.deposit.created",\n' in shown
    assert "  webhook-signature: v1," in shown
    assert ("  verified" if is_right else "  NOT VERIFIED") in shown


def test_a_request_without_the_headers_is_not_verified() -> None:
    with WebhookReceiver() as free:
        port = free.port
    with ThreadPoolExecutor(1) as pool:
        secret = secret_keys.generate()
        listening = pool.submit(run, "webhooks_listen", port, "--secret", secret, "--count", 2)
        wait_until(lambda: is_open(port))
        for headers in ({}, {"webhook-timestamp": "noon", "webhook-id": "x"}):
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/", data=b"\xff{}", headers=headers
            )
            urllib.request.urlopen(request, timeout=10).close()
        shown, _ = listening.result(30)

    assert shown.count("NOT VERIFIED") == 2
    assert "no webhook-id" in shown


def test_a_listener_without_a_secret_only_shows() -> None:
    with WebhookReceiver() as free:
        port = free.port
    with ThreadPoolExecutor(1) as pool:
        listening = pool.submit(run, "webhooks_listen", port, "--count", 1)
        wait_until(lambda: is_open(port))
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", data=b"{}", timeout=10).close()
        shown, _ = listening.result(30)

    assert "VERIFIED" not in shown.upper()


def test_a_listener_fails_and_is_slow_if_told_so() -> None:
    with WebhookReceiver() as free:
        port = free.port
    with ThreadPoolExecutor(1) as pool:
        listening = pool.submit(
            run, "webhooks_listen", port, "--count", 1, "--fail", 503, "--delay", "1s"
        )
        wait_until(lambda: is_open(port))
        started_at = time.monotonic()
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", data=b"not JSON", timeout=10)
        took = time.monotonic() - started_at
        caught.value.close()
        shown, _ = listening.result(30)

    assert caught.value.code == 503
    assert took >= 1
    assert "not JSON" in shown


def test_a_listener_refuses_a_secret_that_is_none() -> None:
    with pytest.raises(CommandError, match="24 to 64"):
        run("webhooks_listen", "--secret", "abc")


def test_a_listener_says_that_its_port_is_taken() -> None:
    with (
        WebhookReceiver() as other,
        pytest.raises(CommandError, match=f"on port {other.port}: .* Name another port"),
    ):
        run("webhooks_listen", other.port)


def test_a_listener_ends_quietly_when_it_is_interrupted() -> None:
    with WebhookReceiver() as free:
        port = free.port
    process = subprocess.Popen(  # noqa: S603  # our own code
        [sys.executable, "-m", "django", "webhooks_listen", str(port)],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == f"Listening on http://127.0.0.1:{port}/\n"

    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)

    assert (process.returncode, said) == (0, "")
