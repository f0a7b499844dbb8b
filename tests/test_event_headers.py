"""Headers that a resource sends beside its messages."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.test import override_settings
from django.utils import timezone

from drf_webhooks.models import Delivery, Endpoint, Event
from drf_webhooks.registry import registry
from drf_webhooks.replay import replay_chosen
from drf_webhooks.retention import prune
from drf_webhooks.session import disable_webhooks
from drf_webhooks.testing import WebhookReceiver, deliver_now
from tests.app.models import Deposit
from tests.declaring import DepositForm, declare, owned_by, recorded, statements
from tests.factories import make_deposit, make_user

pytestmark = pytest.mark.django_db(transaction=True)

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _isolated() -> Iterator[None]:
    with registry.isolated():
        yield


@pytest.fixture
def deposit() -> Deposit:
    with disable_webhooks():
        return make_deposit()


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as running:
        yield running


def get_headers(cls: Any, event_type: str, instance: Any, owner: Any = None) -> Any:
    return {
        "X-What": event_type,
        "X-Amount": "gone" if instance is None else str(instance.amount),
        "X-Owner": str(owner),
    }


def subscribe(receiver: WebhookReceiver | None = None, **fields: Any) -> Endpoint:
    url = "https://x.example/" if receiver is None else receiver.url
    return Endpoint.objects.create(url=url, event_types=["*"], **fields)


def test_they_are_sent_with_each_attempt(deposit: Deposit, receiver: WebhookReceiver) -> None:
    declare(get_headers=get_headers)
    subscribe(receiver)
    receiver.respond(500)
    deposit.save()
    deliver_now()
    Deposit.objects.filter(pk=deposit.pk).delete()
    Delivery.objects.update(due_at=timezone.now() - DAY)
    deliver_now()

    first, second, last = sorted(receiver.requests, key=lambda each: each.json["sequence"])
    assert first.headers["x-what"] == second.headers["x-what"] == "core.deposit.updated"
    assert (second.headers["x-amount"], last.headers["x-amount"]) == ("100.00", "gone")


def test_each_owner_has_its_own(deposit: Deposit) -> None:
    with disable_webhooks():
        ada, bea = make_user(username="ada"), make_user(username="bea")
    for owner in (ada, bea):
        subscribe(owner=owner)
    declare(get_headers=get_headers, get_owner=owned_by(ada, bea))

    deposit.save()

    assert {each.owner_id: (each.headers or {})["X-Owner"] for each in recorded()} == {
        ada.pk: "ada",
        bea.pk: "bea",
    }


def test_those_of_an_endpoint_go_before(deposit: Deposit, receiver: WebhookReceiver) -> None:
    declare(get_headers=get_headers)
    subscribe(receiver, headers={"x-amount": "secret", "X-Own": "1"})

    deposit.save()
    deliver_now()

    (request,) = receiver.requests
    assert (request.headers["x-amount"], request.headers["x-own"]) == ("secret", "1")
    assert request.headers["x-what"] == "core.deposit.updated"


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        pytest.param({"X-A": "a\r\nX-B: b"}, "does not allow", id="a line of its own"),
        pytest.param({"Host": "x"}, "set by the library", id="Host"),
        pytest.param({"webhook-id": "x"}, "set by the library", id="webhook-id"),
        pytest.param({"X-A": 1}, "has no value", id="no text"),
        pytest.param(None, "get_headers() failed", id="nothing"),
    ],
)
def test_what_cannot_be_sent_is_parked(deposit: Deposit, headers: Any, reason: str) -> None:
    declare(get_headers=lambda cls, *_: headers)
    subscribe()

    deposit.save()

    assert reason in recorded()[0].error
    assert not Delivery.objects.exists()


def test_a_database_error_fails_the_commit(deposit: Deposit) -> None:
    declare(get_headers=lambda cls, *_: {"X": str(Deposit.objects.extra(where=["no_such"]).get())})
    subscribe()

    with pytest.raises(Exception, match="no_such"):
        deposit.save()


def test_no_headers_are_stored_as_nothing(deposit: Deposit) -> None:
    declare(get_headers=lambda cls, *_: {})
    declare(base_name="core.other")
    subscribe()

    deposit.save()

    assert [each.headers for each in recorded()] == [None, None]


def test_what_is_said_anew_has_those_of_now(deposit: Deposit) -> None:
    declare(get_headers=get_headers)
    subscribe()
    deposit.save()
    with disable_webhooks():
        Deposit.objects.update(amount=5)

    replay_chosen(Delivery.objects.values_list("pk", flat=True), using="default", is_anew=True)

    assert [(each.headers or {})["X-Amount"] for each in recorded()] == ["100.00", "5.00"]


def test_what_was_deleted_is_said_anew_with_those_of_what_is_gone(deposit: Deposit) -> None:
    declare(get_headers=get_headers)
    subscribe()
    deposit.delete()

    replay_chosen(Delivery.objects.values_list("pk", flat=True), using="default", is_anew=True)

    assert [(each.headers or {})["X-Amount"] for each in recorded()] == ["gone", "gone"]


def test_they_are_forgotten_with_the_message(deposit: Deposit) -> None:
    declare(get_headers=get_headers)
    subscribe()
    deposit.save()
    Delivery.objects.all().delete()
    Event.objects.update(recheck_at=None)

    now = timezone.now() + 31 * DAY
    list(prune(using="default", now=now, payloads=30 * DAY, events=None))

    assert Event.objects.get().headers is None


def test_they_cost_no_statement(deposit: Deposit) -> None:
    subscribe()
    costs = []
    for chosen in ({}, {"get_headers": get_headers}):
        with registry.isolated():
            declare(**chosen)
            with statements() as found, override_settings():
                deposit.save()
        costs.append(len(found))

    assert costs[0] == costs[1]


@pytest.mark.parametrize("count", [1, 20])
def test_a_context_for_each_owner_costs_no_statement_but_a_form(
    deposit: Deposit, count: int
) -> None:
    with disable_webhooks():
        for _ in range(count - 1):
            make_deposit(tenant=deposit.tenant)
    owners = [make_user(username=name) for name in ("ada", "bea", "cleo")]
    for each in owners:
        subscribe(owner=each)
    made = []

    class Form(DepositForm):
        def to_representation(self, instance: Deposit) -> dict[str, Any]:
            made.append(self.context.get("for"))
            data: dict[str, Any] = super().to_representation(instance)
            return data

    def get_serializer_context(cls: Any, owner: Any = None) -> dict[str, Any]:
        return {"for": owner and owner.username}

    costs = []
    chosen: dict[str, Any]
    for chosen in ({}, {"get_serializer_context": get_serializer_context}):
        with registry.isolated():
            declare(serializer_class=Form, get_owner=owned_by(*owners), **chosen)
            with statements() as found, transaction.atomic():
                Deposit.objects.update(note="x")
        costs.append(len(found))

    assert costs[0] == costs[1]
    # Once for all owners, and once for each of them.
    assert Counter(made) == {None: count} | {each.username: count for each in owners}
