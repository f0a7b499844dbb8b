"""Faults that take real processes or two connections; the letters are those of the list of faults.

The rest of the list is tested beside what it concerns: docs/explanation/guarantees.md says where.
"""

import threading
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group
from django.db import IntegrityError, OperationalError, connection, connections, transaction
from django.db.migrations.state import ProjectState

from drf_webhooks.models import Attempt, Delivery, Endpoint, Event
from drf_webhooks.session import disable_webhooks
from drf_webhooks.testing import WebhookReceiver, deliver_now
from tests.app.models import Deposit
from tests.chaos.harness import Chaos, wait_until
from tests.chaos.test_chaos import KILLS
from tests.factories import make_deposit
from tests.test_session import names, said

pytestmark = pytest.mark.django_db(transaction=True)

needs_a_server = pytest.mark.skipif(connection.vendor == "sqlite", reason="it has no server")


@pytest.fixture
def deposit() -> Deposit:
    with disable_webhooks():
        return make_deposit()


def test_a6_what_is_delivered_is_there_for_everybody(deposit: Deposit) -> None:
    """A6: the receiver asks for the object while the request is in the air."""
    found: list[bool] = []

    class Curious(WebhookReceiver):
        def _wait(self, length: timedelta) -> None:
            key = self.requests[-1].json["data"]["id"]
            found.append(Deposit.objects.filter(pk=key).exists())
            connections.close_all()

    with Curious() as receiver:
        Endpoint.objects.create(url=receiver.url, event_types=["*"])
        Deposit.objects.create(tenant=deposit.tenant)
        deliver_now()

    assert found == [True]


def test_a14_migrations_say_nothing(deposit: Deposit, everything: Endpoint) -> None:
    """A14: their models are not the project's."""
    model = ProjectState.from_apps(apps).apps.get_model("core", "Deposit")

    model.objects.update(note="migrated")
    model.objects.create(tenant_id=deposit.tenant_id)
    model.objects.get(pk=deposit.pk).save()

    assert said() == []


def test_a16_what_was_said_before_an_object_went_is_still_delivered(deposit: Deposit) -> None:
    """A16: its form is in the event, not in its row."""
    with WebhookReceiver() as receiver:
        Endpoint.objects.create(url=receiver.url, event_types=["*"])
        deposit.note = "last words"
        deposit.save()
        deposit.delete()
        deliver_now()

    bodies = sorted((each.json for each in receiver.requests), key=lambda each: each["sequence"])
    assert [each["type"] for each in bodies] == ["core.deposit.updated", "core.deposit.deleted"]
    assert bodies[0]["data"]["note"] == "last words"


def retried(pk: int, isolation: str, times: int) -> None:
    """Raise an amount in transactions that the database may refuse, until it does not."""
    done = 0
    while done < times:
        try:
            if connection.vendor == "mysql":
                with connection.cursor() as cursor:
                    cursor.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {isolation}")
            with transaction.atomic():
                if connection.vendor == "postgresql":
                    with connection.cursor() as cursor:
                        cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
                # Locked, for MariaDB lets a snapshot be written over.
                deposit = Deposit.objects.select_for_update().get(pk=pk)
                deposit.amount += 1
                deposit.save()
            done += 1
        except OperationalError:
            continue
    connections.close_all()


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a17_what_is_retried_is_said_once(
    deposit: Deposit, everything: Endpoint, isolation: str
) -> None:
    """A17: exactly one event for each change that was committed."""
    Deposit.objects.filter(pk=deposit.pk).update(amount=0)
    Event.objects.all().delete()
    threads = [threading.Thread(target=retried, args=(deposit.pk, isolation, 10)) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)

    events = Event.objects.order_by("sequence")
    assert [int(float(each.data["amount"])) for each in events] == list(range(1, 31))
    assert len({each.sequence for each in events}) == 30


def drop_connections() -> None:
    """End every other connection to this database, as its restart does."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return
        cursor.execute(
            "SELECT id FROM information_schema.processlist "
            "WHERE db = database() AND id <> connection_id()"
        )
        for (number,) in cursor.fetchall():
            cursor.execute(f"KILL {number}")


@needs_a_server
def test_b21_b26_connections_that_drop_while_requests_are_in_the_air() -> None:
    """B21, B26: nothing is lost, at most one duplicate each, and the worker goes on."""
    with Chaos.world() as chaos:
        chaos.receiver.respond(delay=timedelta(milliseconds=300))
        worker = chaos.worker()
        for seed in range(3):
            chaos.writer(seed).wait()
        chaos.receiver.wait_for(1)
        drop_connections()
        chaos.receiver.respond()
        wait_until(chaos.is_at_rest, "the worker that was cut off")
        is_over = worker.is_over()
        worker.signal(15)
        worker.wait()
        books = chaos.rest()

    assert books.wrong == {}
    assert not is_over
    again = Counter(each.headers["webhook-id"] for each in chaos.receiver.requests)
    assert max(again.values()) <= 2


def read(log: Path) -> str:
    return log.read_text() if log.exists() else ""


def test_b22_many_workers_send_each_delivery_once(
    deposit: Deposit, tmp_path: Path, record_property: Any
) -> None:
    """B22, B30: each has one success, and no worker starves."""
    number, size = (10, 10_000) if KILLS >= 200 else (4, 300)
    logs = [tmp_path / str(each) for each in range(number)]
    patient = {"REQUEST_TIMEOUT": {"seconds": 20}, "LEASE": {"seconds": 60}}
    with Chaos.world(**patient) as chaos:
        chaos.receiver.respond(delay=timedelta(milliseconds=100))
        workers = [chaos.worker(log=each) for each in logs]
        wait_until(lambda: all("Delivering" in read(each) for each in logs), "the workers")
        Deposit.objects.bulk_create([Deposit(tenant=deposit.tenant) for _ in range(size)])
        started = time.monotonic()
        wait_until(chaos.is_at_rest, "all deliveries", seconds=600)
        seconds = time.monotonic() - started
        for each in workers:
            each.signal(15)
            each.wait()
        shares = [int(read(each).rpartition("Stopped after ")[2].split()[0]) for each in logs]
        record_property("chaos", {"deliveries": size, "seconds": round(seconds)})
        sent = Counter(each.headers["webhook-id"] for each in chaos.receiver.requests)
        successes = Attempt.objects.filter(status=200, delivery__endpoint=chaos.endpoint)

    assert set(sent.values()) == {1}
    assert len(sent) == successes.count() == successes.values("delivery").distinct().count()
    assert len(sent) == sum(shares) == size
    assert min(shares) > 0


def test_b23_what_nobody_was_notified_of_is_found_by_polling(deposit: Deposit) -> None:
    """B23: a delivery that becomes due without a word to the worker."""
    with Chaos.world() as chaos:
        with disable_webhooks():
            Group.objects.create(name="unrelated")
        Deposit.objects.create(tenant=deposit.tenant, amount=1)
        Delivery.objects.update(state="delivered", due_at=None)
        worker = chaos.worker()
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE drf_webhooks_delivery SET state = 'waiting', due_at = created_at"
            )
        chaos.receiver.wait_for(1)
        worker.signal(15)
        worker.wait()

    assert len(chaos.receiver.requests) == 1


def test_b30_an_event_has_one_delivery_to_an_endpoint(
    deposit: Deposit, everything: Endpoint
) -> None:
    """B30: whoever makes deliveries twice is refused by the database."""
    deposit.save()
    delivery = Delivery.objects.get()

    with pytest.raises(IntegrityError), transaction.atomic():
        delivery.pk = None
        delivery.save(force_insert=True)

    assert names() == ["updated"]


def test_b31_rows_hold_no_code(deposit: Deposit, everything: Endpoint) -> None:
    """B31: what another version reads is text, numbers, times and JSON."""
    deposit.save()

    rows: list[dict[str, Any]] = list(Event.objects.values())
    (row,) = rows
    assert bytes(row["body"]).startswith(b'{"type":"core.deposit.updated"')
    assert row["resource"] == "core.deposit"


def test_e60_ten_workers_keep_the_order_of_each_object(deposit: Deposit) -> None:
    """E60, E63: with failures; what succeeds counts up, and nothing is left out."""
    with Chaos.world() as chaos:
        Endpoint.objects.filter(pk=chaos.endpoint.pk).update(
            ordering="object", event_types=["core.deposit.*"]
        )
        workers = [chaos.worker() for _ in range(10)]
        deposits = [Deposit(tenant=deposit.tenant, amount=0) for _ in range(6)]
        for turn in range(6):
            chaos.receiver.respond(500, times=4)
            for each in deposits:
                each.amount = turn
                each.save()
        wait_until(chaos.is_at_rest, "all deliveries")
        for worker in workers:
            worker.signal(15)
        for worker in workers:
            worker.wait()
        rows = Attempt.objects.filter(delivery__endpoint=chaos.endpoint).order_by("started_at")
        attempts = list(
            rows.values_list("delivery__event__object_key", "delivery__event__sequence", "status")
        )

    assert any(status == 500 for _, _, status in attempts)
    for each in deposits:
        tried = [(number, status) for key, number, status in attempts if key == str(each.pk)]
        assert [number for number, status in tried if status == 200] == [1, 2, 3, 4, 5, 6]
        assert tried == sorted(tried, key=lambda one: one[0] or 0)


@needs_a_server
def test_e62_what_is_committed_later_with_a_lower_number_is_not_passed_over(
    deposit: Deposit,
) -> None:
    """E62: a claim goes by what is due, not by where it was."""
    begun, may_commit = threading.Event(), threading.Event()

    def first() -> None:
        with transaction.atomic():
            Deposit.objects.create(tenant=deposit.tenant, amount=1)
            # Its rows are written when its session ends, in the open transaction.
            begun.set()
            may_commit.wait(30)
        connections.close_all()

    with WebhookReceiver() as receiver:
        Endpoint.objects.create(url=receiver.url, event_types=["core.deposit.*"])
        writer = threading.Thread(target=first)
        writer.start()
        begun.wait(30)
        other = Deposit.objects.create(tenant=deposit.tenant, amount=2)
        assert deliver_now() == 1
        may_commit.set()
        writer.join(30)
        assert deliver_now() == 1

    keys = [each.json["data"]["id"] for each in receiver.requests]
    assert keys[0] == other.pk
    assert len(set(keys)) == 2


@pytest.mark.parametrize("count", [10, 10_000])
def test_e66_an_event_for_very_many_endpoints(
    deposit: Deposit, count: int, django_assert_max_num_queries: Any
) -> None:
    """E66: one row of the event, and with more endpoints two statements more at most."""
    Endpoint.objects.bulk_create(
        [Endpoint(url="https://a.example/", event_types=["core.deposit.*"]) for _ in range(count)],
        batch_size=2000,
    )

    with django_assert_max_num_queries(14):
        deposit.save()

    assert Event.objects.count() == 1
    assert Delivery.objects.count() == count
