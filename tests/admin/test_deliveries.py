"""Deliveries in the admin: sent again, said anew, given up for good."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone

from drf_webhooks.admin import DeliveryAdmin
from drf_webhooks.delivery.leases import hand_back
from drf_webhooks.models import Attempt, Delivery, Endpoint, Event
from drf_webhooks.testing import WebhookReceiver, deliver_now
from tests.admin.conftest import act, do, make_attempt, make_delivery, url
from tests.admin.test_lists import make_rows
from tests.delivery.test_health_rows import claim, make_waiting, settle_all


def page(client: Client, delivery: Delivery) -> str:
    shown: str = client.get(url("delivery_change", delivery.pk)).text
    return shown


@pytest.mark.django_db(transaction=True)
def test_a_result_that_is_in_the_air_does_not_bring_back_what_was_cancelled(
    endpoint: Endpoint,
) -> None:
    make_waiting(endpoint, 1)
    (leased,) = claim()

    assert Delivery.objects.cancel("A mistake.") == 1
    assert settle_all([leased], status=200) == 1, "the result is refused"

    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.reason) == ("dead", "A mistake.")
    assert (delivery.due_at, delivery.leased_at) == (None, None)
    assert Attempt.objects.get().status == 200, "and yet known"
    assert claim() == []


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_gives_back_its_lease_does_not_bring_back_what_was_cancelled(
    endpoint: Endpoint,
) -> None:
    make_waiting(endpoint, 1)
    leased = claim()
    Delivery.objects.cancel("A mistake.")

    hand_back(leased, using="default")

    assert Delivery.objects.get().due_at is None


@pytest.mark.django_db(transaction=True)
def test_what_was_cancelled_can_be_sent_again(admin: Client) -> None:
    with WebhookReceiver() as receiver:
        endpoint = Endpoint.objects.create(url=receiver.url, event_types=["*"])
        make_waiting(endpoint, 1)
        delivery = Delivery.objects.get()
        do(admin, "delivery", delivery, "cancel", reason="Not yet.")
        assert deliver_now() == 0

        do(admin, "delivery", delivery, "send-again")

        assert deliver_now() == 1
    delivery.refresh_from_db()
    assert (delivery.state, delivery.reason) == ("delivered", "")


def test_what_waits_behind_one_that_is_cancelled_goes_on(endpoint: Endpoint) -> None:
    first = make_delivery(order_key=7, sequence=1, lane=Delivery.Lane.ORDERED)

    Delivery.objects.filter(pk=first.pk).cancel("A mistake.")

    first.refresh_from_db()
    assert first.order_key is None


def test_a_delivery_is_cancelled_with_a_reason(admin: Client, endpoint: Endpoint) -> None:
    delivery = make_delivery()
    empty = do(admin, "delivery", delivery, "cancel", reason="")
    assert "This field is required." in empty.text

    shown = do(admin, "delivery", delivery, "cancel", reason="A mistake.")

    delivery.refresh_from_db()
    assert (delivery.state, delivery.reason) == ("dead", "Cancelled by admin: A mistake.")
    assert "The delivery is cancelled." in shown.text
    assert "/do/cancel/" not in page(admin, delivery)
    assert LogEntry.objects.get().change_message == "Cancelled."


def test_what_was_delivered_meanwhile_is_not_cancelled(admin: Client, endpoint: Endpoint) -> None:
    delivery = make_delivery(state="delivered", due_at=None)

    shown = do(admin, "delivery", delivery, "cancel", reason="A mistake.")

    delivery.refresh_from_db()
    assert delivery.state == "delivered"
    assert "It does not wait any more." in shown.text
    assert not LogEntry.objects.exists()


def test_many_are_cancelled_when_a_reason_is_given(admin: Client, endpoint: Endpoint) -> None:
    waiting, done = make_delivery(), make_delivery(state="delivered", due_at=None)

    asked = act(admin, "delivery", "cancel", waiting, done)
    assert "2 deliveries are chosen." in asked.text
    assert set(Delivery.objects.values_list("state", flat=True)) == {"waiting", "delivered"}
    shown = act(admin, "delivery", "cancel", waiting, done, reason="<b>A mistake.</b>")

    assert "1 delivery is cancelled." in shown.text
    waiting.refresh_from_db()
    assert waiting.reason == "Cancelled by admin: <b>A mistake.</b>"
    assert "<b>A mistake" not in shown.text
    assert LogEntry.objects.count() == 1


@pytest.mark.parametrize("action", ["send_again", "say_anew", "cancel"])
def test_too_many_are_not_changed_in_one_request(
    action: str, admin: Client, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DeliveryAdmin, "most_chosen", 1)
    rows = [make_delivery(), make_delivery()]

    shown = act(admin, "delivery", action, *rows, select_across="1", reason="x")

    assert "Choose 1 at most." in shown.text
    assert set(Delivery.objects.values_list("fence", flat=True)) == {0}


def test_as_many_as_may_be_chosen_are_cancelled_by_the_form(
    admin: Client, endpoint: Endpoint
) -> None:
    make_rows(DeliveryAdmin.most_chosen)
    first = Delivery.objects.earliest("pk")
    asked = act(admin, "delivery", "cancel", first, select_across="1")
    form = re.findall(r'<input type="hidden" name="(\w+)" value="(.*?)"', asked.text)

    # With every field that the page has, as a browser sends it.
    fields: dict[str, list[str]] = {"reason": ["A mistake."]}
    for name, value in form:
        fields.setdefault(name, []).append(value)
    done = admin.post(asked.request["PATH_INFO"], fields, follow=True)

    assert f"{DeliveryAdmin.most_chosen} deliveries are cancelled." in done.text
    assert not Delivery.objects.exclude(state="dead").exists()


def test_the_history_has_only_what_was_done(admin: Client, endpoint: Endpoint) -> None:
    sent, on_its_way = make_delivery(), make_delivery(is_by_hand=True)
    act(admin, "delivery", "send_again", sent, on_its_way)
    assert [each.object_id for each in LogEntry.objects.all()] == [str(sent.pk)]
    LogEntry.objects.all().delete()

    said, gone = make_delivery(), make_delivery()
    Event.objects.filter(pk=gone.event_id).update(resource="gone")
    shown = act(admin, "delivery", "say_anew", said, gone)

    assert "1 delivery is said anew." in shown.text
    assert [each.object_id for each in LogEntry.objects.all()] == [str(said.pk)]


def test_a_disabled_endpoint_is_sent_to_by_a_button_of_its_own(
    admin: Client, endpoint: Endpoint
) -> None:
    delivery = make_delivery()
    assert "/do/send-again/" in page(admin, delivery)
    Endpoint.objects.update(state="disabled")
    shown = page(admin, delivery)
    assert "/do/send-again/" not in shown
    assert "/do/send-again-to-disabled/" in shown

    do(admin, "delivery", delivery, "send-again-to-disabled")

    delivery.refresh_from_db()
    assert delivery.is_by_hand
    shown = page(admin, delivery)
    assert "/do/send-again" not in shown
    assert "by hand" in shown
    assert "at once" in shown


def test_a_delivery_on_its_way_by_hand_is_not_sent_twice(admin: Client, endpoint: Endpoint) -> None:
    delivery = make_delivery(is_by_hand=True)

    shown = do(admin, "delivery", delivery, "send-again")

    assert "It cannot be sent" in shown.text
    delivery.refresh_from_db()
    assert delivery.fence == 0


def test_a_delivery_is_said_anew(admin: Client, endpoint: Endpoint) -> None:
    delivery = make_delivery(state="dead", due_at=None)

    shown = do(admin, "delivery", delivery, "say-anew")

    delivery.refresh_from_db()
    assert "It is said anew." in shown.text
    assert Event.message_id_of(delivery.replaced_by) in shown.text
    assert "dead, said anew" in shown.text
    assert "/do/say-anew/" not in shown.text


def test_a_form_that_is_sent_twice_says_anew_once(admin: Client, endpoint: Endpoint) -> None:
    delivery = make_delivery(state="dead", due_at=None)
    do(admin, "delivery", delivery, "say-anew")
    count = Event.objects.count()

    shown = do(admin, "delivery", delivery, "say-anew")

    assert "It was said anew already." in shown.text
    assert Event.objects.count() == count


def test_of_what_is_not_declared_any_more_nothing_is_said(
    admin: Client, endpoint: Endpoint
) -> None:
    delivery = make_delivery(state="dead", due_at=None)
    Event.objects.update(resource="gone")

    shown = do(admin, "delivery", delivery, "say-anew")

    assert "nothing can be said any more" in shown.text


def test_those_behind_a_dead_one_go_on(admin: Client, endpoint: Endpoint) -> None:
    dead = make_delivery(state="dead", due_at=None, order_key=7, sequence=1)
    assert "/do/skip/" in page(admin, dead)

    do(admin, "delivery", dead, "skip")

    dead.refresh_from_db()
    assert dead.order_key is None
    do(admin, "delivery", dead, "skip")
    assert LogEntry.objects.count() == 1


def test_a_delivery_that_a_worker_has_says_so(admin: Client, endpoint: Endpoint) -> None:
    now = timezone.now()
    delivery = make_delivery(leased_at=now, due_at=now + timedelta(minutes=1))

    shown = page(admin, delivery)

    assert "on its way" in shown
    assert "a worker has it; if that dies, at" in shown


def test_a_deliverys_page_has_its_attempts(admin: Client, endpoint: Endpoint) -> None:
    delivery = make_delivery(attempt_count=3)
    for number, fields in enumerate(
        [
            {"status": None, "error": "tls_expired"},
            {"status": 401, "duration": timedelta(milliseconds=7)},
            {"status": 799},
            {"status": None, "error": "", "detail": "<script>"},
        ],
        1,
    ):
        make_attempt(delivery, number=number, **fields)

    shown = page(admin, delivery)

    for text in (
        "the certificate has expired",
        "mostly its secret is another",
        "7 ms",
        "2.0 s",
        "799",
        "no answer",
        "&lt;script&gt;",
    ):
        assert text in shown
    assert "Show all" in shown


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"state": "waiting"}, {"first", "hand"}),
        ({"state": "dead"}, {"dead", "anew"}),
        ({"state": "open"}, {"dead"}),
        ({"state": "delivered"}, {"done"}),
        ({"state": "x"}, {"first", "hand", "dead", "anew", "done"}),
        ({"lane": "3"}, {"hand"}),
        ({"lane": "0"}, {"first"}),
        ({"within": "1h"}, {"first", "hand", "anew", "done"}),
        ({"within": "7d"}, {"first", "hand", "anew", "done", "dead"}),
        ({"type": "core.deposit.created"}, {"first", "hand", "dead", "anew", "done"}),
        ({"type": "webhooks.endpoint.test"}, set()),
        ({"state": "dead", "within": "1h"}, {"anew"}),
    ],
)
def test_deliveries_are_found_by_filters(
    query: dict[str, str], expected: set[str], admin: Client, endpoint: Endpoint
) -> None:
    now = timezone.now()
    settled: dict[str, Any] = {"due_at": None, "settled_at": now}
    rows = {
        "first": make_delivery(),
        "hand": make_delivery(is_by_hand=True, lane=Delivery.Lane.BY_HAND),
        "dead": make_delivery(state="dead", **settled),
        "anew": make_delivery(state="dead", replaced_by=endpoint.pk, **settled),
        "done": make_delivery(state="delivered", **settled),
    }
    Event.objects.filter(pk=rows["dead"].event_id).update(created_at=now - timedelta(days=2))

    found = admin.get(url("delivery_changelist", **query)).context["cl"].result_list

    names = {row.pk: name for name, row in rows.items()}
    assert {names[each.pk] for each in found} == expected


def test_deliveries_are_found_by_their_endpoint(admin: Client, endpoint: Endpoint) -> None:
    mine = make_delivery()
    other = Endpoint.objects.create(url="https://b.example/", event_types=["core.deposit.*"])
    make_delivery()

    listed = admin.get(url("delivery_changelist", endpoint=other.pk))

    assert {each.endpoint_id for each in listed.context["cl"].result_list} == {other.pk}
    assert len(listed.context["cl"].result_list) == 1
    assert "https://a.example/" in listed.text
    for wrong in ("x", mine.event_id):
        shown = admin.get(url("delivery_changelist", endpoint=wrong))
        assert len(shown.context["cl"].result_list) == 3


def test_the_endpoint_that_was_chosen_is_offered_among_many(
    admin: Client, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drf_webhooks.admin.filters._MOST_OFFERED", 1)
    Endpoint.objects.create(url="https://b.example/")

    assert endpoint.url not in admin.get(url("delivery_changelist")).text
    assert endpoint.url in admin.get(url("delivery_changelist", endpoint=endpoint.pk)).text
