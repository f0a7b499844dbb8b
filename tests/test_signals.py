"""Signals of attempts: once for a lot, after its commit, and harmless."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.dispatch import Signal

from drf_webhooks.delivery.results import settle
from drf_webhooks.models import Attempt, Delivery, Endpoint
from drf_webhooks.signals import SettledAttempt, attempts_settled, worker_started
from drf_webhooks.testing import WebhookReceiver, deliver_now
from tests.delivery.test_worker import claim, make_deliveries, result
from tests.management.test_commands import run

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def received(signal: Signal) -> Iterator[list[dict[str, Any]]]:
    heard: list[dict[str, Any]] = []

    def receive(**sent: Any) -> None:
        heard.append({**sent, "is_open": connection.in_atomic_block})

    signal.connect(receive)
    try:
        yield heard
    finally:
        signal.disconnect(receive)


def test_a_lot_is_told_once_after_its_commit() -> None:
    with WebhookReceiver() as receiver, received(attempts_settled) as heard:
        receiver.respond(500, times=1)
        endpoint = make_deliveries(3, receiver.url)
        deliver_now()

    (told,) = heard
    assert (told["sender"], told["using"], told["refused"]) == (Delivery, "default", 0)
    assert not told["is_open"]
    attempts: tuple[SettledAttempt, ...] = told["attempts"]
    assert {each.delivery for each in attempts} == set(
        Delivery.objects.values_list("pk", flat=True)
    )
    assert sorted((each.state, each.status) for each in attempts) == [
        ("delivered", 200),
        ("delivered", 200),
        ("waiting", 500),
    ]
    assert {(each.endpoint, each.number, each.error) for each in attempts} == {(endpoint.pk, 1, "")}
    assert all(each.duration > timedelta(0) for each in attempts)
    assert {each.message_id for each in attempts} == {
        each.headers["webhook-id"] for each in receiver.requests
    }


def test_what_came_too_late_is_counted() -> None:
    make_deliveries(1)
    (first,) = claim()
    Delivery.objects.update(fence=7)

    with received(attempts_settled) as heard:
        settle([result(first)], using="default")

    assert (heard[0]["refused"], len(heard[0]["attempts"])) == (1, 1)


def test_a_receiver_that_raises_harms_no_delivery(caplog: pytest.LogCaptureFixture) -> None:
    def fail(**_: Any) -> None:
        msg = "no metrics today"
        raise RuntimeError(msg)

    attempts_settled.connect(fail)
    try:
        with WebhookReceiver() as receiver, received(attempts_settled) as heard:
            make_deliveries(2, receiver.url)
            assert deliver_now() == 2
    finally:
        attempts_settled.disconnect(fail)

    assert set(Delivery.objects.values_list("state", flat=True)) == {"delivered"}
    assert Attempt.objects.count() == 2
    assert len(heard) == 1
    assert "no metrics today" in caplog.text


def test_nothing_is_made_for_nobody() -> None:
    with received(attempts_settled) as heard:
        settle([], using="default")

    assert heard == []
    assert not attempts_settled.has_listeners(Delivery)


def test_a_worker_says_that_it_begins() -> None:
    with received(worker_started) as heard:
        run("webhooks_worker", "--once")

    assert [each["using"] for each in heard] == ["default"]
    assert not Endpoint.objects.exists()
