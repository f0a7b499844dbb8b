"""Replay: each failed delivery once, none that succeeded, and what an endpoint never heard."""

import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from drf_webhooks import replay
from drf_webhooks.clock import database_now
from drf_webhooks.models import Attempt, BaseObject, Delivery, Endpoint, Event
from drf_webhooks.replay import Lot, Span, replay_failed, replay_missing, replay_one
from drf_webhooks.resources import ModelSerializerWebhook
from drf_webhooks.session import disable_webhooks
from drf_webhooks.testing import WebhookReceiver, capture_events, deliver_now, isolated_registry
from tests.app.models import Deposit, Document, Tenant
from tests.app.serializers import DepositSerializer
from tests.e2e.test_death import _SETUP, environment, wait_until
from tests.factories import make_deposit, make_user

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as started:
        yield started


@pytest.fixture
def endpoint(receiver: WebhookReceiver) -> Endpoint:
    return Endpoint.objects.create(url=receiver.url, event_types=["core.deposit.*"])


@pytest.fixture
def tenant() -> Tenant:
    with disable_webhooks():
        deposit = make_deposit()
        deposit.delete()
    return deposit.tenant


def make_deposits(tenant: Tenant, count: int) -> None:
    with transaction.atomic():
        for number in range(count):
            Deposit.objects.create(tenant=tenant, amount=number)


def die(**fields: Any) -> int:
    """Let deliveries be dead since a minute."""
    return Delivery.objects.filter(**fields).update(
        state="dead",
        due_at=None,
        settled_at=database_now("default") - timedelta(minutes=1),
        attempt_count=10,
        reason="Given up.",
    )


def lately() -> Span:
    return replay.span(database_now("default") - HOUR, using="default")


def failed(within: Span | None = None, **more: Any) -> list[Lot]:
    return list(replay_failed(within or lately(), using="default", **more))


def missing(endpoint: Endpoint, within: Span | None = None, **more: Any) -> list[Lot]:
    return list(replay_missing(endpoint, within or lately(), using="default", **more))


def sent(receiver: WebhookReceiver) -> Counter[str]:
    return Counter(each.headers["webhook-id"] for each in receiver.requests)


def test_h79_each_failed_delivery_once_and_none_that_succeeded(
    receiver: WebhookReceiver, endpoint: Endpoint, tenant: Tenant
) -> None:
    make_deposits(tenant, 5)
    lucky = list(Delivery.objects.values_list("pk", flat=True)[:2])
    die(pk__in=lucky)
    failed()
    deliver_now()
    assert len(receiver.requests) == 5
    die(pk__gt=lucky[-1])

    assert failed(size=2) == [Lot(2, 2), Lot(1, 1)]
    assert failed() == []
    deliver_now()

    twice = {each.message_id for each in Event.objects.filter(deliveries__pk__gt=lucky[-1])}
    assert {key for key, count in sent(receiver).items() if count == 2} == twice
    assert len(receiver.requests) == 8
    assert set(Delivery.objects.values_list("state", "reason")) == {("delivered", "")}


def test_h79_what_died_a_second_time_since_is_left_alone(
    receiver: WebhookReceiver, endpoint: Endpoint, tenant: Tenant
) -> None:
    make_deposits(tenant, 2)
    die()
    within = lately()
    receiver.respond(500, headers={"webhook-delivery": "abort-message"})
    failed(within)
    deliver_now()

    assert set(Delivery.objects.values_list("state", flat=True)) == {"dead"}
    assert failed(within) == []
    assert len(receiver.requests) == 2
    # Asked again, a person means those too.
    assert failed() == [Lot(2, 2)]


def test_a_replayed_delivery_has_its_whole_schedule_before_it(
    receiver: WebhookReceiver, endpoint: Endpoint, tenant: Tenant
) -> None:
    make_deposits(tenant, 1)
    die()
    Delivery.objects.update(created_at=timezone.now() - timedelta(days=20))
    receiver.respond(500)

    failed()
    deliver_now()

    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.attempt_count) == ("waiting", 1)
    assert delivery.due_at is not None
    assert delivery.due_at > timezone.now()


def test_the_failures_of_some_endpoints_only(endpoint: Endpoint, tenant: Tenant) -> None:
    other = Endpoint.objects.create(url="https://b.example/", event_types=["core.deposit.*"])
    make_deposits(tenant, 2)
    die()
    mine = Endpoint.objects.filter(pk=other.pk)

    assert replay.count_failed(lately(), using="default", endpoints=mine) == 2
    assert failed(endpoints=mine) == [Lot(2, 2)]
    assert set(Delivery.objects.filter(state="waiting").values_list("endpoint", flat=True)) == {
        other.pk
    }


def test_what_died_at_another_time_or_has_no_message_is_left(
    endpoint: Endpoint, tenant: Tenant
) -> None:
    make_deposits(tenant, 3)
    die()
    first, second, third = Delivery.objects.order_by("pk")
    Delivery.objects.filter(pk=first.pk).update(settled_at=database_now("default") - 2 * HOUR)
    Event.objects.filter(pk=second.event_id).update(body=None)

    assert failed() == [Lot(1, 1)]
    third.refresh_from_db()
    assert third.state == "waiting"
    assert replay_one(second.pk, using="default") == Lot(1, 0)


@pytest.mark.parametrize("state", ["waiting", "delivered", "dead"])
def test_one_delivery_is_sent_again_whatever_became_of_it(
    receiver: WebhookReceiver, endpoint: Endpoint, tenant: Tenant, state: str
) -> None:
    make_deposits(tenant, 1)
    deliver_now()
    Delivery.objects.update(state=state, due_at=timezone.now() + HOUR)
    pk = Delivery.objects.get().pk

    assert replay_one(pk, using="default") == Lot(1, 1)
    deliver_now()

    first, second = receiver.requests
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
    assert Attempt.objects.count() == 2
    assert replay_one(pk + 1, using="default") == Lot(1, 0)


def test_h80_the_original_is_identical_and_the_new_one_says_that_it_is_a_replay(
    receiver: WebhookReceiver, endpoint: Endpoint, tenant: Tenant
) -> None:
    make_deposits(tenant, 1)
    deliver_now()
    die()
    failed()
    deliver_now()
    original, again = receiver.requests
    with disable_webhooks():
        Deposit.objects.update(amount=7)
    die()
    assert failed(is_anew=True) == [Lot(1, 1)]
    deliver_now()
    anew = receiver.requests[-1]

    assert again.body == original.body
    assert again.headers["webhook-id"] == original.headers["webhook-id"]
    assert "replay" not in original.json
    assert anew.headers["webhook-id"] != original.headers["webhook-id"]
    assert anew.json["replay"] is True
    assert anew.json["type"] == original.json["type"] == "core.deposit.created"
    assert anew.json["data"]["amount"] == "7.00"
    assert anew.json["sequence"] == 2
    assert failed(is_anew=True) == failed() == []


def test_h81_a_retry_after_the_form_has_changed_has_the_old_bytes(
    receiver: WebhookReceiver, endpoint: Endpoint, tenant: Tenant
) -> None:
    class Slim(DepositSerializer):
        class Meta(DepositSerializer.Meta):
            fields = ["id", "amount"]

    receiver.respond(500, times=1)
    make_deposits(tenant, 1)
    deliver_now()
    with isolated_registry():

        class SlimWebhook(ModelSerializerWebhook):
            serializer_class = Slim
            base_name = "core.deposit"

        with disable_webhooks():
            Deposit.objects.update(amount=7)
        Delivery.objects.update(due_at=timezone.now() - HOUR)
        deliver_now()
        die()
        failed(is_anew=True)
        deliver_now()

    first, retry, anew = receiver.requests
    assert first.body == retry.body
    assert "tenant" in retry.json["data"]
    assert anew.json["data"].keys() == {"id", "amount"}


def test_an_endpoint_hears_what_it_missed(receiver: WebhookReceiver, tenant: Tenant) -> None:
    early = Endpoint.objects.create(url="https://b.example/", event_types=["*"])
    make_deposits(tenant, 5)
    with capture_events():
        Tenant.objects.update(name="unheard")
        make_user().delete()
    assert Event.objects.exclude(type="core.deposit.created").exists()
    late = Endpoint.objects.create(url=receiver.url, event_types=["core.deposit.created"])
    make_deposits(tenant, 1)

    assert replay.count_missing(late, lately(), using="default", size=2) == 5
    assert sum(each.replayed for each in missing(late, size=2)) == 5
    assert sum(each.replayed for each in missing(late)) == 0
    Delivery.objects.filter(endpoint=early).update(due_at=None)
    deliver_now()

    assert len(sent(receiver)) == len(receiver.requests) == 6
    assert {each.json["type"] for each in receiver.requests} == {"core.deposit.created"}


def test_what_belongs_to_somebody_else_was_not_missed() -> None:
    ada, bob = make_user(username="ada"), make_user(username="bob")
    with capture_events():
        Document.objects.create(title="hers", user=ada)
        Document.objects.create(title="his", user=bob)
        make_deposit()
    # capture_events() wrote what nobody listened to.
    hers = Endpoint.objects.create(url="https://a.example/", event_types=["*"], owner=ada)
    nobodys = Endpoint.objects.create(url="https://b.example/", event_types=["*"])

    missing(hers)
    missing(nobodys)

    def heard(endpoint: Endpoint) -> set[Any]:
        return set(
            Event.objects.filter(deliveries__endpoint=endpoint).values_list("owner", flat=True)
        )

    assert heard(hers) == {ada.pk, None}
    assert heard(nobodys) == {None}


def test_what_was_missed_is_said_anew_once_for_each_object(
    receiver: WebhookReceiver, tenant: Tenant
) -> None:
    with capture_events():
        deposit = Deposit.objects.create(tenant=tenant, amount=1)
        Deposit.objects.create(tenant=tenant, amount=2).delete()
        gone = Deposit.objects.create(tenant=tenant, amount=3)
    with capture_events():
        deposit.amount = 4
        deposit.save()
        key = gone.pk
        gone.delete()
    with disable_webhooks():
        Deposit.objects.create(pk=key, tenant=tenant)
    late = Endpoint.objects.create(url=receiver.url, event_types=["core.deposit.*"])

    assert sum(each.replayed for each in missing(late, is_anew=True)) == 2
    assert sum(each.replayed for each in missing(late, is_anew=True)) == 0
    deliver_now()

    (received,) = receiver.requests
    assert received.json["type"] == "core.deposit.created"
    assert received.json["data"]["amount"] == "4.00"
    # What was never sent is accounted for, and no failure.
    assert Delivery.objects.exclude(replaced_by=None).count() == 2
    assert failed() == failed(is_anew=True) == []
    # Only what was said has taken a number.
    assert BaseObject.objects.get(object_key=str(deposit.pk)).sequence == 3
    assert BaseObject.objects.get(object_key=str(key)).sequence == 2


def test_deletions_are_said_anew_as_they_were_or_by_their_key(
    receiver: WebhookReceiver, endpoint: Endpoint, tenant: Tenant
) -> None:
    make_deposits(tenant, 2)
    deliver_now()
    Deposit.objects.all().delete()
    first, second = Event.objects.filter(type="core.deposit.deleted").order_by("created_at", "pk")
    Event.objects.filter(pk=second.pk).update(body=None)
    die(event__in=[first, second])
    receiver.requests.clear()

    assert failed(is_anew=True) == [Lot(2, 2)]
    deliver_now()

    assert [each.json["type"] for each in receiver.requests] == ["core.deposit.deleted"] * 2
    assert {str(each.json["data"]["id"]) for each in receiver.requests} == {
        first.object_key,
        second.object_key,
    }


def test_nothing_is_said_of_what_is_gone_or_came_back(endpoint: Endpoint, tenant: Tenant) -> None:
    make_deposits(tenant, 2)
    Delivery.objects.update(state="delivered", due_at=None)
    first, second = Deposit.objects.order_by("pk")
    key = first.pk
    first.delete()
    second.save()
    with disable_webhooks():
        Deposit.objects.create(pk=key, tenant=tenant)
        Deposit.objects.filter(pk=second.pk).delete()
    die(state="waiting")

    assert failed(is_anew=True) == [Lot(2, 0)]
    assert Event.objects.count() == 4
    assert BaseObject.objects.get(object_key=str(key)).sequence == 2


def test_one_new_event_serves_every_endpoint_that_failed(tenant: Tenant) -> None:
    for name in ("a", "b"):
        Endpoint.objects.create(url=f"https://{name}.example/", event_types=["core.deposit.*"])
    Endpoint.objects.create(url="https://c.example/", event_types=["*"])
    make_deposits(tenant, 1)
    die(endpoint__url__in=["https://a.example/", "https://b.example/"])

    failed(is_anew=True)

    new = Event.objects.latest("sequence")
    assert new.deliveries.count() == 2
    assert set(Delivery.objects.filter(state="dead").values_list("replaced_by", flat=True)) == {
        new.pk
    }


@pytest.mark.parametrize("what", ["owner", "resource", "operation", "kind", "defect"])
def test_what_cannot_be_said_anew_stays_dead(what: str, caplog: pytest.LogCaptureFixture) -> None:
    ada = make_user(username="ada")
    Endpoint.objects.create(url="https://a.example/", event_types=["*"], owner=ada)
    if what == "defect":
        with disable_webhooks():
            tenant = make_deposit().tenant
        deposit = Deposit.objects.create(tenant=tenant)
        with disable_webhooks():
            Deposit.objects.filter(pk=deposit.pk).update(note="boom")
    else:
        Document.objects.create(title="x", user=ada)
    if what == "owner":
        with disable_webhooks():
            Document.objects.update(user=make_user(username="bob"))
    if what == "resource":
        Event.objects.update(resource="gone")
    if what == "kind":
        Event.objects.update(type="core.document.read")
    die()
    pk = Delivery.objects.get().pk

    with pytest.MonkeyPatch.context() as patch:
        if what == "operation":
            from tests.app.webhooks import DocumentWebhook  # noqa: PLC0415

            patch.setattr(DocumentWebhook, "create", False)
        assert failed(is_anew=True) == [Lot(1, 0)]

    assert replay_one(pk, using="default", is_anew=True) == Lot(1, int(what == "operation"))
    assert ("cannot be said anew" in caplog.text) is (what == "defect")


def test_what_was_parked_is_said_anew_when_its_defect_is_mended(
    receiver: WebhookReceiver, tenant: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = Endpoint.objects.create(url=receiver.url, event_types=["core.deposit.*"])
    Deposit.objects.create(tenant=tenant, note="boom")
    with disable_webhooks():
        Deposit.objects.update(note="mended")

    assert missing(endpoint) == []
    assert missing(endpoint, is_anew=True) == [Lot(1, 1)]
    deliver_now()

    assert receiver.requests[0].json["data"]["note"] == "mended"


@pytest.mark.parametrize("state", ["waiting", "delivered", "dead"])
def test_one_delivery_anew_takes_the_place_of_the_old(
    receiver: WebhookReceiver, endpoint: Endpoint, tenant: Tenant, state: str
) -> None:
    make_deposits(tenant, 1)
    Delivery.objects.update(state=state, due_at=timezone.now() if state == "waiting" else None)
    pk = Delivery.objects.get().pk

    assert replay_one(pk, using="default", is_anew=True) == Lot(1, 1)
    assert deliver_now() == 1

    old = Delivery.objects.get(pk=pk)
    assert old.state == ("delivered" if state == "delivered" else "dead")
    assert old.replaced_by == Event.objects.latest("sequence").pk


@pytest.mark.parametrize("is_anew", [False, True])
def test_statements_do_not_grow_with_what_is_replayed(
    endpoint: Endpoint, tenant: Tenant, *, is_anew: bool
) -> None:
    counts = []
    # Not so many that one INSERT would have too many parameters for SQLite.
    for count in (2, 15):
        make_deposits(tenant, count)
        die(state="waiting")
        late = Endpoint.objects.create(url="https://b.example/", event_types=["x"])
        late.event_types = ["core.deposit.created"]
        Endpoint.objects.filter(pk=late.pk).update(event_types=late.event_types)
        with CaptureQueriesContext(connection) as queries:
            failed(is_anew=is_anew)
        with CaptureQueriesContext(connection) as more:
            missing(late, is_anew=is_anew)
        counts.append((len(queries), len(more)))
        Delivery.objects.filter(state="waiting").update(state="delivered", due_at=None)
        Endpoint.objects.exclude(pk=endpoint.pk).delete()

    assert counts[0] == counts[1]


@pytest.mark.skipif(connection.vendor == "sqlite", reason="it has one writer at a time")
@pytest.mark.parametrize("is_anew", [False, True])
def test_two_replays_at_once_send_once(
    receiver: WebhookReceiver, endpoint: Endpoint, tenant: Tenant, *, is_anew: bool
) -> None:
    make_deposits(tenant, 60)
    die()
    late = Endpoint.objects.create(url=receiver.url, event_types=["core.deposit.created"])
    within = lately()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            failed(within, size=7, is_anew=is_anew)
            missing(late, within, size=7, is_anew=is_anew)
        except BaseException as error:  # noqa: BLE001  # told below
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert errors == []
    deliver_now()

    heard = Counter((each.headers["webhook-id"], each.body) for each in receiver.requests)
    assert sum(heard.values()) == 120
    if is_anew:
        assert set(Counter(each.json["data"]["id"] for each in receiver.requests).values()) == {2}


def test_h79_goes_on_where_a_process_was_killed(
    receiver: WebhookReceiver, endpoint: Endpoint, tenant: Tenant
) -> None:
    make_deposits(tenant, 40)
    lucky = Delivery.objects.order_by("pk")[:10].values_list("pk", flat=True)
    Delivery.objects.filter(pk__in=list(lucky)).update(
        state="delivered", due_at=None, settled_at=timezone.now()
    )
    assert die(state="waiting") == 30
    command = [
        sys.executable,
        "-c",
        _SETUP + "from django.core.management import call_command\n"
        "call_command('webhooks_replay', *sys.argv[1:])\n",
        "--failed-since",
        "1h",
    ]
    process = subprocess.Popen(  # noqa: S603  # our own code
        [*command, "--rate", "10"], env=environment(), stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: Delivery.objects.filter(state="waiting").exists())
    process.kill()
    _, said = process.communicate(timeout=30)
    first = Delivery.objects.filter(state="waiting").count()
    deliver_now()
    # What has died again since is not for the second run.
    die(state="delivered", attempts__isnull=False)
    Delivery.objects.filter(attempts__isnull=False).update(settled_at=database_now("default"))
    until = said.split("--until ")[1].split()[0]
    out = StringIO()
    call_command("webhooks_replay", "--failed-since", "1h", "--until", until, stdout=out)
    deliver_now()

    assert process.returncode == -signal.SIGKILL
    assert 0 < first < 30
    assert int(out.getvalue()) == 30 - first
    assert set(sent(receiver).values()) == {1}
    assert len(receiver.requests) == 30


def test_a_span_ends_by_the_clock_of_the_database() -> None:
    since = datetime(2026, 1, 1, tzinfo=timezone.get_current_timezone())

    within = replay.span(since, using="default")

    assert within.since == since
    assert abs(within.until - database_now("default")) < timedelta(seconds=10)


def test_what_is_said_anew_to_an_endpoint_with_ordering_waits_for_its_turn(
    receiver: WebhookReceiver, endpoint: Endpoint, tenant: Tenant
) -> None:
    Endpoint.objects.update(ordering="object", on_dead="block")
    make_deposits(tenant, 1)
    (first,) = Delivery.objects.all()
    die()
    deposit = Deposit.objects.get()
    deposit.amount = 5
    deposit.save()
    deliver_now()
    assert receiver.requests == []

    assert failed(is_anew=True) == [Lot(1, 1)]
    anew = Delivery.objects.get(event=Delivery.objects.get(pk=first.pk).replaced_by)
    assert (anew.lane, anew.order_key is None) == (Delivery.Lane.ORDERED, False)
    deliver_now()

    # The dead one is not waited for any more, and the new one has the highest number.
    assert [each.headers["webhook-sequence"] for each in receiver.requests] == ["2", "3"]


def test_one_that_a_worker_holds_is_not_lost_when_it_is_replayed(
    receiver: WebhookReceiver, endpoint: Endpoint, tenant: Tenant
) -> None:
    make_deposits(tenant, 1)
    now = database_now("default")
    Delivery.objects.update(leased_at=now, due_at=now + HOUR, is_by_hand=True, lane=3)
    (delivery,) = Delivery.objects.all()

    replay.replay_one(delivery.pk, using="default")
    deliver_now()

    delivery.refresh_from_db()
    assert (delivery.state, delivery.lane) == ("delivered", Delivery.Lane.RETRY)
    assert [each.status for each in delivery.attempts.all()] == [200]
