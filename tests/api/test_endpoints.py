"""Endpoints by the API: what can be said of them, what is shown, and what is refused."""

import json
import re
import threading
from datetime import timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection, connections
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from drf_webhooks.models import (
    Attempt,
    Delivery,
    Endpoint,
    EndpointHealth,
    Event,
    Notice,
    Verification,
)
from drf_webhooks.testing import WebhookReceiver, deliver_now
from tests.app.models import User
from tests.world import make_part

pytestmark = pytest.mark.django_db(transaction=True)

URL = "/webhooks/endpoints/"
GOOD: dict[str, Any] = {"url": "https://a.example/hook", "event_types": ["core.deposit.*"]}


def make(client: APIClient, **fields: Any) -> dict[str, Any]:
    answer = client.post(URL, {**GOOD, **fields}, format="json")
    assert answer.status_code == 201, answer.content
    made: dict[str, Any] = answer.json()
    return made


def allow_reveal(user: User) -> None:
    permission, _ = Permission.objects.get_or_create(
        codename="reveal_secret",
        content_type=ContentType.objects.get_for_model(Endpoint),
        defaults={"name": "Can see the secret of an endpoint"},
    )
    user.user_permissions.add(permission)


def test_an_endpoint_is_made_read_changed_and_deleted(client: APIClient, ada: User) -> None:
    answer = client.post(URL, {**GOOD, "description": "Books"}, format="json")
    made = answer.json()
    url = f"{URL}{made['id']}/"

    assert answer.status_code == 201
    assert answer["Location"] == f"http://testserver{url}"
    stored = Endpoint.objects.get()
    assert (stored.owner, stored.state, stored.description) == (ada, "enabled", "Books")
    shown = client.get(url).json()
    assert shown == {key: value for key, value in made.items() if key != "secret"}
    assert client.get(URL).json()["results"] == [shown]
    changed = client.patch(url, {"description": "More"}, format="json").json()
    assert (changed["description"], changed["url"]) == ("More", GOOD["url"])
    whole = client.put(url, {**shown, "method": "PUT"}, format="json")
    assert whole.status_code == 200, whole.content
    assert whole.json()["method"] == "PUT"
    assert client.delete(url).status_code == 204
    assert not Endpoint.objects.exists()
    assert client.get(url).status_code == 404


def test_a_secret_is_shown_by_who_makes_it_and_nowhere_else(client: APIClient, ada: User) -> None:
    answer = client.post(URL, GOOD, format="json")
    made = answer.json()
    url = f"{URL}{made['id']}/"

    assert made["secret"] == Endpoint.objects.get().secret
    assert "no-store" in answer["Cache-Control"]
    rotated = client.post(f"{url}rotate/", {}, format="json")
    new = rotated.json()["secret"]
    assert new == Endpoint.objects.get().secret != made["secret"]
    assert "no-store" in rotated["Cache-Control"]
    test = client.post(f"{url}test/", {}, format="json").json()
    texts = [
        client.get(path).content.decode()
        for path in (URL, url, f"{url}messages/", f"/webhooks/deliveries/{test['id']}/")
    ]
    texts.append(client.patch(url, {"description": "x"}, format="json").content.decode())
    texts.append(client.get(url, HTTP_ACCEPT="text/html").content.decode())
    for secret in (made["secret"], new):
        assert not any(secret in text for text in texts)


def test_the_secret_is_revealed_to_who_may_see_it(client: APIClient, ada: User) -> None:
    url = f"{URL}{make(client)['id']}/reveal/"
    assert client.post(url).status_code == 403
    assert client.get(url).status_code == 405
    allow_reveal(ada)
    client.force_authenticate(User.objects.get(pk=ada.pk))

    answer = client.post(url)

    assert answer.json() == {"secret": Endpoint.objects.get().secret, "public_key": None}
    assert "no-store" in answer["Cache-Control"]


def test_of_an_ed25519_key_only_the_public_half_is_shown(client: APIClient, ada: User) -> None:
    allow_reveal(ada)
    made = make(client, signature="v1a")
    url = f"{URL}{made['id']}/"
    endpoint = Endpoint.objects.get()

    assert (made["secret"], made["public_key"]) == (None, endpoint.public_key)
    assert client.post(f"{url}reveal/").json()["secret"] is None
    back = client.post(f"{url}rotate/", {"signature": "v1"}, format="json").json()
    assert back["secret"].startswith("whsec_")
    assert back["public_key"] is None
    assert len(back["old_secrets_expire_at"]) == 1


def test_a_secret_may_be_brought_along_but_not_changed_in_passing(client: APIClient) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105  # the published vector
    made = make(client, secret=secret)
    url = f"{URL}{made['id']}/"

    assert made["secret"] == secret == Endpoint.objects.get().secret
    assert make(client, secret=None)["secret"].startswith("whsec_")
    answers = [
        client.patch(url, {"secret": "whsec_" + "A" * 44}, format="json"),
        client.patch(url, {"signature": "v1a"}, format="json"),
    ]
    assert [each.status_code for each in answers] == [400, 400]
    assert answers[0].json() == {"secret": ["Rotate it instead."]}
    assert answers[1].json() == {"signature": ["Rotate the secret instead."]}
    assert client.patch(url, {"signature": "v1"}, format="json").status_code == 200


def test_values_of_custom_headers_are_never_shown(client: APIClient) -> None:
    header = {"name": "X_Api-Key", "value": "s3cret value"}
    made = make(client, headers=[header])
    url = f"{URL}{made['id']}/"

    masked = [{"name": "X_Api-Key", "value": "********"}]
    assert made["headers"] == masked == client.get(url).json()["headers"]
    # What is masked stays what it was.
    more = [*masked, {"name": "X-More", "value": "1"}]
    assert client.patch(url, {"headers": more}, format="json").json()["headers"][1:] == [
        {"name": "X-More", "value": "********"}
    ]
    assert Endpoint.objects.get().headers == {"X_Api-Key": "s3cret value", "X-More": "1"}
    client.patch(url, {"headers": []}, format="json")
    assert Endpoint.objects.get().headers == {}


@pytest.mark.parametrize(
    ("data", "field", "says"),
    [
        pytest.param({"url": "ftp://a.example/"}, "url", "does not start with http", id="scheme"),
        pytest.param({"url": "https://10.0.0.1/"}, "url", "private", id="private"),
        pytest.param({"url": "https://a.example:25/"}, "url", "port 25 is refused", id="port"),
        pytest.param({"url": "https://a\x00.example/"}, "url", "Null characters", id="zero"),
        pytest.param({"url": "https://u:p@a.example/"}, "url", "custom header", id="password"),
        pytest.param({"url": "https://a.example/" + "a" * 2048}, "url", "2048", id="long"),
        pytest.param({"url": None}, "url", "null", id="no url"),
        pytest.param({"url": {}}, "url", "Not a valid string", id="url of another type"),
        pytest.param({"event_types": []}, "event_types", "at least 1", id="no types"),
        pytest.param({"event_types": ["a b"]}, "event_types", "is no event type", id="no type"),
        pytest.param({"event_types": ["core.depot.*"]}, "event_types", "Known:", id="unknown"),
        pytest.param({"event_types": ["*"] * 101}, "event_types", "no more", id="many types"),
        pytest.param({"event_types": "core.*"}, "event_types", "list", id="types as text"),
        pytest.param({"event_types": ["\ud800"]}, "event_types", "urrogate", id="surrogate"),
        pytest.param({"format": "yaml"}, "format", "There is no format", id="no format"),
        pytest.param({"format": "cloudevents"}, "format", "needs a source", id="no source"),
        pytest.param({"method": "GET"}, "method", "not a valid choice", id="method"),
        pytest.param({"ordering": "all"}, "ordering", "not a valid choice", id="ordering"),
        pytest.param({"secret": "whsec_abc"}, "secret", "24 to 64", id="short secret"),
        pytest.param({"secret": 5}, "secret", "24 to 64", id="a number as secret"),
        pytest.param({"signature": "v2"}, "signature", "not a valid choice", id="signature"),
        pytest.param({"headers": {"a": "b"}}, "headers", "list", id="headers as a dict"),
        pytest.param(
            {"headers": [{"name": "Host", "value": "x"}]},
            "headers",
            "set by the library",
            id="ours",
        ),
        pytest.param(
            {"headers": [{"name": "X-A", "value": "a\r\nb"}]},
            "headers",
            "not allow",
            id="two lines",
        ),
        pytest.param(
            {"headers": [{"name": "X-A", "value": "a"}] * 2}, "headers", "twice", id="twice"
        ),
        pytest.param(
            {"headers": [{"name": "X-A", "value": "********"}]},
            "headers",
            "no value yet",
            id="mask",
        ),
        pytest.param(
            {"headers": [{"name": f"X-{n}", "value": "a"} for n in range(21)]},
            "headers",
            "21 headers",
            id="many headers",
        ),
        pytest.param({"ignores_own_changes": "maybe"}, "ignores_own_changes", "boolean", id="bool"),
        pytest.param({"description": "a" * 201}, "description", "200", id="long description"),
    ],
)
def test_what_is_wrong_is_said_of_its_field_and_nothing_is_stored(
    client: APIClient, data: dict[str, Any], field: str, says: str
) -> None:
    # Not by the renderer of the client: half a character is JSON too.
    body = json.dumps({**GOOD, **data})
    made = client.post(URL, body, content_type="application/json")

    assert made.status_code == 400, made.content
    assert list(made.json()) == [field]
    assert says in str(made.json()[field]), made.json()
    assert not Endpoint.objects.exists()


def test_a_change_is_judged_as_well(client: APIClient) -> None:
    url = f"{URL}{make(client)['id']}/"

    wrong: list[dict[str, Any]] = [
        {"url": "https://10.0.0.1/"},
        {"headers": [{"name": "a:", "value": "b"}]},
        {"headers": [{"name": "X-A"}]},
        {"headers": [{"value": "b"}]},
        {"headers": [{}]},
    ]
    for data in wrong:
        answer = client.patch(url, data, format="json")
        assert answer.status_code == 400
        assert list(answer.json()) == list(data)


@override_settings(DRF_WEBHOOKS={"ENDPOINTS_PER_OWNER": 1})
def test_too_many_endpoints_are_a_conflict(client: APIClient) -> None:
    make(client)

    answer = client.post(URL, GOOD, format="json")

    assert answer.status_code == 409
    assert answer.json()["detail"].startswith("The owner has 1 endpoints already")


def test_patterns_that_are_there_twice_count_once(client: APIClient) -> None:
    types = ["*", "core.*", "*", "webhooks.endpoint.failing"]

    assert make(client, event_types=types)["event_types"] == [
        "*",
        "core.*",
        "webhooks.endpoint.failing",
    ]


def test_an_endpoint_is_disabled_and_enabled_with_or_without_what_waits(client: APIClient) -> None:
    pk = make(client)["id"]
    url = f"{URL}{pk}/"
    client.post(f"{url}test/")

    off = client.post(f"{url}disable/", {"reason": "Moving."}, format="json").json()
    again = client.post(f"{url}disable/").json()
    on = client.post(f"{url}enable/", {"waiting": "skip"}, format="json").json()

    assert off == {"state": "disabled", "disabled_reason": "Moving.", "is_changed": True}
    assert again == {"state": "disabled", "disabled_reason": "Moving.", "is_changed": False}
    assert on == {"state": "enabled", "is_changed": True}
    assert client.post(f"{url}enable/").json()["is_changed"] is False
    assert list(Delivery.objects.order_by("pk").values_list("state", flat=True)) == [
        "dead",
        "waiting",
    ]
    answer = client.post(f"{url}enable/", {"waiting": "drop"}, format="json")
    assert list(answer.json()) == ["waiting"]


def test_of_requests_at_the_same_time_one_enables_and_one_rotates(
    client: APIClient, ada: User
) -> None:
    url = f"{URL}{make(client)['id']}/"
    client.post(f"{url}disable/")
    start = threading.Barrier(4)
    answers: dict[str, list[Any]] = {"enable": [], "rotate": []}

    def ask(action: str) -> None:
        mine = APIClient(raise_request_exception=False)
        mine.force_authenticate(ada)
        try:
            start.wait(10)
            answers[action].append(mine.post(f"{url}{action}/"))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=ask, args=(each,)) for each in [*answers] * 2]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)

    assert sorted(each.json()["is_changed"] for each in answers["enable"]) == [False, True]
    codes = [each.status_code for each in answers["rotate"]]
    assert set(codes) <= {200, 409}
    # Each that was told a secret was told one that signs, or signed until the next.
    endpoint = Endpoint.objects.get()
    valid = {endpoint.secret, *(each.secret for each in endpoint.old_secrets)}
    told = {each.json()["secret"] for each in answers["rotate"] if each.status_code == 200}
    assert told
    assert told <= valid


def test_a_rotation_too_many_says_when_it_is_possible(client: APIClient) -> None:
    url = f"{URL}{make(client)['id']}/"
    for _ in range(5):
        assert client.post(f"{url}rotate/").status_code == 200

    answer = client.post(f"{url}rotate/")

    assert answer.status_code == 409
    assert "may have 5" in answer.json()["detail"]
    assert 86000 < int(answer["Retry-After"]) <= 86400
    assert client.post(f"{url}revoke/").json() == {"revoked": 5}
    at_once = client.post(f"{url}rotate/", {"overlap_seconds": 0}, format="json").json()
    assert at_once["old_secrets_expire_at"] == []


@pytest.mark.parametrize("seconds", [-1, 604801, "x", 10**30, 1.5, None, True])
def test_an_overlap_that_is_none_is_refused(client: APIClient, seconds: Any) -> None:
    url = f"{URL}{make(client)['id']}/rotate/"

    answer = client.post(url, {"overlap_seconds": seconds}, format="json")

    assert answer.status_code == 400
    assert list(answer.json()) == ["overlap_seconds"]


def test_tests_are_sent_and_limited(client: APIClient) -> None:
    with WebhookReceiver() as receiver:
        url = f"{URL}{make(client, url=receiver.url)['id']}/test/"
        sent = client.post(url)
        deliver_now()

        assert sent.status_code == 202
        assert sent["Location"] == f"http://testserver/webhooks/deliveries/{sent.json()['id']}/"
        assert receiver.requests[0].json["type"] == "webhooks.endpoint.test"
        assert client.get(sent["Location"]).json()["state"] == "delivered"
    for _ in range(4):
        client.post(url)
    limited = client.post(url)
    assert limited.status_code == 429
    assert 0 < int(limited["Retry-After"]) <= 60


@override_settings(DRF_WEBHOOKS={"ENDPOINT_VERIFIER": "drf_webhooks.verification.Echo"})
def test_an_endpoint_that_is_not_verified_says_so(client: APIClient) -> None:
    made = make(client)
    url = f"{URL}{made['id']}/"

    assert made["state"] == "disabled"
    assert made["secret"]
    assert client.get(url).json()["verification"]["state"] == "pending"
    assert client.post(f"{url}enable/").status_code == 409
    assert client.post(f"{url}test/").status_code == 409
    assert client.post(f"{url}verify/").status_code == 202
    Verification.objects.update(state="verified")
    assert client.post(f"{url}verify/").status_code == 409


def test_health_is_shown(client: APIClient) -> None:
    pk = make(client)["id"]
    url = f"{URL}{pk}/"
    assert client.get(url).json()["health"] is None
    at = timezone.now()
    EndpointHealth.objects.create(endpoint_id=pk, is_clean=False, failures=3, failing_since=at)

    shown = client.get(url).json()["health"]

    assert (shown["is_clean"], shown["failures"], shown["paused_until"]) == (False, 3, None)


def test_another_url_ends_a_pause(client: APIClient) -> None:
    pk = make(client)["id"]
    later = timezone.now() + timedelta(hours=1)
    EndpointHealth.objects.create(endpoint_id=pk, is_clean=False, paused_until=later)

    client.patch(f"{URL}{pk}/", {"description": "x"}, format="json")
    assert EndpointHealth.objects.get().paused_until == later
    client.patch(f"{URL}{pk}/", {"url": "https://b.example/"}, format="json")

    assert EndpointHealth.objects.get().paused_until is None


def test_an_endpoint_goes_with_all_that_it_was_sent(ada: User, client: APIClient) -> None:
    part, other = make_part("bea"), make_part("cleo")
    client.force_authenticate(part.owner)

    assert client.delete(f"{URL}{part.endpoint.pk}/").status_code == 204

    assert list(Delivery.objects.all()) == [other.delivery]
    assert list(Attempt.objects.all()) == [other.attempt]
    assert list(Notice.objects.all()) == [other.notice]
    assert Event.objects.count() == 2


def test_without_its_key_an_endpoint_is_shown_and_can_be_deleted(client: APIClient) -> None:
    with override_settings(DRF_WEBHOOKS={"ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}):
        made = make(client, headers=[{"name": "X-A", "value": "b"}])
    url = f"{URL}{made['id']}/"

    shown = client.get(url).json()
    assert (shown["signature"], shown["public_key"], shown["headers"]) == (None, None, [])
    answer = client.post(f"{url}rotate/")
    assert answer.status_code == 503
    assert answer.json() == {"detail": "The endpoint's secrets cannot be read at the moment."}
    assert client.patch(url, {"description": "x"}, format="json").status_code == 200
    assert client.delete(url).status_code == 204


def test_lists_are_filtered_by_state(client: APIClient) -> None:
    one, other = make(client)["id"], make(client)["id"]
    client.post(f"{URL}{one}/disable/")

    found = client.get(URL, {"state": "enabled"}).json()["results"]

    assert [each["id"] for each in found] == [other]
    assert list(client.get(URL, {"state": "gone"}).json()) == ["state"]


@pytest.mark.parametrize("count", [1, 8])
def test_a_list_costs_one_query(client: APIClient, count: int) -> None:
    for _ in range(count):
        EndpointHealth.objects.create(endpoint_id=make(client)["id"])

    with CaptureQueriesContext(connection) as captured:
        found = client.get(URL).json()["results"]

    assert len(found) == count
    assert len(captured) == 1


def test_a_form_offers_what_would_not_be_refused(client: APIClient, ada: User) -> None:
    page = client.get("/webhooks/endpoints/", headers={"accept": "text/html"}).content.decode()

    offered = re.findall(r'<option value="([a-z_.*]+)" +>', page)
    assert {"*", "core.*", "core.deposit.*", "core.deposit.created"} <= set(offered)
    chosen = [each for each in offered if "*" in each or each.startswith("core.")]
    given = {"url": "https://a.example/", "event_types": chosen}
    assert client.post("/webhooks/endpoints/", given, format="multipart").status_code == 201
    assert Endpoint.objects.get(owner=ada).event_types == chosen
