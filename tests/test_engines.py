"""What an engine's tasks call, and an engine of a project's own."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from django.conf import settings
from django.db import connection, connections, transaction
from django.test import override_settings
from django.utils import timezone

from drf_webhooks import pipeline
from drf_webhooks.delivery.slots import Slots
from drf_webhooks.engines import deliver, flush, sweep
from drf_webhooks.housekeeping import forget
from drf_webhooks.models import Delivery, Endpoint, Event, Notice
from drf_webhooks.session import disable_webhooks, webhook_signal_session
from drf_webhooks.testing import WebhookReceiver
from tests.app.models import Deposit
from tests.delivery.test_worker import make_deliveries
from tests.factories import make_deposit

pytestmark = pytest.mark.django_db(transaction=True)


class OfOurOwn:
    """An engine as a project may write it: a thread for each wake-up."""

    threads: ClassVar[list[threading.Thread]] = []

    def wake(self, using: str) -> None:
        thread = threading.Thread(target=self.run, args=(using,))
        self.threads.append(thread)
        thread.start()

    def run(self, using: str) -> None:
        while deliver(using):
            pass
        connections.close_all()


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as receiver:
        yield receiver


def with_settings(**more: Any) -> Any:
    return override_settings(DRF_WEBHOOKS={**settings.DRF_WEBHOOKS, **more})


def test_a_sweep_tells_of_endpoints_and_forgets_what_is_old() -> None:
    endpoint = make_deliveries(1)
    Delivery.objects.update(state="delivered", due_at=None, settled_at=timezone.now())
    old = timezone.now() - timedelta(days=100)
    Event.objects.update(created_at=old, recheck_at=None)
    Notice.objects.create(endpoint=endpoint, kind="failing", created_at=timezone.now(), due_at=old)

    sweep()

    assert not Event.objects.filter(created_at=old).exists()
    assert Notice.objects.get().due_at is None


def test_a_sweep_forgets_for_a_limited_time_and_only_if_it_may() -> None:
    make_deliveries(3)
    Delivery.objects.update(state="delivered", due_at=None, settled_at=timezone.now())
    Event.objects.update(created_at=timezone.now() - timedelta(days=100), recheck_at=None)

    with with_settings(PRUNE_IN_WORKER=False):
        sweep()
    assert Event.objects.count() == 3

    forget("default", limit=timedelta(0))
    forget("default", limit=timedelta(minutes=1))
    assert not Event.objects.exists()


def test_an_engine_of_a_projects_own_delivers(receiver: WebhookReceiver) -> None:
    with disable_webhooks():
        tenant = make_deposit().tenant
    Endpoint.objects.create(url=receiver.url, event_types=["core.deposit.created"])

    with with_settings(ENGINE=f"{__name__}.OfOurOwn"):
        for amount in range(3):
            with transaction.atomic():
                Deposit.objects.create(tenant=tenant, amount=amount)
        receiver.wait_for(3)
        assert flush()
        for each in OfOurOwn.threads:
            each.join(10)

    assert {each.json["data"]["amount"] for each in receiver.requests} == {"0.00", "1.00", "2.00"}
    assert set(Delivery.objects.values_list("state", flat=True)) == {"delivered"}


def test_nothing_is_sent_inside_an_open_transaction(receiver: WebhookReceiver) -> None:
    make_deliveries(1, receiver.url)
    OfOurOwn.threads.clear()

    with with_settings(ENGINE=f"{__name__}.OfOurOwn"):
        with transaction.atomic():
            assert not deliver()
            assert flush()
            assert receiver.requests == []
        receiver.wait_for(1)
        for each in OfOurOwn.threads:
            each.join(10)


def test_whoever_finds_no_slot_leaves(receiver: WebhookReceiver) -> None:
    make_deliveries(1, receiver.url)

    with with_settings(ENGINE_CONCURRENCY=1), Slots("default", 1).take():
        assert not deliver()

    assert receiver.requests == []
    assert not deliver()
    assert len(receiver.requests) == 1


class Counting:
    """A source of changes that has none, and counts how often it is asked: once in a shift."""

    asked = 0

    def complete(self, *_: object) -> None:
        """Add nothing."""

    def relay(self, _: str) -> int:
        self.asked += 1
        return 0


@pytest.fixture
def source() -> Iterator[Counting]:
    source = Counting()
    pipeline.sources.append(source)
    yield source
    pipeline.sources.remove(source)


@pytest.mark.parametrize("is_asked", [True, False])
def test_whoever_left_has_the_other_look_once_more(source: Counting, *, is_asked: bool) -> None:
    """It may have come after the other's last look, and before it gave back its slot."""
    left: list[bool] = []

    class Late(WebhookReceiver):
        """Is asked while its sender holds the slot."""

        def _wait(self, length: timedelta) -> None:
            if is_asked:
                left.append(deliver())
                connections.close_all()

    hour = timedelta(hours=1)
    with Late() as late, with_settings(ENGINE_CONCURRENCY=1, POLL_INTERVAL=hour):
        make_deliveries(1, late.url)
        assert not deliver()

    assert left == ([False] if is_asked else [])
    assert source.asked == (2 if is_asked else 1)


def test_a_task_that_makes_way_says_that_there_is_more(receiver: WebhookReceiver) -> None:
    receiver.respond(delay=timedelta(milliseconds=300))
    make_deliveries(12, receiver.url)

    with with_settings(ENGINE_TIME_LIMIT=timedelta(milliseconds=200)):
        assert deliver()

    receiver.respond(200)
    assert not deliver()
    assert len(receiver.requests) == 12


def test_a_sweep_releases_what_a_session_has_held_for_too_long() -> None:
    Endpoint.objects.create(url="https://a.example/", event_types=["core.deposit.*"])
    with disable_webhooks():
        deposit = make_deposit()
    with webhook_signal_session():
        deposit.save()
        Event.objects.update(held_until=timezone.now() - timedelta(seconds=1))
        assert sweep() == 1

    assert Delivery.objects.count() == 1
    assert connection.in_atomic_block is False
