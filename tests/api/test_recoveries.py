"""Recoveries by the API: asked for, looked at, cancelled."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings
from django.utils import timezone
from rest_framework.test import APIClient

from drf_webhooks.models import Recovery
from drf_webhooks.recoveries import go_on
from tests.app.models import User
from tests.world import make_part

pytestmark = pytest.mark.django_db(transaction=True)

URL = "/webhooks/recoveries/"


def lately() -> str:
    return (timezone.now() - timedelta(days=1)).isoformat()


def test_what_failed_is_asked_for_and_looked_at(client: APIClient) -> None:
    part = make_part("bea")
    client.force_authenticate(part.owner)

    asked = client.post(URL, {"kind": "failed", "since": lately()}, format="json")
    while go_on("default"):
        pass
    shown = client.get(asked["Location"]).json()

    assert (asked.status_code, asked.json()["state"]) == (202, "waiting")
    assert asked["Location"] == f"http://testserver{URL}{asked.json()['id']}/"
    seen = (shown["state"], shown["expected"], shown["looked_at"], shown["replayed"])
    assert seen == ("done", 1, 1, 1)
    part.delivery.refresh_from_db()
    assert part.delivery.state == "waiting"
    assert client.post(f"{asked['Location']}cancel/").status_code == 409


def test_one_that_waits_is_cancelled(client: APIClient, ada: User) -> None:
    asked = client.post(URL, {"kind": "failed", "since": lately()}, format="json")

    assert client.post(f"{asked['Location']}cancel/").status_code == 204

    assert client.get(asked["Location"]).json()["state"] == "cancelled"


def test_it_reaches_to_now_at_the_latest(client: APIClient, ada: User) -> None:
    later = (timezone.now() + timedelta(days=1)).isoformat()
    data = {"kind": "failed", "since": lately(), "until": later}

    client.post(URL, data, format="json")

    assert Recovery.objects.get().until <= timezone.now()


@pytest.mark.parametrize(
    ("data", "field"),
    [
        pytest.param({"kind": "lost"}, "kind", id="no kind"),
        pytest.param({"since": None}, "since", id="no beginning"),
        pytest.param({"since": "2999-01-01T00:00:00Z"}, "since", id="in the future"),
        pytest.param({"until": "2000-01-01T00:00:00Z"}, "since", id="the wrong way round"),
        pytest.param({"since": "0001-01-01T00:00:00Z"}, "since", id="before all"),
        pytest.param({"kind": "missing"}, "endpoint", id="missing of none"),
        pytest.param({"endpoint": "x"}, "endpoint", id="no key"),
        pytest.param({"endpoint": 10**40}, "endpoint", id="a number too large"),
        pytest.param({"anew": "perhaps"}, "anew", id="no boolean"),
    ],
)
def test_what_is_wrong_is_said_of_its_field(
    client: APIClient, ada: User, data: dict[str, Any], field: str
) -> None:
    answer = client.post(URL, {"kind": "failed", "since": lately(), **data}, format="json")

    assert answer.status_code == 400, answer.content
    assert list(answer.json()) == [field]
    assert not Recovery.objects.exists()


def test_five_that_are_not_over_are_enough_and_six_a_minute_too_many(
    client: APIClient, ada: User
) -> None:
    data = {"kind": "failed", "since": lately()}
    for _ in range(5):
        assert client.post(URL, data, format="json").status_code == 202
    limited = client.post(URL, data, format="json")
    assert limited.status_code == 429
    assert int(limited["Retry-After"]) > 0


@override_settings(DRF_WEBHOOKS={"RESENDS_PER_MINUTE": None})
def test_a_sixth_that_is_not_over_is_a_conflict(client: APIClient, ada: User) -> None:
    data = {"kind": "failed", "since": lately()}

    codes = [client.post(URL, data, format="json").status_code for _ in range(6)]

    assert codes == [202] * 5 + [409]


def test_lists_are_filtered(client: APIClient, ada: User) -> None:
    first = client.post(URL, {"kind": "failed", "since": lately()}, format="json").json()
    second = client.post(URL, {"kind": "failed", "since": lately()}, format="json").json()
    client.post(f"{URL}{first['id']}/cancel/")

    found = client.get(URL, {"state": "waiting"}).json()["results"]

    assert [each["id"] for each in found] == [second["id"]]
