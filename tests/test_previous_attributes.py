"""What changed members of a form were before, in ``updated`` messages."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from rest_framework import serializers

from drf_webhooks import numbering, pipeline
from drf_webhooks.models import Delivery, Endpoint, Event
from drf_webhooks.registry import registry
from drf_webhooks.retention import prune
from drf_webhooks.session import disable_webhooks, webhook_signal_session
from tests.app.models import Address, Deposit, Tenant
from tests.declaring import declare, recorded, statements
from tests.factories import make_deposit, make_tenant, make_user

pytestmark = pytest.mark.django_db(transaction=True)

DAY = timedelta(days=1)

UNKNOWN = "no previous_attributes"


@pytest.fixture(autouse=True)
def _isolated(everything: Endpoint) -> Iterator[None]:
    with registry.isolated():
        yield


@pytest.fixture
def deposit() -> Deposit:
    with disable_webhooks():
        return make_deposit()


def previous() -> list[Any]:
    """Return what the messages say of before, in the order of their numbers."""
    bodies = [json.loads(bytes(each.body)) for each in recorded() if each.body is not None]
    return [each.get("previous_attributes", UNKNOWN) for each in bodies]


def test_an_update_says_what_the_last_message_had_otherwise(deposit: Deposit) -> None:
    declare(previous_attributes=True)

    Deposit.objects.update(amount=1)
    Address.objects.filter(pk=deposit.tenant.address_id).update(city="Linz")
    Deposit.objects.update(note="x", amount=2)

    assert previous() == [
        {"amount": "100.00"},
        {"tenant": {"address": {"city": "Graz"}}},
        {"amount": "1.00", "note": ""},
    ]


def test_only_updates_say_it(deposit: Deposit) -> None:
    declare(previous_attributes=True, deleted_payload="full")

    new = Deposit.objects.create(tenant=deposit.tenant)
    new.delete()

    assert previous() == [UNKNOWN, UNKNOWN]


def test_a_resource_that_did_not_ask_for_it_does_not_say_it(deposit: Deposit) -> None:
    declare(skip_unchanged=True)

    Deposit.objects.update(amount=1)

    assert previous() == [UNKNOWN]


def test_what_was_changed_in_silence_counts_from_what_was_heard(deposit: Deposit) -> None:
    declare(previous_attributes=True)
    Deposit.objects.update(amount=1)
    with disable_webhooks():
        Deposit.objects.update(amount=2)

    Deposit.objects.update(note="x")

    assert previous()[-1] == {"amount": "1.00", "note": ""}


def test_a_trigger_of_what_is_as_it_was_says_that_nothing_changed(deposit: Deposit) -> None:
    resource = declare(previous_attributes=True)
    Deposit.objects.update(amount=1)

    resource.trigger(deposit)

    assert previous()[-1] == {}


def test_the_transactions_of_a_session_count_as_one(deposit: Deposit) -> None:
    declare(previous_attributes=True)

    with webhook_signal_session():
        Deposit.objects.update(amount=1)
        Deposit.objects.update(amount=2)

    assert previous() == [{"amount": "100.00"}]


def test_what_was_undone_is_not_what_was_before(deposit: Deposit) -> None:
    declare(previous_attributes=True)
    with transaction.atomic():
        Deposit.objects.update(amount=1)
        transaction.set_rollback(True)
    with transaction.atomic():
        with transaction.atomic():
            Deposit.objects.update(amount=2)
            transaction.set_rollback(True)
        Deposit.objects.update(amount=3)

    assert previous() == [{"amount": "100.00"}]


def test_made_again_with_its_key_it_is_compared_with_the_one_before(deposit: Deposit) -> None:
    declare(previous_attributes=True)
    key, tenant = deposit.pk, deposit.tenant
    Deposit.objects.update(amount=1)

    with transaction.atomic():
        deposit.delete()
        Deposit.objects.create(pk=key, amount=5, tenant=tenant)

    assert previous()[-1] == {"amount": "1.00"}


def test_without_a_message_it_is_compared_with_the_form_before_the_session(
    deposit: Deposit,
) -> None:
    declare(previous_attributes=True)
    Deposit.objects.update(amount=1)
    Deposit.objects.update(amount=2)
    # The first one waits still, and so is kept longer than the second.
    Delivery.objects.filter(event__sequence=2).delete()
    Event.objects.update(created_at=timezone.now() - 40 * DAY, recheck_at=None)
    list(prune(using="default", now=timezone.now(), payloads=30 * DAY, events=None))

    with disable_webhooks():
        Deposit.objects.update(amount=3)
    Deposit.objects.update(amount=4)

    assert previous() == [{"amount": "100.00"}, {"amount": "3.00"}]


def test_a_parked_message_has_said_nothing(deposit: Deposit) -> None:
    declare(previous_attributes=True)
    Deposit.objects.update(amount=1)
    Deposit.objects.update(note="boom", amount=2)

    Deposit.objects.update(note="")

    assert previous()[-1] == {"amount": "1.00"}


def test_what_nobody_knows_is_not_said(deposit: Deposit) -> None:
    declare(previous_attributes=True)

    with webhook_signal_session():
        Deposit.objects.update(amount=1)
        # What another process would do whose message could not be written.
        numbering.number([("core.deposit", str(deposit.pk))], "default")

    assert previous() == [UNKNOWN]


def test_a_worker_that_releases_what_a_dead_process_held_knows_the_last_message(
    deposit: Deposit,
) -> None:
    declare(previous_attributes=True)
    Deposit.objects.update(amount=1)

    with webhook_signal_session():
        Deposit.objects.update(amount=2)
        Event.objects.filter(held_until__isnull=False).update(held_until=timezone.now() - DAY)
        pipeline.release_due()

    assert previous()[-1] == {"amount": "1.00"}


def test_a_deferred_resource_knows_the_last_message_only(deposit: Deposit) -> None:
    declare(previous_attributes=True, serialize="deferred")

    for amount in (1, 2):
        Deposit.objects.update(amount=amount)
        pipeline.release_due()

    assert previous() == [UNKNOWN, {"amount": "1.00"}]


class ForOwner(serializers.ModelSerializer[Deposit]):
    note = serializers.SerializerMethodField()

    class Meta:
        model = Deposit
        fields = ("amount", "note")

    def get_note(self, deposit: Deposit) -> str:
        return f"{self.context['owner']}: {deposit.note}"


def test_each_owner_is_told_of_its_own_form_and_of_no_other(deposit: Deposit) -> None:
    with disable_webhooks():
        ada, bea = make_user(username="ada"), make_user(username="bea")
        for owner in (ada, bea):
            Endpoint.objects.create(owner=owner, url="https://x.example/", event_types=["*"])
    owners = [ada]

    def get_owner(cls: Any, instance: Any) -> Any:
        return list(owners)

    def get_serializer_context(cls: Any, owner: Any = None) -> Any:
        return {"owner": getattr(owner, "username", "")}

    declare(
        serializer_class=ForOwner,
        previous_attributes=True,
        get_owner=get_owner,
        get_serializer_context=get_serializer_context,
    )
    Deposit.objects.update(note="1")
    owners.append(bea)
    Deposit.objects.update(note="2")
    owners.remove(ada)
    Deposit.objects.update(note="3")
    owners.append(ada)
    Deposit.objects.update(note="4")

    found = {
        (each.owner.username, each.sequence): json.loads(each.body)["previous_attributes"]
        for each in recorded()
    }

    assert found == {
        ("ada", 1): {"note": "ada: "},
        ("ada", 2): {"note": "ada: 1"},
        ("bea", 2): {"note": "bea: 1"},
        ("bea", 3): {"note": "bea: 2"},
        ("ada", 4): {"note": "ada: 2"},
        ("bea", 4): {"note": "bea: 3"},
    }


def test_other_objects_and_resources_are_no_history(deposit: Deposit) -> None:
    declare(previous_attributes=True)
    with disable_webhooks():
        other = make_deposit(tenant=deposit.tenant, amount=7)
    Tenant.objects.update(name="Bea")
    declare(base_name="core.other", serializer_class=type("Other", (ForOwner,), {}))

    with registry.isolated():
        declare(previous_attributes=True)
        Deposit.objects.filter(pk=other.pk).update(amount=8)

    assert previous()[-1] == {"amount": "7.00"}


@pytest.mark.parametrize("count", [1, 20])
def test_it_costs_a_statement_at_the_end_and_those_of_comparing(
    deposit: Deposit, count: int
) -> None:
    with disable_webhooks():
        tenant = make_tenant()
        for _ in range(count):
            make_deposit(tenant=tenant)
    costs = []
    for chosen in ({}, {"previous_attributes": True}):
        with registry.isolated():
            declare(**chosen)
            with statements() as found, transaction.atomic():
                Deposit.objects.filter(tenant=tenant).update(note="x")
        costs.append(len(found))

    assert costs[1] == costs[0] + 3
