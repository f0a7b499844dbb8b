"""The receiver of tests does what it is told."""

import urllib.error
import urllib.request
from datetime import timedelta

import pytest

from drf_webhooks.testing import WebhookReceiver


def post(url: str) -> int:
    try:
        with urllib.request.urlopen(url, data=b'{"a": 1}', timeout=10) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_answers_for_some_times_and_then_as_before() -> None:
    with WebhookReceiver() as receiver:
        receiver.respond(202, headers={"x": "y"}, body=b"abc", drip=timedelta(0))
        receiver.respond(500, times=2)
        statuses = [post(receiver.url) for _ in range(4)]

    assert statuses == [500, 500, 202, 202]
    assert receiver.requests[0].json == {"a": 1}
    assert receiver.requests[0].method == "POST"


def test_waiting_ends() -> None:
    with WebhookReceiver() as receiver:
        with pytest.raises(TimeoutError, match="0 requests came within 0:00:00, not 1"):
            receiver.wait_for(1, timeout=timedelta(0))
        post(receiver.url)
        assert len(receiver.wait_for(1)) == 1


def test_a_receiver_that_was_never_opened_is_closed_all_the_same() -> None:
    receiver = WebhookReceiver()
    receiver.__exit__(None, None, None)

    assert receiver.requests == []
