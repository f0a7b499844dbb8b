"""Lists cost the same for many rows, read no bodies, and find what an operator has in hand."""

import re
import uuid
from datetime import timedelta
from html import unescape
from typing import Any
from urllib.parse import quote

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from drf_webhooks import notices
from drf_webhooks.admin.searching import resources
from drf_webhooks.models import Attempt, Delivery, Endpoint, EndpointHealth, Event, Notice
from tests.admin.conftest import make_attempt, make_delivery, url
from tests.app.models import Document, User
from tests.factories import make_deposit, make_user

KINDS = ("endpoint", "event", "delivery", "attempt", "notice")


def make_rows(count: int) -> None:
    """Make so many rows of each kind, in a few statements: it is the lists that are looked at."""
    now = timezone.now()
    owners = User.objects.bulk_create(User(username=uuid.uuid4().hex) for _ in range(count))
    endpoints = Endpoint.objects.bulk_create(
        Endpoint(url="https://b.example/", event_types=["x"], owner=owner) for owner in owners
    )
    EndpointHealth.objects.bulk_create(
        EndpointHealth(endpoint=each, is_clean=False, failing_since=now) for each in endpoints
    )
    Notice.objects.bulk_create(
        Notice(endpoint=each, kind="failing", created_at=now) for each in endpoints
    )
    events = Event.objects.bulk_create(
        Event(
            type="core.deposit.created",
            resource="core.deposit",
            object_key=str(number),
            owner=owner,
            body=b"{}",
            created_at=now,
        )
        for number, owner in enumerate(owners)
    )
    deliveries = Delivery.objects.bulk_create(
        Delivery(event=event, endpoint=endpoint, created_at=now, due_at=now)
        for event, endpoint in zip(events, endpoints, strict=True)
    )
    if not all(each.pk for each in deliveries):
        # A database that does not return keys.
        deliveries = list(Delivery.objects.order_by("-pk")[:count])
    Attempt.objects.bulk_create(
        Attempt(
            delivery=each,
            number=1,
            started_at=now,
            duration=timedelta(0),
            url="https://b.example/",
            status=500,
        )
        for each in deliveries
    )


def count_queries(client: Client, where: str) -> int:
    # What Django keeps for the life of the process is asked for by the first request.
    client.get(where)
    with CaptureQueriesContext(connection) as queries:
        assert client.get(where).status_code == 200
    return len(queries)


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_costs_the_same_for_one_row_and_for_fifty(
    kind: str, admin: Client, endpoint: Endpoint
) -> None:
    make_rows(1)
    one = count_queries(admin, url(f"{kind}_changelist"))
    make_rows(49)

    assert count_queries(admin, url(f"{kind}_changelist")) == one
    # The session and the user are two of them.
    assert one <= 10


@pytest.mark.parametrize("kind", ["endpoint", "event", "delivery", "attempt"])
def test_a_page_costs_the_same_with_much_that_belongs_to_it(
    kind: str, admin: Client, endpoint: Endpoint
) -> None:
    delivery = make_delivery()
    attempt = make_attempt(delivery)
    row: Any = {"endpoint": endpoint, "event": delivery.event, "delivery": delivery}
    where = url(f"{kind}_change", row.get(kind, attempt).pk)
    one = count_queries(admin, where)
    for number in range(20):
        make_attempt(delivery, number=number + 2)
        other = Endpoint.objects.create(url=f"https://{number}.example/", event_types=["x"])
        Delivery.objects.create(
            event=delivery.event, endpoint=other, created_at=timezone.now(), state="dead"
        )
        make_delivery()

    assert count_queries(admin, where) == one
    assert one <= 11


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_reads_no_message_and_no_secret(
    kind: str, admin: Client, endpoint: Endpoint
) -> None:
    make_attempt(make_delivery())
    Notice.objects.create(endpoint=endpoint, kind="failing", created_at=timezone.now())

    with CaptureQueriesContext(connection) as queries:
        admin.get(url(f"{kind}_changelist"))

    said = " ".join(each["sql"] for each in queries)
    for column in ('"body"', "response_body", '"secret"', "old_secrets", '"headers"'):
        assert column not in said.replace("`", '"')


@pytest.mark.parametrize("kind", KINDS)
def test_no_list_counts_a_whole_table(kind: str, admin: Client, endpoint: Endpoint) -> None:
    make_rows(1)

    with CaptureQueriesContext(connection) as queries:
        admin.get(url(f"{kind}_changelist"))

    counting = [each["sql"] for each in queries if "COUNT(*)" in each["sql"].upper()]
    assert counting
    for sql in counting:
        assert "LIMIT" in sql, sql


@pytest.mark.parametrize("kind", ["event", "delivery", "attempt", "notice"])
def test_a_list_is_sorted_by_an_index_whatever_is_asked(
    kind: str, admin: Client, endpoint: Endpoint
) -> None:
    make_rows(2)

    columns = 7
    listed = [
        admin.get(url(f"{kind}_changelist", o=f"{sign}{column}"))
        for column in range(1, columns + 1)
        for sign in ("", "-")
    ]

    orders = {str(each.context["cl"].queryset.query.order_by) for each in listed}
    assert len(orders) == 1
    assert set(re.findall(r"'(.*?)'", orders.pop())) <= {"-id", "-pk", "-created_at"}


def test_a_list_ends_where_nobody_turns_pages_any_more(
    admin: Client, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drf_webhooks.admin.facts._MOST_COUNTED", 2)
    make_rows(2)
    assert "There are more than" not in admin.get(url("delivery_changelist")).text
    make_delivery()

    listed = admin.get(url("delivery_changelist"))

    assert "There are more than 2." in listed.text
    assert listed.context["cl"].result_count == 2


@pytest.mark.parametrize(
    ("kind", "query"),
    [
        ("delivery", {"type": "core.deposit.created"}),
        ("attempt", {"outcome": "5xx"}),
        ("event", {"type": "core.deposit.created"}),
    ],
)
def test_what_no_index_finds_is_looked_for_among_the_newest(
    kind: str,
    query: dict[str, str],
    admin: Client,
    endpoint: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("drf_webhooks.admin.facts._MOST_READ", 2)
    for _ in range(4):
        make_rows(1)

    listed = admin.get(url(f"{kind}_changelist", **query))

    assert len(listed.context["cl"].result_list) == 2


def found(client: Client, kind: str, term: str) -> list[Any]:
    where = url(f"{kind}_changelist", q=quote(term))
    return [each.pk for each in client.get(where).context["cl"].result_list]


def test_deliveries_and_attempts_are_found_by_what_an_operator_has(
    admin: Client, endpoint: Endpoint
) -> None:
    delivery = make_delivery()
    attempt = make_attempt(delivery)
    make_attempt(make_delivery())
    key = delivery.event.object_key

    for term in (
        delivery.event.message_id,
        str(delivery.event_id),
        delivery.event_id.hex,
        key,
        f"#{delivery.pk}",
        f"a.example {key}",
    ):
        assert found(admin, "delivery", term) == [delivery.pk], term
        assert found(admin, "attempt", term) == [attempt.pk], term
    for term in ("https://a.ex", str(endpoint.pk)):
        assert len(found(admin, "delivery", term)) == 2, term
        assert len(found(admin, "attempt", term)) == 2, term
    long = [f"#{'9' * length}" for length in (17, 18, 19, 30, 5000)]
    for term in ("evt_x", "#x", "nowhere", f"evt_{uuid.uuid4().hex}", str(uuid.uuid4()), *long):
        assert found(admin, "delivery", term) == [], term
        assert found(admin, "attempt", term) == [], term


def test_events_are_found_by_id_and_by_key(admin: Client, endpoint: Endpoint) -> None:
    event = make_delivery().event
    make_delivery()

    for term in (event.message_id, str(event.pk), event.object_key):
        assert found(admin, "event", term) == [event.pk], term
    for term in ("evt_x", "a.example", str(endpoint.pk)):
        assert found(admin, "event", term) == [], term


def test_an_object_is_found_by_a_key_that_is_text(admin: Client) -> None:
    owner = make_user()
    Endpoint.objects.create(url="https://a.example/", event_types=["*"], owner=owner)
    document = Document.objects.create(title="Lease", user=owner)

    assert len(found(admin, "delivery", str(document.pk))) == 1
    assert len(found(admin, "event", str(document.pk))) == 1


@pytest.mark.parametrize(
    ("key", "terms"),
    [
        ('"Küche"', ["Küche", '"Küche"']),
        ('"two words"', ['"two words"', '"two words" core.deposit']),
        ('["a b",7]', ['["a b",7]']),
        ('"it\'s"', ["it's", '"it\'s"']),
    ],
)
def test_an_object_is_found_by_whatever_key_it_has(
    key: str, terms: list[str], admin: Client, endpoint: Endpoint
) -> None:
    delivery = make_delivery()
    make_delivery()
    Event.objects.filter(pk=delivery.event_id).update(object_key=key)

    for term in terms:
        assert found(admin, "delivery", term) == [delivery.pk], term
        assert found(admin, "event", term) == [delivery.event_id], term


def test_objects_of_two_resources_with_one_key_are_told_apart(
    admin: Client, endpoint: Endpoint
) -> None:
    one, other = make_delivery(), make_delivery()
    key = one.event.object_key
    Event.objects.filter(pk=other.event_id).update(object_key=key, resource="shop.book")

    assert set(found(admin, "delivery", key)) == {one.pk, other.pk}
    assert found(admin, "delivery", f"core.deposit {key}") == [one.pk]
    assert found(admin, "event", "shop.book") == [other.event_id]
    page = admin.get(url("event_change", other.event_id)).text
    [link] = re.findall(r'href="([^"]*)">all its events', page)
    listed = admin.get(unescape(link)).context["cl"].result_list
    assert [each.pk for each in listed] == [other.event_id]


def test_what_is_not_declared_any_more_is_found_still(admin: Client, endpoint: Endpoint) -> None:
    event = make_delivery().event
    make_delivery()
    assert resources("default") == ["core.deposit"]
    Event.objects.filter(pk=event.pk).update(resource="gone")

    assert resources("default") == ["core.deposit", "gone"]
    assert found(admin, "event", event.object_key) == [event.pk]


def test_events_are_found_by_filters(admin: Client, endpoint: Endpoint) -> None:
    now = timezone.now()
    made = {name: make_delivery().event for name in ("held", "parked", "retired", "well")}
    Event.objects.filter(pk=made["held"].pk).update(held_until=now)
    Event.objects.filter(pk=made["parked"].pk).update(error="ValueError: boom")
    Event.objects.filter(pk=made["retired"].pk).update(retired_at=now, body=None)

    for status in ("held", "parked", "retired"):
        rows = admin.get(url("event_changelist", status=status)).context["cl"].result_list
        assert [each.pk for each in rows] == [made[status].pk]
    assert len(admin.get(url("event_changelist", within="1h")).context["cl"].result_list) == 4


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"outcome": "2xx"}, [200]),
        ({"outcome": "4xx"}, [404]),
        ({"outcome": "5xx"}, [500]),
        ({"outcome": "none"}, [None]),
        ({"outcome": "failed"}, [None, 404, 500]),
        ({"error": "dns_error"}, [None]),
        ({}, [None, 200, 404, 500]),
    ],
)
def test_attempts_are_found_by_what_came_of_them(
    query: dict[str, str], expected: list[Any], admin: Client, endpoint: Endpoint
) -> None:
    delivery = make_delivery()
    for status in (None, 200, 404, 500):
        error = "dns_error" if status is None else ""
        make_attempt(delivery, status=status, error=error)

    rows = admin.get(url("attempt_changelist", **query)).context["cl"].result_list

    assert sorted((each.status for each in rows), key=str) == sorted(expected, key=str)


def test_attempts_are_found_by_their_endpoint(admin: Client, endpoint: Endpoint) -> None:
    make_attempt(make_delivery())
    other = Endpoint.objects.create(url="https://b.example/")

    for row, count in ((endpoint, 1), (other, 0)):
        listed = admin.get(url("attempt_changelist", endpoint=row.pk))
        assert len(listed.context["cl"].result_list) == count


def test_a_notice_says_whether_everybody_has_it(admin: Client, endpoint: Endpoint) -> None:
    now = timezone.now()
    notice = Notice.objects.create(
        endpoint=endpoint, kind="failing", reason="Down.", created_at=now, due_at=now
    )
    assert "to be told" in admin.get(url("notice_changelist")).text
    Notice.objects.update(error="SMTPError: no")
    assert "SMTPError: no" in admin.get(url("notice_change", notice.pk)).text

    notices.tell()

    Notice.objects.update(due_at=None)
    assert "everybody has it" in admin.get(url("notice_changelist")).text


def test_nothing_is_listed_where_there_is_nothing(admin: Client) -> None:
    for kind in KINDS:
        assert admin.get(url(f"{kind}_changelist")).status_code == 200
    assert not Attempt.objects.exists()
    make_deposit()
