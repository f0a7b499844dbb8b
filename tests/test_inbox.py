"""The receiver's inbox: each webhook is handled once, in the transaction that notes it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction

from tests.app.models import Address, Received

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.security]


class BrokenError(Exception):
    """What a handler raises."""


def handle(webhook_id: str, street: str = "Main Street 1") -> bool:
    with Received.once(webhook_id) as is_new:
        if is_new:
            Address.objects.create(street=street)
    return is_new


def test_a_webhook_is_handled_once() -> None:
    assert [handle("evt_1"), handle("evt_1"), handle("evt_2")] == [True, False, True]

    assert Address.objects.count() == 2
    assert {str(each) for each in Received.objects.all()} == {"evt_1", "evt_2"}


def test_what_could_not_be_handled_is_new_when_it_comes_again() -> None:
    def fail() -> None:
        with Received.once("evt_1") as is_new:
            assert is_new
            Address.objects.create(street="x")
            raise BrokenError

    with pytest.raises(BrokenError):
        fail()
    assert not Received.objects.exists()
    assert not Address.objects.exists()

    assert handle("evt_1")


def test_it_belongs_to_a_transaction_that_is_open() -> None:
    def fail() -> None:
        with transaction.atomic():
            assert handle("evt_1")
            raise BrokenError

    with pytest.raises(BrokenError):
        fail()

    assert handle("evt_1")


def test_ids_differ_by_each_character() -> None:
    ids = ["evt_a", "evt_A", "evt_a ", "x" * 201, "x" * 202, "x" * 200, "é" * 5000]

    assert all(handle(each) for each in ids)
    assert not any(handle(each) for each in ids)


def test_of_requests_at_the_same_time_one_handles_it() -> None:
    together = threading.Barrier(4)

    def receive(number: int) -> bool:
        try:
            together.wait()
            return handle("evt_1", str(number))
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(receive, range(4)))

    assert sorted(found) == [False, False, False, True]
    assert Address.objects.count() == 1
