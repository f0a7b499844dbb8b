"""The feed: nobody who has read up to a place has missed anything before it."""

import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, connections, transaction

from drf_webhooks import endpoints, feed
from drf_webhooks.models import Delivery, Endpoint, Feed
from drf_webhooks.session import disable_webhooks
from tests.app.models import Deposit, Tenant
from tests.e2e.test_death import run
from tests.factories import make_deposit

pytestmark = pytest.mark.django_db(transaction=True)

several_writers = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="it has one writer at a time"
)


@pytest.fixture
def endpoint(db: None) -> Endpoint:
    return Endpoint.objects.create(url="https://a.example/", event_types=["core.deposit.*"])


@pytest.fixture
def tenant(db: None) -> Tenant:
    with disable_webhooks():
        return make_deposit().tenant


class Other:
    """Does what it is told, in a thread with a connection of its own."""

    def __init__(self) -> None:
        self._may_end, self._is_done = threading.Event(), threading.Event()

    @contextmanager
    def holding(self, act: Any) -> Iterator[None]:
        """Keep a transaction open in which something was done, for as long as the block."""
        thread = threading.Thread(target=self._run, args=(act,))
        thread.start()
        assert self._is_done.wait(10)
        try:
            yield
        finally:
            self._may_end.set()
            thread.join(10)

    def _run(self, act: Any) -> None:
        try:
            with transaction.atomic():
                act()
                self._is_done.set()
                assert self._may_end.wait(10)
        finally:
            connections.close_all()


def read(endpoint: Endpoint, after: int = 0) -> list[tuple[int, int]]:
    """Read as the API does: places, and keys of deliveries."""
    while feed.extend(endpoint.pk, 50, using="default"):
        pass
    rows = Delivery.objects.filter(endpoint=endpoint, position__gt=after).order_by("position")
    return list(rows.values_list("position", "pk"))


@several_writers
def test_a_late_commit_comes_after_all_that_was_read(endpoint: Endpoint, tenant: Tenant) -> None:
    # Written at once, and not before the commit as what signals notice.
    with Other().holding(lambda: endpoints.send_test(endpoint)):
        early = Deposit.objects.create(tenant=tenant, amount=2)
        [(place, key)] = read(endpoint)
        assert Delivery.objects.get(pk=key).event.object_key == str(early.pk)

    [(late_place, late_key)] = read(endpoint, after=place)

    assert late_place > place
    # The very case that an order by keys would lose.
    assert late_key < key


@several_writers
def test_what_a_worker_is_writing_holds_back_only_what_comes_after_it(
    endpoint: Endpoint, tenant: Tenant
) -> None:
    for amount in range(3):
        Deposit.objects.create(tenant=tenant, amount=amount)
    first, second, third = Delivery.objects.order_by("pk").values_list("pk", flat=True)

    held = Delivery.objects.filter(pk=second)
    with Other().holding(lambda: held.update(attempt_count=1)):
        assert read(endpoint) == [(1, first)]
        assert feed.has_more(endpoint.pk, using="default")

    assert read(endpoint, after=1) == [(2, second), (3, third)]
    assert not feed.has_more(endpoint.pk, using="default")


def test_of_many_writers_nothing_is_skipped_and_objects_keep_their_order(
    endpoint: Endpoint, tenant: Tenant
) -> None:
    deposits = [Deposit.objects.create(tenant=tenant, amount=0) for _ in range(3)]
    failures: list[BaseException] = []

    def write(seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311  # a test
        try:
            for number in range(12):
                with transaction.atomic():
                    for each in chance.sample(deposits, 2 if number % 3 == 0 else 1):
                        # In one order, so that writers do not lock each other out.
                        Deposit.objects.filter(pk=each.pk).update(amount=number * 10 + seed)
        except Exception as error:  # noqa: BLE001  # told at the end
            failures.append(error)
        finally:
            connections.close_all()

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(1, 4)]
    for each in writers:
        each.start()
    heard: list[tuple[int, int]] = []
    while any(each.is_alive() for each in writers):
        heard += read(endpoint, after=heard[-1][0] if heard else 0)
    heard += read(endpoint, after=heard[-1][0] if heard else 0)

    # Two writers may wait for each other's rows; what was rolled back said nothing.
    assert all("eadlock" in str(each) for each in failures)
    assert [place for place, _ in heard] == list(range(1, len(heard) + 1))
    assert {key for _, key in heard} == set(Delivery.objects.values_list("pk", flat=True))
    sequences: dict[str, list[int]] = {}
    for _, key in heard:
        event = Delivery.objects.select_related("event").get(pk=key).event
        sequences.setdefault(event.object_key, []).append(event.sequence)
    assert all(each == sorted(each) for each in sequences.values())


def test_readers_at_the_same_time_give_each_place_once(endpoint: Endpoint, tenant: Tenant) -> None:
    with transaction.atomic():
        for amount in range(40):
            Deposit.objects.create(tenant=tenant, amount=amount)
    found: list[list[tuple[int, int]]] = []
    start = threading.Barrier(4)

    def look() -> None:
        try:
            start.wait(10)
            while feed.has_more(endpoint.pk, using="default"):
                feed.extend(endpoint.pk, 7, using="default")
            found.append(read(endpoint))
        finally:
            connections.close_all()

    readers = [threading.Thread(target=look) for _ in range(4)]
    for each in readers:
        each.start()
    for each in readers:
        each.join(30)

    assert len(found) == 4
    assert all(each == found[0] for each in found)
    assert [place for place, _ in found[0]] == list(range(1, 41))
    assert Feed.objects.get().last == 40


def test_no_more_places_are_given_than_are_asked_for(endpoint: Endpoint, tenant: Tenant) -> None:
    for amount in range(3):
        Deposit.objects.create(tenant=tenant, amount=amount)

    assert feed.extend(endpoint.pk, 2, using="default") == 2
    assert feed.extend(endpoint.pk, 2, using="default") == 1
    assert feed.extend(endpoint.pk, 2, using="default") == 0
    assert str(Feed.objects.get()) == f"{endpoint.pk} 3"


def test_a_place_that_is_lost_in_a_rollback_is_given_again(
    endpoint: Endpoint, tenant: Tenant
) -> None:
    Deposit.objects.create(tenant=tenant, amount=1)
    with transaction.atomic():
        feed.extend(endpoint.pk, 2, using="default")
        transaction.set_rollback(True)

    assert [place for place, _ in read(endpoint)] == [1]


@pytest.mark.parametrize(
    "last",
    [
        pytest.param("INSERT INTO drf_webhooks_feed", id="the feed is locked"),
        pytest.param("FROM drf_webhooks_delivery", id="it has looked for what has no place"),
        pytest.param("UPDATE drf_webhooks_delivery", id="places are given"),
        pytest.param("UPDATE drf_webhooks_feed", id="before the commit"),
        pytest.param("nothing", id="after the commit, before the answer"),
    ],
)
def test_whenever_a_reader_is_killed_nothing_is_skipped_and_places_stay(
    endpoint: Endpoint, tenant: Tenant, last: str
) -> None:
    for amount in range(5):
        Deposit.objects.create(tenant=tenant, amount=amount)
    keys = list(Delivery.objects.order_by("pk").values_list("pk", flat=True))
    assert feed.extend(endpoint.pk, 2, using="default") == 2

    ended = run(f"""
        import uuid
        from drf_webhooks import feed

        def deadly(execute, sql, *rest):
            result = execute(sql, *rest)
            if {last!r} in sql.replace('"', "").replace("`", ""):
                die()
            return result

        with connection.execute_wrapper(deadly):
            feed.extend(uuid.UUID({endpoint.pk.hex!r}), 2, using="default")
        assert {last!r} == "nothing"
        die()
    """)

    assert ended == -signal.SIGKILL
    given = dict(Delivery.objects.exclude(position=None).values_list("position", "pk"))
    assert len(given) == (4 if last == "nothing" else 2)
    assert Feed.objects.get().last == len(given)
    # Who had read up to the second one goes on from there, and who had nothing begins at 0.
    assert read(endpoint, after=2) == [(3, keys[2]), (4, keys[3]), (5, keys[4])]
    assert read(endpoint) == [*enumerate(keys, 1)]
