"""Endpoints that are disabled, enabled, tested, changed; and deliveries that a person sends."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from standardwebhooks import Webhook

from drf_webhooks import endpoints, secret_keys
from drf_webhooks.models import Attempt, Delivery, Endpoint, EndpointHealth, Notice
from drf_webhooks.testing import WebhookReceiver, deliver_now
from tests.delivery.test_health_rows import (
    MINUTE,
    claim,
    health,
    make_endpoint,
    make_waiting,
    settle_all,
)

pytestmark = pytest.mark.django_db(transaction=True)


def make_due() -> None:
    """Let the time pass until every retry is due."""
    Delivery.objects.filter(state="waiting").update(due_at=timezone.now() - MINUTE)


def types(receiver: WebhookReceiver) -> list[str]:
    return [each.json.get("type", "a.b") for each in receiver.requests]


def test_d49_the_next_retry_goes_to_the_new_url_with_the_new_secret() -> None:
    with WebhookReceiver() as old, WebhookReceiver() as new:
        endpoint = make_endpoint(url=old.url)
        make_waiting(endpoint, 1)
        old.respond(500)
        deliver_now()
        endpoint.url = new.url
        endpoint.secret = secret_keys.generate()
        endpoint.save()
        make_due()
        assert deliver_now() == 1

    (request,) = new.requests
    assert len(old.requests) == 1
    Webhook(endpoint.secret).verify(request.body, dict(request.headers))
    assert Delivery.objects.get().state == "delivered"
    assert [each.url for each in Attempt.objects.order_by("pk")] == [old.url, new.url]


def test_d50_what_waits_for_a_disabled_endpoint_is_not_burned() -> None:
    with WebhookReceiver() as receiver:
        endpoint = make_endpoint(url=receiver.url)
        make_waiting(endpoint, 3)
        receiver.respond(500)
        deliver_now()
        endpoints.disable(endpoint, "A test.")
        for _ in range(3):
            make_due()
            assert deliver_now() == 0
        receiver.respond(200)

        assert endpoints.enable(endpoint)

        make_due()
        deliver_now()

    assert set(Delivery.objects.values_list("state", flat=True)) == {"delivered"}
    waited = Delivery.objects.exclude(event__type="webhooks.endpoint.test")
    assert set(waited.values_list("attempt_count", flat=True)) == {2}


def test_d50_what_waited_is_skipped_if_that_is_wanted() -> None:
    with WebhookReceiver() as receiver:
        endpoint = make_endpoint(url=receiver.url)
        make_waiting(endpoint, 3)
        endpoints.disable(endpoint, "A test.")

        endpoints.enable(endpoint, waiting="skip")
        make_waiting(endpoint, 1)
        assert deliver_now() == 2
        assert types(receiver) == ["webhooks.endpoint.test", "a.b"]

    dead = Delivery.objects.filter(state="dead")
    assert set(dead.values_list("reason", flat=True)) == {
        "Skipped when the endpoint was enabled again."
    }
    assert dead.count() == 3


def test_d50_a_result_that_comes_after_the_skip_is_too_late() -> None:
    endpoint = make_endpoint()
    make_waiting(endpoint, 1)
    claimed = claim()
    endpoints.disable(endpoint, "A test.")
    endpoints.enable(endpoint, waiting="skip")

    assert settle_all(claimed) == 1


def test_d56_enabling_forgets_what_was_counted_and_sends_a_test_first() -> None:
    with WebhookReceiver() as receiver:
        endpoint = make_endpoint(url=receiver.url, event_types=["a.*"])
        make_waiting(endpoint, 20)
        receiver.respond(500)
        for _ in range(2):
            deliver_now()
        assert health(endpoint).failures == 20
        endpoints.disable(endpoint, "A test.")
        receiver.respond(200)
        receiver.requests.clear()

        endpoints.enable(endpoint)

        assert health(endpoint).failures == 0
        assert health(endpoint).failing_since is None
        assert health(endpoint).paused_until is None
        Delivery.objects.filter(attempt_count=1).update(due_at=timezone.now() - MINUTE)
        (test,) = claim()
        assert test.standing.event_type == "webhooks.endpoint.test"
        assert claim() == []
        settle_all([test])
        assert deliver_now() == 20

    endpoint.refresh_from_db()
    assert (endpoint.state, endpoint.disabled_reason) == ("enabled", "")
    assert health(endpoint).is_clean


def test_d56_a_test_that_fails_is_not_sent_again() -> None:
    with WebhookReceiver() as receiver:
        endpoint = make_endpoint(url=receiver.url)
        endpoints.disable(endpoint, "A test.")
        receiver.respond(500)
        endpoints.enable(endpoint)
        assert deliver_now() == 1

    delivery = Delivery.objects.get()
    assert delivery.state == "dead"
    assert delivery.reason.startswith("Given up after 1 attempts")
    # It was the probe.
    assert health(endpoint).paused_until > timezone.now()


def test_d56_of_two_callers_one_enables() -> None:
    endpoint = make_endpoint()
    endpoints.disable(endpoint, "A test.")
    again = Endpoint.objects.get()

    assert endpoints.enable(endpoint)
    assert not endpoints.enable(again)
    assert endpoints.disable(again, "x")
    assert not endpoints.disable(endpoint, "y")

    assert Delivery.objects.count() == 1
    kinds = list(Notice.objects.order_by("pk").values_list("kind", flat=True))
    assert kinds == ["disabled", "enabled", "disabled"]
    assert Endpoint.objects.get().disabled_reason == "x"


def test_enabling_costs_the_same_for_many_deliveries() -> None:
    counts = []
    for count in (1, 50):
        endpoint = make_endpoint()
        make_waiting(endpoint, count)
        endpoints.disable(endpoint, "A test.")
        with CaptureQueriesContext(connection) as queries:
            endpoints.enable(endpoint, waiting="skip")
        counts.append(len(queries))

    assert counts[0] == counts[1]


def test_a_pause_can_be_ended_by_hand() -> None:
    endpoint = make_endpoint()
    make_waiting(endpoint, 10)
    settle_all(claim(), 500)
    assert claim() == []

    endpoints.recover(endpoint)

    assert len(claim()) == 1
    assert health(endpoint).failures == 0


def test_ending_no_pause_changes_nothing() -> None:
    endpoint = make_endpoint()
    endpoints.recover(endpoint)
    EndpointHealth.objects.create(endpoint=endpoint)
    endpoints.recover(endpoint)

    assert health(endpoint).ramp is None


@pytest.mark.parametrize("state", ["enabled", "disabled"])
def test_a_test_is_sent_by_hand_whatever_state_the_endpoint_is_in(state: str) -> None:
    with WebhookReceiver() as receiver:
        endpoint = make_endpoint(url=receiver.url, state=state, event_types=[])
        delivery = endpoints.send_test(endpoint)
        assert deliver_now() == 1
        (request,) = receiver.requests

    delivery.refresh_from_db()
    assert delivery.state == "delivered"
    assert request.json["type"] == "webhooks.endpoint.test"
    assert request.json["data"]["id"] == str(endpoint.pk)
    Webhook(endpoint.secret).verify(request.body, dict(request.headers))


def test_d55_what_a_person_sends_does_not_wait_and_is_not_charged() -> None:
    with WebhookReceiver() as receiver:
        endpoint = make_endpoint(url=receiver.url)
        first, *_ = make_waiting(endpoint, 10)
        receiver.respond(500)
        deliver_now()
        before = EndpointHealth.objects.values().get()
        assert before["paused_until"] is not None

        assert Delivery.objects.filter(pk=first.pk).send_again(by_hand=True) == 1
        assert deliver_now() == 1

    assert EndpointHealth.objects.values().get() == before
    first.refresh_from_db()
    assert first.attempt_count == 2
    assert not first.is_by_hand


def test_d55_what_a_person_sends_takes_the_place_of_the_next_retry() -> None:
    with WebhookReceiver() as receiver:
        make_waiting(make_endpoint(url=receiver.url), 1)
        receiver.respond(500)
        deliver_now()
        Delivery.objects.all().send_again(by_hand=True)
        deliver_now()

        # The second wait of the schedule, from now on; no other retry is left.
        due_at = Delivery.objects.get().due_at
        assert due_at is not None
        assert 4 * MINUTE < due_at - timezone.now() <= 6 * MINUTE
        receiver.respond(200)
        Delivery.objects.all().send_again(by_hand=True)
        deliver_now()
        make_due()
        assert deliver_now() == 0
        assert len(receiver.requests) == 3

    assert Delivery.objects.get().state == "delivered"


@pytest.mark.parametrize("is_asked", [True, False])
def test_d55_a_disabled_endpoint_gets_it_only_if_asked(*, is_asked: bool) -> None:
    with WebhookReceiver() as receiver:
        endpoint = make_endpoint(url=receiver.url)
        make_waiting(endpoint, 2)
        Delivery.objects.update(state="dead", due_at=None, reason="x")
        endpoints.disable(endpoint, "A test.")

        assert Delivery.objects.all().send_again(by_hand=True, to_disabled=is_asked) == 2
        assert deliver_now() == (2 if is_asked else 0)

    endpoint.refresh_from_db()
    assert endpoint.state == "disabled"
    states = set(Delivery.objects.values_list("state", flat=True))
    assert states == {"delivered" if is_asked else "waiting"}


def test_d55_two_quick_clicks_are_one_request() -> None:
    endpoint = make_endpoint()
    make_waiting(endpoint, 1)

    assert Delivery.objects.all().send_again(by_hand=True) == 1
    assert Delivery.objects.all().send_again(by_hand=True) == 0
    claimed = claim()
    assert Delivery.objects.all().send_again(by_hand=True) == 0
    assert claim() == []
    assert settle_all(claimed) == 0

    assert Delivery.objects.all().send_again(by_hand=True) == 1


def test_d55_what_a_program_sends_again_waits_for_a_pause_and_is_charged() -> None:
    endpoint = make_endpoint()
    make_waiting(endpoint, 5)
    settle_all(claim(), 500)
    Delivery.objects.update(state="dead", due_at=None, reason="x")

    assert Delivery.objects.all().send_again() == 5
    assert claim() == []

    EndpointHealth.objects.update(paused_until=None)
    settle_all(claim(), 500)
    assert health(endpoint).failures == 6


def test_d55_a_success_by_hand_ends_the_streak() -> None:
    with WebhookReceiver() as receiver:
        endpoint = make_endpoint(url=receiver.url)
        make_waiting(endpoint, 1)
        receiver.respond(500)
        deliver_now()
        receiver.respond(200)
        Delivery.objects.all().send_again(by_hand=True)
        deliver_now()

    assert health(endpoint).failing_since is None
    assert health(endpoint).failures == 0


@override_settings(
    DRF_WEBHOOKS={
        "ALLOWED_NETWORKS": ["127.0.0.0/8"],
        "PER_EVENT_TYPE": {
            "a.*": {"RETRY_SCHEDULE": [timedelta(hours=1)]},
            "a.b": {"MAX_AGE": timedelta(minutes=1)},
        },
    }
)
@pytest.mark.parametrize(
    ("event_type", "overrides", "is_retried"),
    [
        pytest.param("x.y", {}, True, id="the settings"),
        pytest.param("a.x", {}, True, id="the wide pattern"),
        pytest.param("a.b", {}, False, id="the narrow one too"),
        pytest.param("a.b", {"MAX_AGE": 86400}, True, id="the endpoint first"),
        pytest.param("x.y", {"RETRY_SCHEDULE": []}, False, id="the endpoint alone"),
    ],
)
def test_schedules_of_event_types_and_endpoints(
    event_type: str, overrides: dict[str, Any], *, is_retried: bool
) -> None:
    with WebhookReceiver() as receiver:
        make_waiting(make_endpoint(url=receiver.url, overrides=overrides), 1, event_type=event_type)
        receiver.respond(500)
        deliver_now()

    delivery = Delivery.objects.get()
    assert (delivery.state == "waiting") is is_retried
    if is_retried:
        assert delivery.due_at is not None
        is_hour = delivery.due_at - timezone.now() > 50 * MINUTE
        assert is_hour is event_type.startswith("a.")
