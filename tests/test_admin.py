"""The admin: secrets stay hidden, facts stay facts, and pages cost the same for many rows."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from drf_webhooks import secret_keys
from drf_webhooks.models import Attempt, Delivery, Endpoint, Event
from tests.app.models import User
from tests.factories import make_deposit

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    return client


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint.objects.create(url="https://a.example/", event_types=["core.deposit.*"])


def make_attempts(count: int, body: bytes = b"<b>no</b>") -> Attempt:
    for _ in range(count):
        make_deposit()
    for delivery in Delivery.objects.filter(attempts=None):
        attempt = Attempt.objects.create(
            delivery=delivery,
            number=1,
            started_at=timezone.now(),
            duration=timedelta(seconds=1),
            url="https://a.example/",
            status=500,
            response_headers=[["server", "<i>x</i>"]],
            response_body=body,
        )
    return attempt


def page(name: str, *args: Any) -> str:
    return reverse(f"admin:drf_webhooks_{name}", args=args)


def test_the_secret_is_shown_while_adding_only(admin: Client, endpoint: Endpoint) -> None:
    assert b"whsec_" in admin.get(page("endpoint_add")).content
    assert endpoint.secret.encode() not in admin.get(page("endpoint_changelist")).content
    assert endpoint.secret.encode() not in admin.get(page("endpoint_change", endpoint.pk)).content


def test_an_endpoint_is_made_in_the_admin(admin: Client) -> None:
    form = {"url": "https://b.example/", "event_types": "core.*", "state": "enabled"}
    form |= {"ordering": "none", "on_dead": "skip"}
    secret = secret_keys.generate()
    answer = admin.post(page("endpoint_add"), {**form, "secret": secret})

    assert answer.status_code == 302
    assert Endpoint.objects.get().event_types == ["core.*"]
    assert (
        b"is no event type"
        in admin.post(
            page("endpoint_add"), {**form, "secret": secret, "event_types": "a..b"}
        ).content
    )


def test_endpoints_are_disabled_and_enabled(admin: Client, endpoint: Endpoint) -> None:
    for action, state in (("disable", "disabled"), ("enable", "enabled")):
        admin.post(
            page("endpoint_changelist"), {"action": action, "_selected_action": [endpoint.pk]}
        )
        endpoint.refresh_from_db()
        assert endpoint.state == state
        assert bool(endpoint.disabled_reason) is (state == "disabled")


@pytest.mark.parametrize("name", ["endpoint", "event", "delivery", "attempt"])
def test_a_list_costs_the_same_for_many_rows(name: str, admin: Client, endpoint: Endpoint) -> None:
    counts = []
    for count in (1, 15):
        make_attempts(count)
        for number in range(count):
            Endpoint.objects.create(url=f"https://{number}.example/", event_types=["x"])
        with CaptureQueriesContext(connection) as queries:
            assert admin.get(page(f"{name}_changelist")).status_code == 200
        counts.append(len(queries))

    assert counts[0] == counts[1]


@pytest.mark.parametrize("name", ["event", "delivery", "attempt"])
def test_facts_can_be_looked_at_but_not_changed(
    name: str, admin: Client, endpoint: Endpoint
) -> None:
    attempt = make_attempts(1)
    pk = {"event": attempt.delivery.event_id, "delivery": attempt.delivery_id}.get(name, attempt.pk)

    content = admin.get(page(f"{name}_change", pk)).content.decode()

    assert "<b>no</b>" not in content
    assert "<i>x</i>" not in content
    assert admin.get(page(f"{name}_add")).status_code == 403
    assert admin.post(page(f"{name}_delete", pk), {"post": "yes"}).status_code == 403


def test_what_an_event_says_and_why_it_does_not(admin: Client, endpoint: Endpoint) -> None:
    make_attempts(1)
    event = Event.objects.get(type="core.deposit.created")
    assert "core.deposit.created" in admin.get(page("event_change", event.pk)).content.decode()

    event.body = None
    event.error = "ValueError: boom"
    event.save()
    shown = admin.get(page("event_change", event.pk)).content.decode()
    assert "parked" in shown
    assert "ValueError: boom" in shown
    event.held_until = timezone.now()
    event.save()
    assert "held" in admin.get(page("event_changelist")).content.decode()


def test_long_answers_are_cut(admin: Client, endpoint: Endpoint) -> None:
    attempt = make_attempts(1, body=b"y" * 30_000)

    assert "y" * 20_001 not in admin.get(page("attempt_change", attempt.pk)).content.decode()


def test_a_delivery_is_sent_again(admin: Client, endpoint: Endpoint) -> None:
    delivery = make_attempts(1).delivery
    Delivery.objects.update(state="dead", due_at=None, reason="x")

    admin.post(
        page("delivery_changelist"), {"action": "send_again", "_selected_action": [delivery.pk]}
    )

    delivery.refresh_from_db()
    assert (delivery.state, delivery.reason, delivery.fence) == ("waiting", "", 1)
    assert delivery.due_at is not None


def test_sending_again_needs_the_permission_to_change(endpoint: Endpoint) -> None:
    user = User.objects.create(username="viewer", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_delivery"))
    client = Client()
    client.force_login(user)
    delivery = make_attempts(1).delivery

    client.post(
        page("delivery_changelist"), {"action": "send_again", "_selected_action": [delivery.pk]}
    )

    delivery.refresh_from_db()
    assert delivery.fence == 0
