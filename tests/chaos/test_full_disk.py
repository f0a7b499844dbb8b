"""B26: there is no room left, as the database itself says it; and then there is."""

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from drf_webhooks.models import Attempt, Delivery, Endpoint
from drf_webhooks.session import disable_webhooks
from tests.app.models import Deposit
from tests.chaos.harness import Chaos, wait_until
from tests.factories import make_deposit
from tests.test_session import names

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.chaos]

on_sqlite = pytest.mark.skipif(connection.vendor != "sqlite", reason="limits a file of SQLite")


def pragma(what: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA {what}")
        return int(cursor.fetchone()[0])


@contextmanager
def full() -> Iterator[None]:
    """Let SQLite's file not grow by a page; it says SQLITE_FULL."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM")
    pages = pragma("page_count")
    assert pragma("freelist_count") == 0
    assert pragma(f"max_page_count = {pages}") == pages
    try:
        yield
    finally:
        pragma("max_page_count = 1000000")


@pytest.fixture(autouse=True)
def messages_are_as_documented() -> None:
    """They are not here: the name is longer than its column, which SQLite bears."""


@pytest.fixture
def deposit(transactional_db: None) -> Deposit:
    """One whose form needs pages of its own, and whose row does not."""
    with disable_webhooks():
        deposit = make_deposit()
        deposit.tenant.name = "x" * 20_000
        deposit.tenant.save()
    return deposit


@on_sqlite
@pytest.mark.parametrize("chosen", ["raise", "park"])
@pytest.mark.parametrize("in_block", [False, True], ids=["autocommit", "atomic"])
def test_b26_without_room_for_its_event_a_change_fails(
    deposit: Deposit, everything: Endpoint, settings: Any, chosen: str, in_block: bool
) -> None:
    """SQLite undoes the whole transaction then: there is nothing that an event is parked beside."""
    settings.DRF_WEBHOOKS = {**settings.DRF_WEBHOOKS, "ON_RECORDING_ERROR": chosen}

    block = transaction.atomic() if in_block else nullcontext()
    with full(), pytest.raises(OperationalError, match="database or disk is full"), block:
        Deposit.objects.update(amount=7)

    deposit.refresh_from_db()
    assert deposit.amount == 100
    assert names() == []
    deposit.save()
    assert names() == ["updated"]


@contextmanager
def ballast(pages: int) -> Iterator[None]:
    """Take all the room that there is, in pieces that get smaller, and give it back."""
    pragma(f"max_page_count = {pages}")
    with connection.cursor() as cursor:
        for size in (100_000, 3_000, 100, 1):
            with pytest.raises(OperationalError, match="full"):
                while True:
                    cursor.execute("INSERT INTO ballast VALUES (zeroblob(%s))", [size])
    yield
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM ballast")
    pragma("max_page_count = 1000000")


@on_sqlite
def test_b26_a_worker_without_room_for_results_keeps_them_until_there_is(
    deposit: Deposit, tmp_path: Path
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE ballast (content)")
    options = connection.settings_dict["OPTIONS"]
    pages, log = pragma("page_count") + 300, tmp_path / "log"
    start = f"{options['init_command']} PRAGMA max_page_count={pages}"
    try:
        with Chaos.world(database={"OPTIONS": {**options, "init_command": start}}) as chaos:
            Deposit.objects.bulk_create([Deposit(tenant=deposit.tenant) for _ in range(5)])
            # Kept in the log of attempts.
            chaos.receiver.respond(body=b"x" * 4096)
            with ballast(pages):
                worker = chaos.worker(log=log)
                chaos.receiver.wait_for(5)
                wait_until(lambda: "disk is full" in log.read_text(), "a full disk")
                settled = Delivery.objects.exclude(state="waiting").count()
            wait_until(chaos.is_at_rest, "the worker that had no room")
            is_over = worker.is_over()
            worker.signal(signal.SIGTERM)
            worker.wait()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE ballast")

    assert (settled, is_over) == (0, False)
    assert Counter(each.headers["webhook-id"] for each in chaos.receiver.requests).total() == 5
    assert Attempt.objects.filter(status=200).count() == 5
