"""Versions and thin messages in the API: what is chosen, and what is shown of what is sent."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from jsonschema import Draft202012Validator
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient
from rest_framework.versioning import QueryParameterVersioning

from drf_webhooks.api.event_types import EventTypeViewSet
from drf_webhooks.api.routers import register
from drf_webhooks.models import Attempt, Delivery, Endpoint, Event, EventBody
from drf_webhooks.resources import ModelSerializerWebhook
from drf_webhooks.session import disable_webhooks
from drf_webhooks.testing import WebhookReceiver, deliver_now, isolated_registry
from tests.app.models import Deposit, User
from tests.contrib.openapi import PlainLandlordSerializer
from tests.factories import make_deposit
from tests.test_versions import DAY, NEW, OLD, NewForm, OldForm

pytestmark = pytest.mark.django_db(transaction=True)

URL = "/webhooks/endpoints/"
GOOD = {"url": "https://a.example/", "event_types": ["core.deposit.*"]}
WAYS = [(OLD, False), (NEW, False), (OLD, True), (NEW, True)]


@pytest.fixture(autouse=True)
def _versioned() -> Iterator[None]:
    with isolated_registry():
        forms = {OLD: OldForm, NEW: NewForm}
        given = {"versions": forms, "depends_on": ["unit"], "events": {"paid": None}}
        type("DepositWebhook", (ModelSerializerWebhook,), given)
        yield


@pytest.fixture
def deposit() -> Deposit:
    with disable_webhooks():
        return make_deposit()


def make(client: APIClient, **fields: Any) -> Any:
    return client.post(URL, {**GOOD, **fields}, format="json")


def subscribe(ada: User, version: str, *, is_thin: bool, **fields: Any) -> Endpoint:
    given = {**GOOD, "owner": ada, "version": version, "is_thin": is_thin, **fields}
    return Endpoint.objects.create(**given)


def test_an_endpoint_is_pinned_to_the_version_for_new_ones(client: APIClient) -> None:
    assert make(client).json()["version"] == NEW
    assert make(client, version="").json()["version"] == NEW
    with override_settings(DRF_WEBHOOKS={"DEFAULT_VERSION": OLD}):
        assert make(client).json()["version"] == OLD


def test_a_version_and_thin_messages_are_chosen_and_changed(client: APIClient) -> None:
    made = make(client, version=OLD, is_thin=True).json()
    assert (made["version"], made["is_thin"]) == (OLD, True)

    answer = client.patch(f"{URL}{made['id']}/", {"version": NEW, "is_thin": False}, format="json")

    assert answer.status_code == 200
    assert (answer.json()["version"], answer.json()["is_thin"]) == (NEW, False)
    stored = Endpoint.objects.get()
    assert (stored.version, stored.is_thin) == (NEW, False)


@pytest.mark.parametrize("version", ["2020-01", "a" * 33, "*", " "])
def test_a_version_that_nothing_has_is_refused(client: APIClient, version: str) -> None:
    stored = make(client).json()
    refused = [
        make(client, version=version),
        client.patch(f"{URL}{stored['id']}/", {"version": version}, format="json"),
    ]

    for answer in refused:
        if version.strip():
            assert answer.status_code == 400
            assert list(answer.json()) == ["version"]
    if version == "2020-01":
        assert refused[0].json()["version"] == [
            f"There is no version '2020-01'. Known: {OLD}, {NEW}."
        ]


def test_a_version_that_is_no_more_may_be_written_back(client: APIClient) -> None:
    made = make(client, version=OLD).json()
    Endpoint.objects.update(version="2020-01")
    url = f"{URL}{made['id']}/"
    shown = client.get(url).json()

    answer = client.put(url, {**GOOD, "version": shown["version"]}, format="json")

    assert answer.status_code == 200, answer.content
    assert answer.json()["version"] == "2020-01"
    assert client.patch(url, {"version": "2021-01"}, format="json").status_code == 400


def test_options_name_the_versions(client: APIClient) -> None:
    fields = client.options(URL).json()["actions"]["POST"]

    assert [each["value"] for each in fields["version"]["choices"]] == [OLD, NEW]
    assert fields["version"]["required"] is False
    assert fields["is_thin"]["type"] == "boolean"


def test_event_types_name_their_versions_and_have_a_schema_of_them(client: APIClient) -> None:
    listed = {each["type"]: each for each in client.get("/webhooks/event-types/").json()}

    assert listed["core.deposit.paid"]["versions"] == [OLD, NEW]
    assert listed["webhooks.endpoint.test"]["versions"] == []
    shown = client.get("/webhooks/event-types/core.deposit.paid/").json()
    assert shown["schema"]["properties"]["version"]["enum"] == [NEW, OLD]
    assert shown["example"]["version"] == NEW


@pytest.mark.parametrize("version", [OLD, NEW])
def test_an_event_type_is_read_as_an_endpoint_gets_it(
    client: APIClient, ada: User, deposit: Deposit, version: str
) -> None:
    subscribe(ada, version, is_thin=False)
    deposit.save()
    sent = json.loads(Delivery.objects.get().body or b"")

    url = "/webhooks/event-types/core.deposit.updated/"
    told = client.get(url, {"version": version}).json()

    assert told["version"] == version
    assert told["versions"] == [OLD, NEW]
    assert told["example"]["version"] == version
    assert told["example"]["data"].keys() == sent["data"].keys()
    validator = Draft202012Validator(told["schema"])
    assert validator.is_valid(sent)
    assert not validator.is_valid({**sent, "version": ({OLD, NEW} - {version}).pop()})
    assert client.get(url).json()["version"] is None


def test_each_event_type_has_its_own_version_of_the_one_that_is_asked_for(
    client: APIClient,
) -> None:
    landlord = {"versions": {"2025-07": PlainLandlordSerializer}}
    type("LandlordWebhook", (ModelSerializerWebhook,), landlord)
    assert OLD < "2025-07" < NEW

    def told(version: str) -> dict[str, str | None]:
        listed = client.get("/webhooks/event-types/", {"version": version}).json()
        return {each["type"]: each["version"] for each in listed}

    for version, of_deposits in ((OLD, OLD), ("2025-07", OLD), (NEW, NEW), ("", OLD)):
        found = told(version)
        assert found["core.deposit.paid"] == of_deposits
        # It had no version before.
        assert found["core.landlord.created"] == "2025-07"
        assert found["webhooks.endpoint.test"] is None


@pytest.mark.parametrize("path", ["", "core.deposit.created/"])
def test_a_version_of_payloads_that_is_none_is_refused(client: APIClient, path: str) -> None:
    url = f"/webhooks/event-types/{path}"

    answer = client.get(url, {"version": "2020-01"})

    assert answer.status_code == 400
    assert answer.json() == {"version": [f"There is no version '2020-01'. Known: {OLD}, {NEW}."]}
    for wrong in ("\x00", "a" * 33, "*"):
        assert client.get(url, {"version": wrong}).status_code == 400


def test_a_version_of_the_api_is_not_one_of_payloads(client: APIClient) -> None:
    by_query = type("Types", (EventTypeViewSet,), {"versioning_class": QueryParameterVersioning})
    router = SimpleRouter()
    register(router, event_type=by_query)
    url = "/event-types/core.deposit.created/?version=7"

    with override_settings(ROOT_URLCONF=type("Urls", (), {"urlpatterns": router.urls})):
        assert client.get(url).json()["version"] is None
        assert client.get(f"{url}&payload_version={OLD}").json()["version"] == OLD
        refused = client.get(f"{url}&payload_version=7")

    assert (refused.status_code, list(refused.json())) == (400, ["payload_version"])


def test_feeds_and_deliveries_have_the_bytes_that_are_sent(
    client: APIClient, ada: User, deposit: Deposit
) -> None:
    with WebhookReceiver() as receiver:
        for number, (version, is_thin) in enumerate(WAYS):
            subscribe(ada, version, is_thin=is_thin, url=f"{receiver.url}{number}")
        deposit.save()
        assert deliver_now() == len(WAYS)
        sent = {each.path: each.body.decode() for each in receiver.requests}

    assert len(set(sent.values())) == len(WAYS)
    for delivery in Delivery.objects.select_related("endpoint"):
        body = sent[f"/{delivery.endpoint.url.rpartition('/')[2]}"]
        feed = client.get(f"{URL}{delivery.endpoint_id}/messages/").json()["results"]
        assert [each["body"] for each in feed] == [body]
        shown = client.get(f"/webhooks/deliveries/{delivery.pk}/").json()
        assert (shown["body"], shown["retired_at"]) == (body, None)
        attempt = Attempt.objects.get(delivery=delivery)
        assert client.get(f"/webhooks/attempts/{attempt.pk}/").json()["request_body"] == body


def test_a_feed_and_lists_ask_no_more_for_many_variants(
    client: APIClient, ada: User, deposit: Deposit
) -> None:
    subscribe(ada, NEW, is_thin=False)
    endpoint = subscribe(ada, OLD, is_thin=True)
    feed = f"{URL}{endpoint.pk}/messages/"

    def cost(url: str) -> tuple[int, str]:
        # Places in the feed are given by the first who reads.
        client.get(url)
        with CaptureQueriesContext(connection) as queries:
            assert client.get(url).status_code == 200
        return len(queries), " ".join(each["sql"] for each in queries)

    deposit.save()
    urls = (feed, "/webhooks/deliveries/")
    one = [cost(each)[0] for each in urls]
    for _ in range(20):
        deposit.save()

    assert [cost(each)[0] for each in urls] == one
    assert len(client.get(feed).json()["results"]) == 21
    assert "body" not in cost("/webhooks/deliveries/")[1]


def test_a_message_that_is_retired_is_said_to_be(
    client: APIClient, ada: User, deposit: Deposit
) -> None:
    subscribe(ada, NEW, is_thin=False)
    endpoint = subscribe(ada, OLD, is_thin=True)
    deposit.save()
    Delivery.objects.update(state="dead", due_at=None)
    Event.objects.update(created_at=timezone.now() - 31 * DAY, recheck_at=None)
    call_command("webhooks_prune")
    assert not EventBody.objects.exists()

    (message,) = client.get(f"{URL}{endpoint.pk}/messages/").json()["results"]

    assert message["body"] is None
    assert message["retired_at"] is not None
    shown = client.get(f"/webhooks/deliveries/{message['delivery']}/").json()
    assert (shown["body"], shown["retired_at"]) == (None, message["retired_at"])
