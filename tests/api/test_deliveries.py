"""Deliveries and attempts by the API: found, shown safely, sent again, cancelled."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from drf_webhooks.models import Attempt, Delivery, Endpoint, Event
from drf_webhooks.session import disable_webhooks
from drf_webhooks.testing import WebhookReceiver, deliver_now
from tests.app.models import Deposit, Document, Tenant, User
from tests.factories import make_deposit, make_user
from tests.world import make_part

pytestmark = pytest.mark.django_db(transaction=True)

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
OPEN = {"ALLOWED_NETWORKS": ["127.0.0.0/8", "::1/128"]}


@pytest.fixture
def tenant(db: None) -> Tenant:
    with disable_webhooks():
        return make_deposit().tenant


@pytest.fixture
def endpoint(ada: User) -> Endpoint:
    return Endpoint.objects.create(owner=ada, url="https://a.example/", event_types=["*"])


def make_event(number: int, **fields: Any) -> Event:
    return Event.objects.create(
        **{
            "type": "core.deposit.created",
            "resource": "core.deposit",
            "object_key": str(number),
            "sequence": 1,
            "body": b'{"data": 1}',
            "created_at": NOON,
            **fields,
        }
    )


def make_delivery(endpoint: Endpoint, event: Event | None = None, **fields: Any) -> Delivery:
    given = event or make_event(Event.objects.count())
    return Delivery.objects.create(
        **{"event": given, "endpoint": endpoint, "created_at": NOON, "due_at": NOON, **fields}
    )


def found(client: APIClient, **query: Any) -> list[int]:
    answer = client.get("/webhooks/deliveries/", query)
    assert answer.status_code == 200, answer.content
    return sorted(each["id"] for each in answer.json()["results"])


def test_deliveries_are_found_by_what_is_known_of_them(client: APIClient, ada: User) -> None:
    one, two = (
        Endpoint.objects.create(owner=ada, url=f"https://{name}.example/", event_types=["*"])
        for name in "ab"
    )
    key = "0b0f5ee0-7d4e-4b3e-8a7f-000000000001"
    made = [
        make_delivery(one),
        make_delivery(two, state="dead", due_at=None, settled_at=NOON + timedelta(hours=2)),
        make_delivery(
            one, make_event(7, type="core.deposit.updated"), created_at=NOON + timedelta(hours=1)
        ),
        make_delivery(
            one,
            make_event(
                0, object_key=f'"{key}"', type="core.document.created", resource="core.document"
            ),
        ),
    ]
    first, second, third, fourth = (each.pk for each in made)
    hour = NOON + timedelta(hours=1)

    assert found(client) == [first, second, third, fourth]
    assert found(client, endpoint=two.pk) == [second]
    assert found(client, state="dead") == [second]
    assert found(client, event_type="core.deposit.updated") == [third]
    assert found(client, event_type="core.deposit.*") == [first, second, third]
    assert found(client, event_type="*") == [first, second, third, fourth]
    assert found(client, resource="core.document") == [fourth]
    # As JSON, or as one has it.
    assert found(client, object_key="7") == [third]
    assert found(client, object_key=key) == found(client, object_key=f'"{key}"') == [fourth]
    assert found(client, created_after=hour.isoformat()) == [third]
    assert found(client, created_before=hour.isoformat()) == [first, second, fourth]
    assert found(client, settled_after=hour.isoformat()) == [second]
    assert found(client, settled_before=hour.isoformat()) == []
    assert found(client, endpoint=one.pk, state="dead") == []


def fill(owner: User, endpoints: int, count: int) -> None:
    """Store deliveries to many endpoints: of a thousand one is dead, and one waits."""
    urls = [f"https://{number}.example/" for number in range(endpoints)]
    made = Endpoint.objects.bulk_create(
        [Endpoint(owner=owner, url=url, event_types=["*"]) for url in urls]
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO drf_webhooks_event"
            " (id, type, resource, object_key, body, error, created_at)"
            " SELECT gen_random_uuid(), 'core.deposit.updated', 'core.deposit', n::text, '{}', '',"
            " %s FROM generate_series(1, %s) n",
            [NOON, count],
        )
        cursor.execute(
            "INSERT INTO drf_webhooks_delivery"
            " (event_id, endpoint_id, fence, attempt_count, reason, created_at, state, due_at,"
            " settled_at) SELECT id, (%s::uuid[])[1 + n %% %s], 1, 1, '', created_at,"
            " CASE n %% 1000 WHEN 0 THEN 'waiting' WHEN 10 THEN 'dead' ELSE 'delivered' END,"
            " CASE n %% 1000 WHEN 0 THEN created_at END, CASE n %% 1000 WHEN 0 THEN NULL ELSE"
            " created_at END FROM (SELECT id, created_at, object_key::int n FROM drf_webhooks_event"
            " WHERE type = 'core.deposit.updated') e",
            [[each.pk for each in made], endpoints],
        )
        cursor.execute("ANALYZE drf_webhooks_event, drf_webhooks_delivery, drf_webhooks_endpoint")


@pytest.mark.skipif(connection.vendor != "postgresql", reason="its plans say which index")
def test_lists_of_a_large_table_are_read_by_an_index(client: APIClient, endpoint: Endpoint) -> None:
    # The only one of an endpoint that has been silent since.
    make_delivery(endpoint)
    fill(make_user(), 80, 40_000)
    by_index = {
        "state=waiting": "drf_webhooks_delivery_(lane|turn)",
        "state=dead": "drf_webhooks_delivery_dead",
        f"endpoint={endpoint.pk}": "drf_webhooks_delivery_page",
        "resource=core.deposit&object_key=7": "drf_webhooks_event_object",
    }

    for query, index in by_index.items():
        with CaptureQueriesContext(connection) as queries:
            assert client.get(f"/webhooks/deliveries/?{query}").status_code == 200
        with connection.cursor() as cursor:
            cursor.execute("EXPLAIN " + queries.captured_queries[-1]["sql"])
            plan = "\n".join(line for (line,) in cursor.fetchall())
        assert re.search(f" (using|on) {index}", plan), plan
        assert "Seq Scan on drf_webhooks_delivery" not in plan, plan


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("endpoint", "x"),
        ("endpoint", "\x00"),
        ("state", "lost"),
        ("event_type", "a b"),
        ("event_type", "a" * 201),
        ("object_key", "a" * 401),
        ("resource", "\x00"),
        ("created_after", "yesterday"),
        ("created_after", "0001-01-01T00:00:00+14:00"),
        ("settled_before", "9999-12-31T23:59:59-14:00"),
        ("settled_after", "2026-02-30"),
    ],
)
def test_a_filter_that_cannot_be_read_is_named(client: APIClient, name: str, value: str) -> None:
    answer = client.get("/webhooks/deliveries/", {name: value})

    assert answer.status_code == 400, answer.content
    assert list(answer.json()) == [name]


def test_a_delivery_has_its_message_and_a_list_has_none(
    client: APIClient, endpoint: Endpoint, tenant: Tenant
) -> None:
    deposit = Deposit.objects.create(tenant=tenant, amount="2.50")
    [listed] = client.get("/webhooks/deliveries/").json()["results"]

    shown = client.get(f"/webhooks/deliveries/{listed['id']}/").json()

    event = Event.objects.get()
    assert shown.pop("body").encode() == bytes(event.body)
    assert shown.pop("retired_at") is None
    assert shown == listed
    assert listed["webhook_id"] == event.message_id
    assert listed["object_key"] == str(deposit.pk)
    assert (listed["state"], listed["sequence"], listed["event_type"]) == (
        "waiting",
        1,
        "core.deposit.created",
    )


def test_a_message_that_is_not_kept_is_null(client: APIClient, endpoint: Endpoint) -> None:
    delivery = make_delivery(endpoint, make_event(1, body=None))

    assert client.get(f"/webhooks/deliveries/{delivery.pk}/").json()["body"] is None


def test_a_delivery_is_sent_again_or_anew(
    client: APIClient, endpoint: Endpoint, tenant: Tenant
) -> None:
    deposit = Deposit.objects.create(tenant=tenant, amount=1)
    delivery = Delivery.objects.get()
    Delivery.objects.all().give_up("A test.", now=timezone.now())
    url = f"/webhooks/deliveries/{delivery.pk}/resend/"

    again = client.post(url)
    assert (again.status_code, again.json()["state"]) == (202, "waiting")
    with disable_webhooks():
        Deposit.objects.update(amount=7)
    anew = client.post(url, {"anew": True}, format="json")
    assert (anew.status_code, anew.json()["state"]) == (202, "dead")
    new = Event.objects.exclude(pk=delivery.event_id).get()
    assert anew.json()["replaced_by"] == new.message_id
    assert new.data["amount"] == "7.00"
    with disable_webhooks():
        deposit.delete()
    Event.objects.update(body=None)
    gone, lost = client.post(url), client.post(url, {"anew": True}, format="json")
    assert gone.status_code == lost.status_code == 409
    assert gone.json() == {"detail": "The message is not kept any more."}
    assert lost.json() == {"detail": "Nothing can be said of the object any more."}
    assert list(client.post(url, {"anew": "x"}, format="json").json()) == ["anew"]


def test_sending_again_is_limited(client: APIClient, endpoint: Endpoint) -> None:
    url = f"/webhooks/deliveries/{make_delivery(endpoint).pk}/resend/"

    codes = [client.post(url).status_code for _ in range(6)]

    assert codes == [202] * 5 + [429]


def test_what_waits_is_cancelled_and_says_why(client: APIClient, endpoint: Endpoint) -> None:
    url = f"/webhooks/deliveries/{make_delivery(endpoint).pk}/cancel/"

    answer = client.post(url, {"because": "Not needed."}, format="json")

    shown = answer.json()
    assert answer.status_code == 200
    assert (shown["state"], shown["reason"], shown["next_attempt_at"]) == (
        "dead",
        "Not needed.",
        None,
    )
    assert shown["settled_at"]
    assert client.post(url).status_code == 409
    assert list(client.post(url, {"because": "x" * 201}, format="json").json()) == ["because"]


def make_attempt(delivery: Delivery, **fields: Any) -> Attempt:
    return Attempt.objects.create(
        **{
            "delivery": delivery,
            "number": 1,
            "started_at": NOON,
            "duration": timedelta(milliseconds=12.5),
            "url": "https://a.example/",
            "status": 500,
            "response_headers": [["X-A", "b\x1b[31m"]],
            "response_body": b"caf\xc3\xa9 \xff\x00\x1b[31m<script>\n",
            "response_end": "whole",
            "is_public": True,
            **fields,
        }
    )


def test_an_attempt_is_shown_as_safe_text(client: APIClient, endpoint: Endpoint) -> None:
    attempt = make_attempt(make_delivery(endpoint), answered_in=timedelta(milliseconds=3))

    shown = client.get(f"/webhooks/attempts/{attempt.pk}/").json()

    assert shown["response_body"] == "caf\u00e9 \ufffd\ufffd\ufffd[31m<script>\n"
    assert shown["response_headers"] == [{"name": "X-A", "value": "b\ufffd[31m"}]
    assert shown["request_body"] == '{"data": 1}'
    assert (shown["duration_ms"], shown["answered_in_ms"], shown["connected_in_ms"]) == (
        12.5,
        3.0,
        None,
    )
    assert (shown["is_answer_shown"], shown["meaning"]) == (True, "")


def test_an_answer_is_cut(client: APIClient, endpoint: Endpoint) -> None:
    attempt = make_attempt(make_delivery(endpoint), response_body="\u00e4".encode() * 30_000)

    shown = client.get(f"/webhooks/attempts/{attempt.pk}/").json()

    assert shown["response_body"] == "\u00e4" * 20_000


def test_attempts_are_listed_by_delivery_and_found(client: APIClient, endpoint: Endpoint) -> None:
    one = make_delivery(endpoint, make_event(7))
    two = make_delivery(endpoint, make_event(8), state="dead", due_at=None, settled_at=NOON)
    first = make_attempt(one, error="timeout_total", status=None)
    second = make_attempt(two, started_at=NOON + timedelta(hours=1))

    def ids(path: str, **query: Any) -> list[int]:
        return [each["id"] for each in client.get(f"/webhooks/{path}", query).json()["results"]]

    assert ids("attempts/") == [second.pk, first.pk]
    assert ids(f"deliveries/{one.pk}/attempts/") == [first.pk]
    assert ids("attempts/", status=500) == [second.pk]
    assert ids("attempts/", error="timeout_total") == [first.pk]
    assert ids("attempts/", endpoint=endpoint.pk) == [second.pk, first.pk]
    assert ids("attempts/", event_type="core.document.*") == []
    assert ids("attempts/", state="waiting") == [first.pk]
    assert ids("attempts/", state="dead") == [second.pk]
    assert ids("attempts/", resource="core.deposit", object_key="8") == [second.pk]
    assert ids("attempts/", resource="core.document") == []
    assert ids("attempts/", started_after=(NOON + timedelta(minutes=1)).isoformat()) == [second.pk]
    assert ids("attempts/", started_before=NOON.isoformat()) == []
    path = f"/webhooks/deliveries/{one.pk}/attempts/{first.pk}/"
    assert client.get(path).json()["meaning"] == "the request was sent, but no answer came in time"
    assert client.get(f"/webhooks/deliveries/{two.pk}/attempts/{first.pk}/").status_code == 404
    for odd in ("x", "9" * 30, "%00", "-1"):
        assert client.get(f"/webhooks/deliveries/{odd}/attempts/").status_code == 404


@pytest.mark.security
@pytest.mark.parametrize(("rule", "is_shown"), [("public", False), ("all", True), ("none", False)])
def test_f77_what_a_private_address_answers_is_not_shown(
    client: APIClient, ada: User, rule: str, *, is_shown: bool
) -> None:
    with WebhookReceiver() as receiver:
        receiver.respond(200, headers={"X-Inside": "key"}, body=b"from inside")
        endpoint = Endpoint.objects.create(owner=ada, url=receiver.url, event_types=["*"])
        client.post(f"/webhooks/endpoints/{endpoint.pk}/test/")
        deliver_now()
    attempt = Attempt.objects.get()
    assert attempt.is_public is False

    with override_settings(DRF_WEBHOOKS={**OPEN, "SHOW_ANSWERS": rule}):
        answer = client.get(f"/webhooks/attempts/{attempt.pk}/")
        lists = (
            client.get("/webhooks/attempts/").content
            + client.get(f"/webhooks/deliveries/{attempt.delivery_id}/attempts/").content
        )

    shown = answer.json()
    assert (shown["status"], shown["is_answer_shown"]) == (200, is_shown)
    assert (b"from inside" in answer.content) is is_shown
    assert (b"X-Inside" in answer.content) is is_shown
    assert b"from inside" not in lists


@pytest.mark.security
@pytest.mark.parametrize("is_public", [None, False])
def test_f77_what_is_not_known_to_be_public_is_not_shown(
    client: APIClient, endpoint: Endpoint, *, is_public: bool | None
) -> None:
    attempt = make_attempt(make_delivery(endpoint), is_public=is_public)

    shown = client.get(f"/webhooks/attempts/{attempt.pk}/").json()

    assert (shown["response_headers"], shown["response_body"]) == ([], None)


@pytest.mark.security
@pytest.mark.parametrize(
    ("url", "is_told"),
    [
        pytest.param("https://intranet.example/", False, id="a name"),
        pytest.param("https://10.0.0.7/", True, id="the owner's own number"),
        pytest.param("no url", True, id="no URL"),
    ],
)
def test_f77_the_address_of_a_name_inside_is_not_told(
    client: APIClient, endpoint: Endpoint, url: str, *, is_told: bool
) -> None:
    detail = "10.0.0.7 is refused: private"
    attempt = make_attempt(
        make_delivery(endpoint), url=url, status=None, error="destination_refused", detail=detail
    )

    shown = client.get(f"/webhooks/attempts/{attempt.pk}/").json()

    assert shown["detail"] == (detail if is_told else "")
    assert shown["meaning"]


def test_the_status_is_that_of_the_owner(client: APIClient, endpoint: Endpoint) -> None:
    make_part("bea")
    make_delivery(endpoint)

    shown = client.get("/webhooks/deliveries/status/").json()

    assert shown["waiting"] == {"value": 1, "is_least": False}
    assert shown["endpoints"] == {"enabled": 1, "disabled": 0}
    assert shown["dead"]["value"] == 0
    assert [each["endpoint"] for each in shown["behind"]] == [str(endpoint.pk)]


def test_pages_end_though_a_thousand_rows_share_a_moment(
    client: APIClient, endpoint: Endpoint
) -> None:
    events = [
        Event(
            type="core.deposit.created",
            resource="core.deposit",
            object_key=str(number),
            created_at=NOON,
        )
        for number in range(1203)
    ]
    Event.objects.bulk_create(events)
    Delivery.objects.bulk_create(
        Delivery(event=each, endpoint=endpoint, created_at=NOON, due_at=NOON) for each in events
    )

    seen: list[int] = []
    url = "/webhooks/deliveries/?limit=200"
    for _ in range(8):
        page = client.get(url).json()
        seen += [each["id"] for each in page["results"]]
        # What comes meanwhile is not on later pages.
        url = page["next"]
        if not url:
            break
    back = client.get(page["previous"]).json()

    assert seen == sorted(Delivery.objects.values_list("pk", flat=True), reverse=True)
    assert [each["id"] for each in back["results"]] == seen[1000:1200]


@pytest.mark.parametrize(
    "cursor",
    [
        pytest.param("x", id="no base64"),
        pytest.param("cD14", id="no number"),
        pytest.param("cD05OTk5OTk5OTk5OTk5OTk5OTk5OTk5", id="beyond every key"),
        pytest.param("cD0tNQ==", id="below zero"),
        pytest.param("bz05OTk5OTk5OTk5OTk5OTk5OTk5", id="a far offset"),
        pytest.param("cD0lMDA=", id="a zero byte"),
        pytest.param("/w==", id="no text"),
        pytest.param("\u00e4", id="no ASCII"),
    ],
)
@pytest.mark.parametrize("path", ["deliveries", "endpoints", "attempts", "recoveries"])
def test_a_cursor_that_is_none_is_no_error_of_ours(
    client: APIClient, endpoint: Endpoint, path: str, cursor: str
) -> None:
    make_delivery(endpoint)

    answer = client.get(f"/webhooks/{path}/", {"cursor": cursor})

    assert answer.status_code in {200, 404}, answer.content


@pytest.mark.parametrize("limit", ["0", "-1", "x", "9" * 5000, "\x00"])
def test_a_limit_that_is_none_is_the_default(client: APIClient, db: None, limit: str) -> None:
    assert client.get("/webhooks/deliveries/", {"limit": limit}).status_code == 200


@pytest.mark.parametrize("count", [1, 12])
@pytest.mark.parametrize("path", ["deliveries", "attempts", "recoveries"])
def test_a_list_costs_one_query(
    client: APIClient, endpoint: Endpoint, count: int, path: str
) -> None:
    for _ in range(count):
        make_attempt(make_delivery(endpoint))

    with CaptureQueriesContext(connection) as captured:
        answer = client.get(f"/webhooks/{path}/")

    assert len(captured) == 1
    assert len(answer.json()["results"]) == (0 if path == "recoveries" else count)
    # What may be large is not read.
    sql = captured.captured_queries[0]["sql"]
    assert '"body"' not in sql
    assert "response_body" not in sql


@pytest.mark.parametrize(
    ("path", "most"),
    [("deliveries/{0}/", 1), ("deliveries/{0}/attempts/", 2), ("attempts/{1}/", 1)],
)
def test_one_costs_as_little(client: APIClient, endpoint: Endpoint, path: str, most: int) -> None:
    delivery = make_delivery(endpoint)
    attempt = make_attempt(delivery)

    with CaptureQueriesContext(connection) as captured:
        client.get(f"/webhooks/{path.format(delivery.pk, attempt.pk)}")

    assert len(captured) == most


def test_what_a_request_does_is_said_of_its_objects_only(
    client: APIClient, ada: User, endpoint: Endpoint
) -> None:
    Document.objects.create(title="Lease", user=ada)
    before = Event.objects.count()

    client.get("/webhooks/deliveries/")
    client.patch(f"/webhooks/endpoints/{endpoint.pk}/", {"description": "x"}, format="json")

    assert Event.objects.count() == before
