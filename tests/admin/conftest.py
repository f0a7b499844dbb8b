"""People who use the admin, and what they look at."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from drf_webhooks.models import Attempt, Delivery, Endpoint
from tests.app.models import User
from tests.factories import make_deposit

Staff = Callable[..., Client]


def url(name: str, *args: Any, **query: Any) -> str:
    found = reverse(f"admin:drf_webhooks_{name}", args=args)
    return f"{found}?{'&'.join(f'{key}={value}' for key, value in query.items())}"


def form(**fields: Any) -> dict[str, Any]:
    """What the page of a new endpoint sends."""
    given = {
        "url": "https://a.example/",
        "event_types": "core.*",
        "state": "enabled",
        "method": "POST",
        "format": "json",
        "ordering": "none",
        "on_dead": "skip",
        "overrides": "{}",
    }
    return {**given, **fields}


def do(client: Client, kind: str, row: Any, tool: str, **data: Any) -> Any:
    """Press a button of a row, and see the page that follows."""
    return client.post(url(f"{kind}_tool", row.pk, tool), data, follow=True)


def act(client: Client, kind: str, action: str, *rows: Any, **data: Any) -> Any:
    """Do an action of a list, and see the page that follows."""
    pks = [each.pk for each in rows]
    chosen = {"action": action, "_selected_action": pks, **data}
    return client.post(reverse(f"admin:drf_webhooks_{kind}_changelist"), chosen, follow=True)


def make_attempt(delivery: Delivery, **fields: Any) -> Attempt:
    given = {"number": 1, "started_at": timezone.now(), "duration": timedelta(seconds=2)}
    return Attempt.objects.create(
        delivery=delivery, url="https://a.example/", **{**given, "status": 500, **fields}
    )


def make_delivery(**fields: Any) -> Delivery:
    """A delivery to the endpoint that there is, of an event of its own."""
    make_deposit()
    delivery = Delivery.objects.latest("pk")
    Delivery.objects.filter(pk=delivery.pk).update(**fields)
    delivery.refresh_from_db()
    return delivery


@pytest.fixture
def admin(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    return client


@pytest.fixture
def staff(db: None) -> Staff:
    """Log somebody in who has some permissions."""

    def log_in(*codenames: str) -> Client:
        user = User.objects.create(username="staff", is_staff=True)
        for codename in codenames:
            user.user_permissions.add(Permission.objects.get(codename=codename))
        client = Client()
        client.force_login(user)
        return client

    return log_in


@pytest.fixture
def endpoint(db: None) -> Endpoint:
    return Endpoint.objects.create(url="https://a.example/", event_types=["core.deposit.*"])
