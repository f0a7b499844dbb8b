"""Custom events: declared by a resource, said by hand, each of them."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from django.db import connection, transaction
from django.test import override_settings
from django.utils import timezone
from rest_framework import serializers

from drf_webhooks import pipeline
from drf_webhooks.models import BaseObject, Delivery, Endpoint, Event
from drf_webhooks.registry import registered_event_types, registry
from drf_webhooks.replay import replay_chosen
from drf_webhooks.session import disable_webhooks, webhook_signal_session
from drf_webhooks.testing import capture_events
from tests.app.models import Deposit, RentalUnit
from tests.declaring import declare, names, owned_by, recorded, said, statements
from tests.factories import make_deposit, make_tenant, make_user

pytestmark = pytest.mark.django_db(transaction=True)


class Paid(serializers.ModelSerializer[Deposit]):
    unit = serializers.CharField(source="unit.name")
    tags: Any = serializers.SlugRelatedField("name", source="unit.tags", many=True, read_only=True)

    class Meta:
        model = Deposit
        fields: ClassVar = ["amount", "unit", "tags"]


@pytest.fixture(autouse=True)
def _isolated(everything: Endpoint) -> Iterator[None]:
    with registry.isolated():
        yield


@pytest.fixture
def deposit() -> Deposit:
    with disable_webhooks():
        return make_deposit()


@pytest.fixture
def webhook() -> Any:
    return declare(events={"paid": Paid, "reminded": None})


def test_a_custom_event_is_written_by_its_serializer(deposit: Deposit, webhook: Any) -> None:
    webhook.emit(deposit, "paid")

    assert said() == [("paid", {"amount": "100.00", "unit": "Top 5", "tags": []})]
    (event,) = recorded()
    assert (event.type, event.sequence) == ("core.deposit.paid", 1)
    assert Delivery.objects.get().event == event


def test_without_a_serializer_the_resource_writes_it(deposit: Deposit, webhook: Any) -> None:
    webhook.emit(deposit, "reminded", {"note": "second", "count": 2})

    ((_, data),) = said()
    assert (data["note"], data["count"], data["tenant"]["name"]) == ("second", 2, "Ada")


def test_its_types_are_among_those_of_the_resource(webhook: Any) -> None:
    assert {"core.deposit.paid", "core.deposit.reminded"} < registered_event_types()


def test_each_is_said_and_none_is_merged(deposit: Deposit, webhook: Any) -> None:
    with webhook_signal_session():
        webhook.emit(deposit, "paid", {"part": 1})
        deposit.save()
        webhook.emit(deposit, "paid", {"part": 2})
        deposit.save()

    assert names() == ["updated", "paid", "paid"]
    assert [data.get("part") for _, data in said()] == [None, 1, 2]
    assert [each.sequence for each in recorded()] == [1, 2, 3]


def test_it_is_said_with_the_state_at_the_end_of_the_session(
    deposit: Deposit, webhook: Any
) -> None:
    with webhook_signal_session():
        webhook.emit(deposit, "paid")
        Deposit.objects.update(amount=5)

    assert said()[-1][1]["amount"] == "5.00"


def test_created_comes_before_it_and_deleted_after(deposit: Deposit, webhook: Any) -> None:
    with webhook_signal_session():
        new = Deposit.objects.create(tenant=deposit.tenant, unit=deposit.unit)
        webhook.emit(new, "paid")
        webhook.emit(deposit, "paid")
        deposit.delete()

    found = [(each.object_key, each.type.rpartition(".")[2], each.sequence) for each in recorded()]
    assert [each[1:] for each in found if each[0] == str(new.pk)] == [("created", 1), ("paid", 2)]
    assert [each[1] for each in found if each[0] != str(new.pk)] == ["paid", "deleted"]


def test_a_savepoint_that_is_undone_takes_it_along(deposit: Deposit, webhook: Any) -> None:
    with transaction.atomic():
        webhook.emit(deposit, "paid", {"part": 1})
        with transaction.atomic():
            webhook.emit(deposit, "paid", {"part": 2})
            transaction.set_rollback(True)
        with transaction.atomic():
            webhook.emit(deposit, "paid", {"part": 3})

    assert [data["part"] for _, data in said()] == [1, 3]


def test_what_is_rolled_back_is_not_said(deposit: Deposit, webhook: Any) -> None:
    with webhook_signal_session(), transaction.atomic():
        webhook.emit(deposit, "paid")
        transaction.set_rollback(True)

    assert said() == []


def test_it_waits_for_the_end_of_a_session_of_several_transactions(
    deposit: Deposit, webhook: Any
) -> None:
    with webhook_signal_session():
        webhook.emit(deposit, "paid", {"part": 1})
        held = Event.objects.filter(held_until__isnull=False).count()
        Deposit.objects.update(amount=5)
        webhook.emit(deposit, "paid", {"part": 2})

    assert held == 1
    assert names() == ["updated", "paid", "paid"]
    assert [data["part"] for _, data in said()[1:]] == [1, 2]
    assert not Event.objects.filter(held_until__isnull=False).exists()


def test_a_worker_says_what_a_dead_process_held(deposit: Deposit, webhook: Any) -> None:
    with webhook_signal_session():
        webhook.emit(deposit, "paid", {"part": 1})
        Event.objects.update(held_until=timezone.now() - timedelta(seconds=1))
        pipeline.release_due()
        said_by_worker = said()

    assert [data["part"] for _, data in said_by_worker] == [1]
    assert said() == said_by_worker


def test_a_deferred_resource_leaves_it_to_the_worker(deposit: Deposit) -> None:
    webhook = declare(serialize="deferred", events={"paid": Paid})

    webhook.emit(deposit, "paid", {"part": 1})
    at_once = names()
    pipeline.release_due()

    assert at_once == []
    assert said() == [("paid", {"amount": "100.00", "unit": "Top 5", "tags": [], "part": 1})]


def test_nothing_is_said_where_webhooks_are_disabled(deposit: Deposit, webhook: Any) -> None:
    with disable_webhooks():
        webhook.emit(deposit, "paid")
    with disable_webhooks(webhook):
        webhook.emit(deposit, "paid")

    assert said() == []


def test_nobody_subscribed_nothing_stored(deposit: Deposit, webhook: Any) -> None:
    Endpoint.objects.update(event_types=["core.deposit.updated"])

    webhook.emit(deposit, "paid")

    assert not Event.objects.exists()
    assert not BaseObject.objects.exists()


def test_an_endpoint_may_hear_of_one_custom_event_only(deposit: Deposit, webhook: Any) -> None:
    Endpoint.objects.update(event_types=["core.deposit.paid"])

    webhook.emit(Deposit.objects.all(), "paid")
    webhook.emit(deposit, "reminded")
    deposit.save()

    assert names() == ["paid"]


def test_only_owners_hear_of_it(deposit: Deposit) -> None:
    with disable_webhooks():
        ada, bea = make_user(username="ada"), make_user(username="bea")
        Endpoint.objects.create(owner=ada, url="https://x.example/", event_types=["*"])
        Endpoint.objects.create(owner=bea, url="https://x.example/", event_types=["other.*"])
    webhook = declare(events={"paid": None}, get_owner=owned_by(ada, bea))

    webhook.emit(deposit, "paid")

    assert [each.owner_id for each in recorded()] == [ada.pk]


def test_what_no_owner_hears_takes_no_number(deposit: Deposit) -> None:
    webhook = declare(events={"paid": None}, get_owner=owned_by())

    webhook.emit(deposit, "paid")

    assert list(BaseObject.objects.values_list("sequence", flat=True)) == [0]


def test_of_an_object_that_is_gone_its_key_is_said(deposit: Deposit, webhook: Any) -> None:
    key = deposit.pk

    with webhook_signal_session():
        webhook.emit(deposit, "paid", {"part": 1})
        deposit.delete()

    assert said() == [("paid", {"id": key, "part": 1}), ("deleted", {"id": key})]


def test_in_one_transaction_too_it_comes_before_the_end(deposit: Deposit, webhook: Any) -> None:
    with transaction.atomic():
        deposit.delete()
        webhook.emit(Deposit(pk=1_000_000), "paid")
        webhook.emit(Deposit.objects.create(pk=1_000_000, tenant=make_tenant()), "reminded")
    with transaction.atomic():
        found = Deposit.objects.get()
        webhook.emit(found, "paid")
        found.delete()

    last = [each for each in recorded() if each.object_key == "1000000"]
    assert [(each.type.rpartition(".")[2], each.sequence) for each in last] == [
        ("created", 1),
        ("paid", 2),
        ("reminded", 3),
        ("paid", 4),
        ("deleted", 5),
    ]


def test_of_an_object_that_came_and_went_only_it_is_said(deposit: Deposit, webhook: Any) -> None:
    with webhook_signal_session():
        new = Deposit.objects.create(tenant=deposit.tenant)
        webhook.emit(new, "paid")
        new.delete()

    assert names() == ["paid"]


@pytest.mark.parametrize("in_session", [False, True])
def test_the_owner_of_what_is_gone_hears_of_it(deposit: Deposit, *, in_session: bool) -> None:
    with disable_webhooks():
        ada = make_user(username="ada")
        Endpoint.objects.create(owner=ada, url="https://x.example/", event_types=["*"])
    webhook = declare(events={"paid": Paid}, get_owner=owned_by(ada), deleted_payload="full")

    with webhook_signal_session():
        if in_session:
            webhook.emit(deposit, "paid", {"part": 1})
            deposit.delete()
        else:
            with transaction.atomic():
                webhook.emit(deposit, "paid", {"part": 1})
                deposit.delete()

    assert names() == ["paid", "deleted"]
    assert {each.owner_id for each in recorded()} == {ada.pk}


def test_where_nobody_knows_whose_it_was_it_is_parked(deposit: Deposit) -> None:
    with disable_webhooks():
        ada = make_user(username="ada")
        Endpoint.objects.create(owner=ada, url="https://x.example/", event_types=["*"])
    webhook = declare(events={"paid": None}, get_owner=owned_by(ada))

    with webhook_signal_session():
        webhook.emit(deposit, "paid")
        with disable_webhooks():
            deposit.delete()

    (event,) = recorded()
    assert "who owned it is not known" in event.error
    assert not Delivery.objects.exists()


def test_what_get_queryset_leaves_out_is_not_said(deposit: Deposit) -> None:
    def get_queryset(cls: Any) -> Any:
        return Deposit.objects.exclude(note="gone")

    webhook = declare(events={"paid": None}, get_queryset=get_queryset)
    Deposit.objects.update(note="gone")

    webhook.emit(deposit, "paid")

    assert said() == []


def test_it_does_not_make_an_unchanged_object_worth_an_update(deposit: Deposit) -> None:
    webhook = declare(events={"paid": None}, skip_unchanged=True)

    with webhook_signal_session():
        webhook.emit(deposit, "paid")
        deposit.save()
        deposit.save()

    assert names() == ["paid"]
    assert [each.sequence for each in recorded()] == [1]


def test_what_was_deleted_out_of_sight_stays_so_with_a_custom_event(deposit: Deposit) -> None:
    def get_queryset(cls: Any) -> Any:
        return Deposit.objects.exclude(note="gone")

    webhook = declare(events={"paid": None}, skip_unchanged=True, get_queryset=get_queryset)
    with disable_webhooks():
        Deposit.objects.update(note="gone")

    with transaction.atomic():
        webhook.emit(deposit, "paid")
        deposit.delete()

    assert names() == ["paid"]


@pytest.mark.parametrize(
    ("name", "data", "error", "text"),
    [
        ("sold", None, ValueError, "events has no 'sold'. It has 'paid', 'reminded'"),
        ("paid", {"x": object()}, TypeError, "not JSON serializable"),
        ("paid", {"x": float("nan")}, ValueError, "not JSON compliant"),
    ],
)
def test_what_cannot_be_said_is_refused_at_once(
    deposit: Deposit, webhook: Any, name: str, data: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        webhook.emit(deposit, name, data)


def test_another_model_is_refused(deposit: Deposit, webhook: Any) -> None:
    with pytest.raises(ValueError, match=r"emit\(\) got core.Tenant"):
        webhook.emit(deposit.tenant, "paid")


class Plain(serializers.BaseSerializer[Deposit]):
    def to_representation(self, instance: Deposit) -> Any:
        return str(instance.amount)


def test_members_can_be_added_to_an_object_only(deposit: Deposit) -> None:
    webhook = declare(events={"paid": Plain})

    webhook.emit(deposit, "paid")
    webhook.emit(deposit, "paid", {"part": 1})

    assert said()[0] == ("paid", "100.00")
    assert "is no object" in recorded()[1].error


def test_what_only_a_custom_event_reads_is_not_watched(deposit: Deposit, webhook: Any) -> None:
    RentalUnit.objects.update(name="Top 6")

    assert said() == []


def test_a_name_that_is_no_more_is_parked_at_its_release(deposit: Deposit) -> None:
    webhook = declare(events={"paid": None})
    with webhook_signal_session():
        webhook.emit(deposit, "paid")
        webhook.events = {}

    assert "no 'core.deposit.paid' any more" in recorded()[0].error


def test_what_cannot_be_recorded_may_be_parked(deposit: Deposit, settings: Any) -> None:
    def get_owner(cls: Any, instance: Any) -> Any:
        raise RuntimeError

    webhook = declare(events={"paid": None}, get_owner=get_owner)
    parks = {**settings.DRF_WEBHOOKS, "ON_RECORDING_ERROR": "park"}
    with override_settings(DRF_WEBHOOKS=parks):
        webhook.emit(deposit, "paid")

    assert [(each.type, bool(each.error)) for each in recorded()] == [("core.deposit.paid", True)]


def test_captured_events_have_it(deposit: Deposit, webhook: Any) -> None:
    with capture_events() as events:
        webhook.emit(deposit, "paid")

    assert [each.type for each in events] == ["core.deposit.paid"]


def test_it_is_replayed_as_it_was_said(deposit: Deposit, webhook: Any) -> None:
    with webhook_signal_session():
        webhook.emit(deposit, "paid", {"part": 1})
        webhook.emit(deposit, "paid", {"part": 2})
        deposit.save()
    Deposit.objects.all().delete()
    paid = Delivery.objects.filter(event__type="core.deposit.paid")

    replay_chosen(list(paid.values_list("pk", flat=True)), using="default", is_anew=True)

    again = [each for each in recorded() if b'"replay":true' in bytes(each.body)]
    assert [(each.type, each.data["part"], each.sequence) for each in again] == [
        ("core.deposit.paid", 1, 5),
        ("core.deposit.paid", 2, 6),
    ]
    assert [json.loads(each.body)["sequence"] for each in again] == [5, 6]


def test_nothing_is_replayed_of_what_is_not_kept(deposit: Deposit, webhook: Any) -> None:
    webhook.emit(deposit, "paid")
    Event.objects.update(body=None)

    pk = Delivery.objects.get().pk

    assert replay_chosen([pk], using="default", is_anew=True).replayed == 0


@pytest.mark.parametrize("is_changed", [False, True])
def test_the_statements_do_not_grow_with_objects(
    deposit: Deposit, webhook: Any, *, is_changed: bool
) -> None:
    costs = []
    for count in (1, 20):
        with disable_webhooks():
            Deposit.objects.all().delete()
            for _ in range(count):
                make_deposit(tenant=deposit.tenant, unit=deposit.unit)
        with statements() as found, transaction.atomic():
            webhook.emit(Deposit.objects.all(), "paid")
            if is_changed:
                Deposit.objects.update(amount=2)
        costs.append(len(found))

    # The keys of the queryset, who listens; then the numbers, the objects and their tags, events
    # and deliveries.
    lot = {"postgresql": 4, "sqlite": 5, "mysql": 6}[connection.vendor]
    assert costs[0] == costs[1] == 2 + lot + is_changed * (2 + lot - 1)
    assert Event.objects.filter(type="core.deposit.paid").count() == 21


@pytest.mark.parametrize("count", [1, 20])
def test_several_of_one_object_are_written_one_after_the_other(
    deposit: Deposit, webhook: Any, count: int
) -> None:
    with statements() as found, transaction.atomic():
        for number in range(count):
            webhook.emit(deposit, "reminded", {"number": number})

    # Each needs a number of its own; who listens is asked once.
    lot = {"postgresql": 4, "sqlite": 5, "mysql": 6}[connection.vendor] - 1
    assert len(found) == 1 + lot * count
    assert [data["number"] for _, data in said()] == list(range(count))


@pytest.mark.skipif(connection.vendor == "sqlite", reason="it has one writer at a time")
def test_a_custom_event_does_not_take_the_second_look_away(deposit: Deposit, webhook: Any) -> None:
    Deposit.objects.update(amount=1)
    webhook.emit(deposit, "paid")
    with override_settings(DRF_WEBHOOKS={"CAPTURE_BULK": False}):
        Deposit.objects.update(amount=2)
    Event.objects.filter(recheck_at__isnull=False).update(
        recheck_at=timezone.now() - timedelta(days=1)
    )
    pipeline.recheck_due()

    assert names() == ["updated", "paid", "updated"]


@pytest.mark.skipif(connection.vendor == "sqlite", reason="it has one writer at a time")
def test_what_else_was_said_takes_it_away_still(deposit: Deposit, webhook: Any) -> None:
    Deposit.objects.update(amount=1)
    first = Event.objects.get()
    webhook.emit(deposit, "paid")
    Deposit.objects.update(amount=2)
    Event.objects.filter(pk=first.pk).update(recheck_at=timezone.now() - timedelta(days=1))
    pipeline.recheck_due()

    assert names() == ["updated", "paid", "updated"]
