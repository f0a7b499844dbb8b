"""Where changes come from: own changes that are not heard, and chains that are cut."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.functional import SimpleLazyObject
from hypothesis import given
from hypothesis import strategies as st

from drf_webhooks import replay
from drf_webhooks.middleware import WebhooksMiddleware
from drf_webhooks.models import Delivery, Endpoint, Event
from drf_webhooks.origins import LONGEST, NOWHERE, Origin, current, read_depth
from drf_webhooks.payloads import _is_same
from drf_webhooks.pipeline import recheck_due, release_due
from drf_webhooks.session import disable_webhooks, webhook_signal_session
from drf_webhooks.testing import WebhookReceiver, deliver_now, isolated_registry
from drf_webhooks.utils import ModelSerializerWebhook
from tests.app.models import Deposit, User
from tests.app.serializers import DepositSerializer
from tests.factories import make_deposit, make_user

pytestmark = pytest.mark.django_db(transaction=True)

ALLOWED = {"ALLOWED_NETWORKS": ["127.0.0.0/8", "::1/128"]}


def make_endpoint(url: str = "https://a.example/", **fields: Any) -> Endpoint:
    return Endpoint.objects.create(**{"url": url, "event_types": ["core.deposit.*"], **fields})


def deposit() -> Deposit:
    with disable_webhooks():
        return make_deposit()


def heard() -> set[Any]:
    return set(Delivery.objects.values_list("endpoint", flat=True))


@pytest.mark.parametrize("shape", ["one transaction", "several transactions", "joined", "async"])
def test_f78_an_endpoint_that_asks_for_it_does_not_hear_of_its_own_changes(shape: str) -> None:
    changed = deposit()
    mine = make_endpoint(ignores_own_changes=True)
    curious, other = make_endpoint(), make_endpoint(ignores_own_changes=True)
    origin = Origin(what="sync", endpoint=mine.pk)

    if shape == "one transaction":
        with transaction.atomic(), webhook_signal_session(origin=origin):
            changed.save()
    elif shape == "several transactions":
        with webhook_signal_session(origin=origin):
            changed.save()
            changed.save()
    elif shape == "joined":
        with webhook_signal_session(), webhook_signal_session(origin=origin):
            changed.save()
    else:
        webhook_signal_session(origin=origin)(changed.save)()

    assert heard() == {curious.pk, other.pk}
    event = Event.objects.get()
    assert (event.origin, event.origin_endpoint, event.depth) == ("sync", mine.pk, 0)


def test_f78_own_changes_are_heard_unless_that_is_asked_for() -> None:
    changed, mine = deposit(), make_endpoint()

    with webhook_signal_session(origin=Origin(endpoint=mine.pk)):
        changed.save()

    assert heard() == {mine.pk}


def test_f78_what_two_have_changed_both_hear() -> None:
    changed = deposit()
    some = [make_endpoint(ignores_own_changes=True) for _ in range(2)]

    with webhook_signal_session(origin=Origin(endpoint=some[0].pk)):
        changed.save()
        with webhook_signal_session(origin=Origin(endpoint=some[1].pk)):
            changed.save()

    # What was stored before the second one came is the first one's.
    assert {each.pk for each in some} >= heard() >= {some[0].pk}


def test_f78_a_replay_does_not_bring_what_was_not_to_be_heard() -> None:
    changed, mine = deposit(), make_endpoint(ignores_own_changes=True)
    within = replay.Span(timezone.now(), timezone.now() + timedelta(days=36500))
    with webhook_signal_session(origin=Origin(endpoint=mine.pk)):
        changed.save()
    changed.save()
    Delivery.objects.all().delete()

    list(replay.replay_missing(mine, within, using="default"))

    assert [each.event.origin_endpoint for each in Delivery.objects.all()] == [None]


def test_the_worker_keeps_the_origin_of_what_it_serializes() -> None:
    changed, mine = deposit(), make_endpoint(ignores_own_changes=True)
    curious = make_endpoint()
    with isolated_registry():
        type(
            "Deferred",
            (ModelSerializerWebhook,),
            {
                "serializer_class": DepositSerializer,
                "base_name": "core.deposit",
                "serialize": "deferred",
            },
        )
        with webhook_signal_session(origin=Origin(what="sync", endpoint=mine.pk, depth=3)):
            changed.save()
        assert heard() == set()

        release_due()

    event = Event.objects.get()
    assert (event.origin, event.origin_endpoint, event.depth) == ("sync", mine.pk, 3)
    assert heard() == {curious.pk}


def test_outside_a_session_a_change_comes_from_nowhere() -> None:
    changed = deposit()
    make_endpoint()

    with webhook_signal_session(origin=Origin(what="first")):
        changed.save()
    changed.save()

    assert [each.origin for each in Event.objects.order_by("sequence")] == ["first", ""]
    assert current() is NOWHERE


def request_of(**headers: Any) -> HttpRequest:
    return RequestFactory().patch("/api/deposits/1/?token=secret", headers=headers)


def act(request: HttpRequest, *saved: Deposit, user: Any = None) -> Event:
    def view(request: HttpRequest) -> HttpResponse:
        if user is not None:
            # As DRF does once it has authenticated a request.
            request.user = user
        for each in saved:
            each.save()
        return HttpResponse()

    WebhooksMiddleware(view)(request)
    return Event.objects.latest("sequence")


def test_a_request_is_an_origin_with_the_user_that_its_view_has_found() -> None:
    ada, changed = make_user(username="ada"), deposit()
    make_endpoint()

    event = act(request_of(), changed, user=ada)

    assert event.origin == f"by {ada.pk}: PATCH /api/deposits/1/"


@pytest.mark.parametrize("is_known", [True, False])
def test_no_user_is_looked_up_for_an_origin(*, is_known: bool) -> None:
    changed = deposit()
    make_endpoint()
    request: Any = request_of()
    request.user = AnonymousUser() if is_known else SimpleLazyObject(User.objects.get)

    with CaptureQueriesContext(connection) as queries:
        event = act(request, changed)

    table = connection.ops.quote_name(User._meta.db_table)
    assert event.origin == "PATCH /api/deposits/1/"
    assert not [each for each in queries if f"FROM {table}" in each["sql"]]


@pytest.mark.security
def test_f78_a_chain_of_webhooks_is_cut_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    changed = deposit()
    with WebhookReceiver() as receiver, override_settings(DRF_WEBHOOKS={**ALLOWED, "MAX_DEPTH": 3}):
        make_endpoint(receiver.url)
        headers: dict[str, str] = {}
        for _ in range(9):
            before = len(receiver.requests)
            act(request_of(**headers), changed)
            deliver_now()
            if len(receiver.requests) == before:
                break
            headers = {"webhook-depth": dict(receiver.requests[-1].headers)["webhook-depth"]}
        assert [dict(each.headers)["webhook-depth"] for each in receiver.requests] == list("123")

        last = Event.objects.latest("sequence")
        dead = Delivery.objects.get(event=last)
        assert (last.depth, dead.state, dead.attempt_count) == (3, "dead", 0)
        reason = "Not sent: 3 webhooks or more have led to this change (MAX_DEPTH)."
        assert dead.reason == reason
        assert dead.due_at is None
        assert dead.settled_at is not None
        assert f"Event {last.pk} is not sent: 3 webhooks have led to it" in caplog.text
        # A person may send it all the same.
        assert Delivery.objects.filter(pk=dead.pk).send_again(by_hand=True) == 1
        assert deliver_now() == 1


@pytest.mark.security
def test_f78_who_says_to_be_deep_in_a_chain_silences_the_own_request_only() -> None:
    mine, other = deposit(), deposit()
    make_endpoint(ordering="object", on_dead="block")

    event = act(request_of(**{"webhook-depth": "999"}), mine)
    act(request_of(), other)
    act(request_of(), mine)

    assert event.depth == 999
    states = [each.state for each in Delivery.objects.order_by("pk")]
    # Nothing waits behind it, whatever the endpoint's order.
    assert states == ["dead", "waiting", "waiting"]
    assert Delivery.objects.filter(state="dead", order_key=None).count() == 1


@given(st.text() | st.integers().map(str) | st.none())
def test_every_header_is_a_depth_that_can_be_stored(value: str | None) -> None:
    assert 0 <= read_depth(value) <= 1000


@pytest.mark.parametrize(
    ("value", "depth"),
    [(None, 0), ("", 0), ("-1", 0), ("3", 3), ("³", 0), ("1.5", 0), ("9" * 5000, 1000)],
)
def test_what_is_no_number_is_no_depth(value: str | None, depth: int) -> None:
    assert read_depth(value) == depth


one, two = uuid.uuid4(), uuid.uuid4()


@pytest.mark.parametrize(
    ("first", "then", "both"),
    [
        (NOWHERE, Origin("a", "1", one, 2), Origin("a", "1", one, 2)),
        (Origin("a", "1", one, 2), NOWHERE, Origin("a", "1", one, 2)),
        (Origin(endpoint=one), Origin(endpoint=two), NOWHERE),
        (Origin("a", "1", depth=4), Origin("b", "2", depth=3), Origin("b", "2", depth=4)),
    ],
)
def test_origins_are_joined(first: Origin, then: Origin, both: Origin) -> None:
    assert first.joined(then) == both


def test_an_origin_has_a_text_that_fits() -> None:
    assert str(Origin("x" * 999, "7")) == f"by 7: {'x' * 999}"[:LONGEST]
    assert str(NOWHERE) == ""


def test_a_project_may_know_more_of_a_request() -> None:
    changed, mine = deposit(), make_endpoint(ignores_own_changes=True)

    class Ours(WebhooksMiddleware):
        def get_origin(self, request: HttpRequest) -> Origin:
            return super().get_origin(request).joined(Origin(endpoint=mine.pk))

    def view(_: HttpRequest) -> HttpResponse:
        changed.save()
        return HttpResponse()

    Ours(view)(request_of())

    assert heard() == set()
    assert Event.objects.get().origin_endpoint == mine.pk


@pytest.mark.parametrize("is_same", [True, False])
def test_what_two_threads_of_a_session_have_held_is_joined(*, is_same: bool) -> None:
    changed, mine = deposit(), make_endpoint(ignores_own_changes=True)
    session = uuid.uuid4()
    past = timezone.now() - timedelta(hours=1)
    for depth, end in ((4, mine.pk), (2, mine.pk if is_same else None)):
        Event.objects.create(
            type="core.deposit.updated",
            resource="core.deposit",
            object_key=str(changed.pk),
            session=session,
            held_until=past,
            created_at=past,
            origin_endpoint=end,
            depth=depth,
        )

    release_due()

    event = Event.objects.get()
    assert (event.depth, event.origin_endpoint) == (4, mine.pk if is_same else None)
    assert heard() == (set() if is_same else {mine.pk})


def test_a_second_look_goes_on_with_the_chain() -> None:
    changed = deposit()
    make_endpoint()
    with webhook_signal_session(origin=Origin(what="sync", endpoint=one, depth=4)):
        changed.save()
    with disable_webhooks():
        changed.amount = 7
        changed.save()
    Event.objects.update(recheck_at=timezone.now() - timedelta(hours=1))

    assert recheck_due() == 1

    found = Event.objects.latest("sequence")
    assert (found.sequence, found.depth, found.origin_endpoint) == (2, 4, None)


@pytest.mark.parametrize(
    ("known", "given_now", "is_same"),
    [
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"a": 1}, {"b": 1}, False),
        ({"a": 1}, {"a": "1"}, False),
        ([1, ("x",)], [1, ("x",)], True),
        ([1], [1, 2], False),
        (User(pk=1), User(pk=1), False),
        ({"a": [User(pk=1)]}, {"a": [User(pk=1)]}, False),
    ],
)
def test_contexts_are_the_same_by_what_they_hold(
    known: Any, given_now: Any, *, is_same: bool
) -> None:
    assert _is_same(known, given_now) is is_same
    assert _is_same(known, known)
