"""The feed of an endpoint: who was away reads it and has everything, byte by byte."""

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from drf_webhooks.models import Delivery, Endpoint, Event
from drf_webhooks.recoveries import go_on
from drf_webhooks.session import disable_webhooks, webhook_signal_session
from drf_webhooks.testing import WebhookReceiver, deliver_now
from tests.app.models import Deposit, Tenant, User
from tests.factories import make_deposit
from tests.test_feed import Other

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def tenant(db: None) -> Tenant:
    with disable_webhooks():
        return make_deposit().tenant


@pytest.fixture
def endpoint(ada: User) -> Endpoint:
    return Endpoint.objects.create(
        owner=ada, url="https://a.example/", event_types=["core.deposit.*"]
    )


def url(endpoint: Endpoint) -> str:
    return f"/webhooks/endpoints/{endpoint.pk}/messages/"


def give_away(endpoint: Endpoint, to: User) -> None:
    """Let all that there is be of another owner's time."""
    now = timezone.now()
    Event.objects.update(created_at=now - timedelta(hours=2))
    Endpoint.objects.filter(pk=endpoint.pk).give(
        to,
        secret=endpoint._meta.get_field("secret").stored(endpoint),
        at=now - timedelta(hours=1),
    )


@pytest.mark.parametrize("kind", ["json", "xml"])
def test_the_feed_has_the_bytes_and_the_ids_that_are_sent(
    client: APIClient, ada: User, tenant: Tenant, kind: str
) -> None:
    with WebhookReceiver() as receiver:
        endpoint = Endpoint.objects.create(
            owner=ada, url=receiver.url, event_types=["core.*"], format=kind
        )
        deposit = Deposit.objects.create(tenant=tenant, amount="2.50", note="Ä\u2028<&>")
        deposit.delete()
        deliver_now()
        told = client.get(url(endpoint)).json()["results"]

    sent = {each.headers["webhook-id"]: each for each in receiver.requests}
    assert {each["webhook_id"]: each["body"].encode() for each in told} == {
        key: each.body for key, each in sent.items()
    }
    assert len(told) == 2
    for message in told:
        assert message["content_type"] == sent[message["webhook_id"]].headers["content-type"]
    assert [each["event_type"] for each in told] == [
        "core.deposit.created",
        "core.deposit.deleted",
    ]
    assert [each["state"] for each in told] == ["delivered", "delivered"]


def test_a_receiver_reads_on_from_where_it_was(
    client: APIClient, endpoint: Endpoint, tenant: Tenant
) -> None:
    for amount in range(5):
        Deposit.objects.create(tenant=tenant, amount=amount)

    pages, after = [], 0
    while True:
        page = client.get(url(endpoint), {"after": after, "limit": 2}).json()
        pages.append([each["position"] for each in page["results"]])
        after = page["after"]
        if not page["has_more"]:
            break

    assert pages == [[1, 2], [3, 4], [5]]
    assert client.get(url(endpoint), {"after": 5}).json() == {
        "after": 5,
        "has_more": False,
        "results": [],
    }
    Deposit.objects.create(tenant=tenant, amount=9)
    assert client.get(url(endpoint), {"after": 5}).json()["after"] == 6


def test_an_event_is_in_the_feed_once_its_session_is_over(
    client: APIClient, endpoint: Endpoint, tenant: Tenant
) -> None:
    with webhook_signal_session():
        first = Deposit.objects.create(tenant=tenant, amount=1)
        # Committed and held, as the session may say more of it.
        assert client.get(url(endpoint)).json()["results"] == []
        with disable_webhooks():
            second = Deposit.objects.create(tenant=tenant, amount=2)
    second.save()

    told = client.get(url(endpoint)).json()["results"]

    assert [each["object_key"] for each in told] == [str(first.pk), str(second.pk)]


def test_what_is_not_kept_any_more_is_seen_to_be_missing(
    client: APIClient, endpoint: Endpoint, tenant: Tenant
) -> None:
    Deposit.objects.create(tenant=tenant, amount=1)
    Deposit.objects.create(tenant=tenant, amount=2)
    Delivery.objects.update(state="dead", due_at=None)
    old = Event.objects.earliest("created_at")
    long_ago = timezone.now() - timedelta(days=31)
    Event.objects.filter(pk=old.pk).update(created_at=long_ago, recheck_at=None)
    call_command("webhooks_prune")

    told = client.get(url(endpoint)).json()["results"]

    assert [each["body"] is None for each in told] == [True, False]
    assert told[0]["webhook_id"] == old.message_id


def test_a_parked_event_is_in_no_feed(
    client: APIClient, endpoint: Endpoint, tenant: Tenant
) -> None:
    Deposit.objects.create(tenant=tenant, amount=1, note="boom")

    assert Event.objects.get().error
    assert client.get(url(endpoint)).json()["results"] == []


def test_what_a_disabled_endpoint_missed_comes_by_a_recovery(
    client: APIClient, ada: User, endpoint: Endpoint, tenant: Tenant
) -> None:
    # Somebody listens, so the event is stored at all.
    Endpoint.objects.create(owner=ada, url="https://b.example/", event_types=["*"])
    since = timezone.now() - timedelta(minutes=1)
    Endpoint.objects.filter(pk=endpoint.pk).update(state="disabled")
    missed = Deposit.objects.create(tenant=tenant, amount=1)
    Endpoint.objects.filter(pk=endpoint.pk).update(state="enabled")
    heard = Deposit.objects.create(tenant=tenant, amount=2)
    first = client.get(url(endpoint)).json()

    data = {"kind": "missing", "endpoint": str(endpoint.pk), "since": since.isoformat()}
    assert client.post("/webhooks/recoveries/", data, format="json").status_code == 202
    while go_on("default"):
        pass
    second = client.get(url(endpoint), {"after": first["after"]}).json()

    assert [each["object_key"] for each in first["results"]] == [str(heard.pk)]
    assert [each["object_key"] for each in second["results"]] == [str(missed.pk)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("after", "-1", id="below zero"),
        pytest.param("after", "x", id="no number"),
        pytest.param("after", "1_0", id="a number of Python's"),
        pytest.param("after", "\u0663", id="a digit of another script"),
        pytest.param("after", "9" * 5000, id="very long"),
        pytest.param("after", str(2**63), id="beyond every key"),
        pytest.param("after", "7", id="beyond the last one"),
        pytest.param("limit", "0", id="no page"),
        pytest.param("limit", "201", id="a page too long"),
        pytest.param("limit", "\x00", id="zero byte"),
    ],
)
def test_what_is_no_place_or_no_limit_is_refused(
    client: APIClient, endpoint: Endpoint, name: str, value: str
) -> None:
    answer = client.get(url(endpoint), {name: value})

    assert answer.status_code == 400
    assert list(answer.json()) == [name]


def test_a_format_that_is_gone_leaves_the_rest_readable(
    client: APIClient, endpoint: Endpoint, tenant: Tenant
) -> None:
    Deposit.objects.create(tenant=tenant, amount=1)
    for kind in ("cloudevents", "gone"):
        Endpoint.objects.filter(pk=endpoint.pk).update(format=kind)
        [message] = client.get(url(endpoint)).json()["results"]
        assert message["body"] is None
    assert message["content_type"] is None


@pytest.mark.parametrize("count", [1, 30])
def test_a_page_costs_the_same_however_many_there_are(
    client: APIClient, endpoint: Endpoint, tenant: Tenant, count: int
) -> None:
    for amount in range(count):
        Deposit.objects.create(tenant=tenant, amount=amount)

    with CaptureQueriesContext(connection) as first:
        client.get(url(endpoint))
    with CaptureQueriesContext(connection) as again:
        client.get(url(endpoint))
    with CaptureQueriesContext(connection) as idle:
        client.get(url(endpoint), {"after": count})

    told = [each["sql"] for each in again.captured_queries]
    # The endpoint, the page, and whether there is more, twice.
    assert len(told) == 4, told
    assert len(idle.captured_queries) == 5
    assert len(first.captured_queries) <= 18, len(first.captured_queries)


def test_very_much_of_another_owners_is_passed_over_in_several_requests(
    client: APIClient, ada: User, endpoint: Endpoint, tenant: Tenant
) -> None:
    with transaction.atomic():
        for amount in range(50):
            Deposit.objects.create(tenant=tenant, amount=amount)
    give_away(endpoint, ada)

    first = client.get(url(endpoint), {"limit": 1}).json()
    second = client.get(url(endpoint), {"limit": 1}).json()

    assert first == {"after": 0, "has_more": True, "results": []}
    assert second == {"after": 0, "has_more": False, "results": []}


@pytest.mark.skipif(connection.vendor == "sqlite", reason="it has one writer at a time")
def test_a_page_is_short_while_a_worker_is_writing(
    client: APIClient, endpoint: Endpoint, tenant: Tenant
) -> None:
    for amount in range(2):
        Deposit.objects.create(tenant=tenant, amount=amount)
    last = Delivery.objects.filter(pk=Delivery.objects.latest("pk").pk)

    with Other().holding(lambda: last.update(attempt_count=1)):
        short = client.get(url(endpoint)).json()

    assert (short["after"], short["has_more"]) == (1, True)
    rest = client.get(url(endpoint), {"after": 1}).json()
    assert (rest["after"], rest["has_more"]) == (2, False)


def test_what_another_owner_was_sent_is_passed_over(
    client: APIClient, ada: User, endpoint: Endpoint, tenant: Tenant
) -> None:
    for amount in range(4):
        Deposit.objects.create(tenant=tenant, amount=amount)
    give_away(endpoint, ada)
    last = Deposit.objects.create(tenant=tenant, amount=9)

    page = client.get(url(endpoint), {"limit": 1}).json()

    assert [each["object_key"] for each in page["results"]] == [str(last.pk)]
    assert (page["after"], page["has_more"]) == (5, False)
