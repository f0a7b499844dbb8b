"""B28: behind a PgBouncer that pools transactions, nothing needs the state of a connection."""

import logging
import random
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.db import connection, transaction

from drf_webhooks.delivery.wakeup import Listener
from drf_webhooks.models import Delivery, Endpoint
from drf_webhooks.session import disable_webhooks, webhook_signal_session
from tests.app.models import Deposit
from tests.chaos.harness import Chaos
from tests.chaos.servers import moved, pooled
from tests.factories import make_deposit
from tests.test_session import said

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.chaos,
    pytest.mark.skipif(connection.vendor != "postgresql", reason="PgBouncer is for PostgreSQL"),
]

SERVERS = 3


@pytest.fixture
def pool(transactional_db: None) -> Iterator[None]:
    with pooled(servers=SERVERS) as place, moved(**place):
        yield


def on_each_server(statement: str) -> list[Any]:
    """Ask each connection of the pool, in transactions that are open at once."""
    found = []
    with ExitStack() as stack:
        for _ in range(SERVERS):
            client = connection.copy()
            client.inc_thread_sharing()
            stack.callback(client.close)
            client.set_autocommit(False)
            stack.callback(client.rollback)
            cursor = stack.enter_context(client.cursor())
            cursor.execute(f"SELECT pg_backend_pid(), ({statement})")
            found.append(cursor.fetchone())
    assert len({pid for pid, _ in found}) == SERVERS
    return [value for _, value in found]


def test_b28_writers_and_workers_share_few_connections(pool: None, record_property: Any) -> None:
    chance = random.Random(1)  # noqa: S311  # a program, no secret
    with Chaos.world(is_private=True) as chaos:
        workers = [chaos.worker(), chaos.worker(fatal=40)]
        for _ in range(2):
            writers = [chaos.writer(chance.randrange(10**6), units=6) for _ in range(4)]
            writers.append(chaos.writer(chance.randrange(10**6), fatal=30, is_after=True))
            for each in writers:
                each.wait()
        for each in workers:
            each.signal(signal.SIGTERM)
            each.wait()
        books = chaos.rest()
        record_property("chaos", {"kills": chaos.kills, **books.totals})
        listening = on_each_server("SELECT count(*) FROM pg_listening_channels()")

    assert books.wrong == {}
    assert listening == [0] * SERVERS


def test_b28_a_worker_behind_a_pool_polls_and_says_so(
    pool: None, caplog: pytest.LogCaptureFixture
) -> None:
    listener = Listener("default", lambda: None)

    listener.connect()
    listener.connect()
    listener.close()

    assert [each.levelno for each in caplog.records] == [logging.WARNING]
    assert "'default' is behind a pool of connections" in caplog.text
    assert on_each_server("SELECT count(*) FROM pg_listening_channels()") == [0] * SERVERS


def test_b28_a_session_of_several_transactions_on_several_connections(
    pool: None, everything: Endpoint
) -> None:
    on_each_server("SELECT 1")
    used = set()

    def note_server() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            used.add(cursor.fetchone())

    with disable_webhooks():
        deposit = make_deposit()
    with webhook_signal_session():
        for amount in range(SERVERS):
            with transaction.atomic():
                note_server()
                deposit.amount = amount
                deposit.save()
                with pytest.raises(ZeroDivisionError), transaction.atomic():
                    Deposit.objects.create(tenant=deposit.tenant)
                    raise ZeroDivisionError

    assert len(used) == SERVERS
    assert [(name, data["amount"]) for name, data in said()] == [("updated", "2.00")]
    assert Delivery.objects.count() == 1
