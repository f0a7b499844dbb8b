"""From a stored event to a verified request, with a real receiver."""

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.test import override_settings
from django.utils import timezone
from standardwebhooks import Webhook

from drf_webhooks.models import Attempt, Delivery, Endpoint
from drf_webhooks.session import disable_webhooks
from drf_webhooks.testing import WebhookReceiver, capture_events, deliver_now
from tests.factories import make_deposit

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_change_arrives_signed() -> None:
    with WebhookReceiver() as receiver:
        endpoint = Endpoint.objects.create(url=receiver.url, event_types=["core.deposit.*"])
        with capture_events() as events:
            make_deposit()
        assert deliver_now() == 1
        (request,) = receiver.requests

    Webhook(endpoint.secret).verify(request.body, dict(request.headers))
    (event,) = [each for each in events if each.type.startswith("core.deposit")]
    assert request.headers["webhook-id"] == event.id
    assert request.json["data"] == event.data
    assert request.json["type"] == "core.deposit.created"
    assert Delivery.objects.get().state == "delivered"
    assert Attempt.objects.get().status == 200


def test_a_receiver_that_is_down_gets_it_when_it_is_up() -> None:
    with WebhookReceiver() as receiver:
        port = receiver.port
    endpoint = Endpoint.objects.create(
        url=f"http://127.0.0.1:{port}/", event_types=["core.deposit.*"]
    )
    make_deposit()
    assert deliver_now() == 1
    attempt = Attempt.objects.get()
    assert (attempt.status, attempt.error) == (None, "connection_refused")
    assert deliver_now() == 0

    Delivery.objects.update(due_at=timezone.now() - timedelta(seconds=1))
    with WebhookReceiver(port) as receiver:
        assert deliver_now() == 1
        (request,) = receiver.requests

    Webhook(endpoint.secret).verify(request.body, dict(request.headers))
    assert Delivery.objects.get().attempt_count == 2


@pytest.mark.django_db
def test_deliver_now_works_in_a_test_case() -> None:
    with WebhookReceiver() as receiver:
        Endpoint.objects.create(url=receiver.url, event_types=["core.deposit.*"])
        make_deposit()
        assert deliver_now() == 1
        assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("status", "headers", "state", "is_enabled"),
    [
        (204, {}, "delivered", True),
        (302, {"location": "http://127.0.0.1:1/"}, "waiting", True),
        (500, {}, "waiting", True),
        (404, {"webhook-delivery": "abort-message"}, "dead", True),
        (200, {"webhook-delivery": "disable"}, "delivered", False),
        (400, {"webhook-delivery": "disable"}, "dead", False),
        (410, {}, "dead", False),
    ],
)
def test_the_answer_decides(
    status: int, headers: dict[str, str], state: str, *, is_enabled: bool
) -> None:
    with WebhookReceiver() as receiver:
        Endpoint.objects.create(url=receiver.url, event_types=["core.deposit.*"])
        receiver.respond(status, headers=headers)
        make_deposit()
        assert deliver_now() == 1
        assert len(receiver.requests) == 1

    assert Delivery.objects.get().state == state
    endpoint = Endpoint.objects.get()
    assert (endpoint.state == "enabled") is is_enabled
    assert bool(endpoint.disabled_reason) is not is_enabled


def test_what_waits_for_a_disabled_endpoint_is_kept() -> None:
    with WebhookReceiver() as receiver:
        Endpoint.objects.create(url=receiver.url, event_types=["core.deposit.*"])
        make_deposit()
        Endpoint.objects.update(state="disabled")
        assert deliver_now() == 0
        Endpoint.objects.update(state="enabled")
        assert deliver_now() == 1


@override_settings(
    DRF_WEBHOOKS={
        "ALLOWED_NETWORKS": ["127.0.0.0/8"],
        "REQUEST_TIMEOUT": timedelta(seconds=1),
    }
)
@pytest.mark.parametrize("way", ["silent", "dripping"])
def test_an_attempt_ends_whatever_the_receiver_does(way: str) -> None:
    with WebhookReceiver() as receiver:
        Endpoint.objects.create(url=receiver.url, event_types=["core.deposit.*"])
        if way == "silent":
            receiver.respond(delay=timedelta(seconds=30))
        else:
            receiver.respond(body=b"x" * 1000, drip=timedelta(seconds=0.2))
        make_deposit()
        deliver_now()

    attempt = Attempt.objects.get()
    assert timedelta(seconds=0.9) < attempt.duration < timedelta(seconds=1.5)
    # A status that has come decides, though the body never ended.
    assert attempt.error == ("timeout_total" if way == "silent" else "")
    assert attempt.status == (None if way == "silent" else 200)


def test_a_reset_and_a_huge_answer() -> None:
    with WebhookReceiver() as receiver:
        Endpoint.objects.create(url=receiver.url, event_types=["core.deposit.*"])
        receiver.respond(body=b"x" * 5_000_000)
        receiver.respond(reset=True, times=1)
        make_deposit()
        deliver_now()
        assert Attempt.objects.get().error == "connection_reset"
        Delivery.objects.update(due_at=timezone.now() - timedelta(seconds=1))
        deliver_now()

    last = Attempt.objects.order_by("number").last()
    assert last is not None
    assert last.status == 200
    assert len(last.response_body) == 4096


@override_settings(DRF_WEBHOOKS={"ALLOWED_HOSTS": ["*", "localhost"], "HTTPS_ONLY": False})
def test_the_own_network_is_refused() -> None:
    with WebhookReceiver() as receiver:
        # What a name leads to is not asked when it is saved.
        Endpoint.objects.create(
            url=f"http://localhost:{receiver.port}/", event_types=["core.deposit.*"]
        )
        with pytest.raises(ValidationError, match=r"127\.0\.0\.1 is refused: loopback"):
            Endpoint.objects.create(url=receiver.url, event_types=["core.deposit.*"])
        Endpoint.objects.bulk_create([Endpoint(url=receiver.url, event_types=["core.deposit.*"])])
        make_deposit()
        assert deliver_now() == 2
        assert receiver.requests == []

    assert {each.error for each in Attempt.objects.all()} == {"destination_refused"}


def test_disabled_says_nothing() -> None:
    with capture_events() as events, disable_webhooks():
        make_deposit()

    assert events == []
