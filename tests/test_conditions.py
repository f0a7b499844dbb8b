"""Saying something only if certain members of the form changed, or if a condition holds."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F
from django.test import override_settings
from django.utils import timezone

from drf_webhooks import numbering, pipeline
from drf_webhooks.models import BaseObject, Endpoint, Event
from drf_webhooks.registry import registry
from drf_webhooks.resources import FormChange
from drf_webhooks.session import disable_webhooks, webhook_signal_session
from tests.app.models import Address, Deposit, Landlord, RentalUnit, Tenant
from tests.app.serializers import LandlordWithUnitsSerializer
from tests.declaring import declare, names, owned_by, recorded, said, statements
from tests.factories import make_deposit, make_landlord, make_unit, make_user

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _isolated(everything: Endpoint) -> Iterator[None]:
    with registry.isolated():
        yield


@pytest.fixture
def deposit() -> Deposit:
    with disable_webhooks():
        return make_deposit()


def sequences() -> list[int]:
    return list(BaseObject.objects.values_list("sequence", flat=True))


def test_only_what_is_named_is_worth_an_update(deposit: Deposit) -> None:
    declare(only_fields=["amount", "tenant.address.city"])

    Deposit.objects.update(note="new")
    Tenant.objects.update(name="Bea")
    Address.objects.filter(pk=deposit.tenant.address_id).update(street="Side Street 2")
    nothing, unnumbered = said(), sequences()
    Address.objects.filter(pk=deposit.tenant.address_id).update(city="Linz")
    deposit.refresh_from_db()
    deposit.amount = 5
    deposit.save()

    assert (nothing, unnumbered) == ([], [0])
    # The whole form is said, with what was not worth saying before.
    assert [data["note"] for _, data in said()] == ["new", "new"]
    assert [each.sequence for each in recorded()] == [1, 2]


def test_a_nested_object_that_goes_takes_its_members_along(deposit: Deposit) -> None:
    declare(only_fields=["tenant.address.city"])

    Tenant.objects.update(address=None)
    Tenant.objects.update(user=None)

    assert names() == ["updated"]


def test_a_list_is_compared_as_a_whole() -> None:
    declare(serializer_class=LandlordWithUnitsSerializer, only_fields=["units"])
    with disable_webhooks():
        landlord = make_landlord()
        unit = make_unit(landlord=landlord)

    Landlord.objects.update(name="Ida")
    before = names()
    RentalUnit.objects.update(name="Top 6")
    unit.delete()

    assert (before, names()) == ([], ["updated", "updated"])


def test_created_and_deleted_are_said_whatever_has_changed(deposit: Deposit) -> None:
    declare(only_fields=["amount"])

    with webhook_signal_session():
        new = Deposit.objects.create(tenant=deposit.tenant)
        Deposit.objects.filter(pk=new.pk).update(note="x")
    Deposit.objects.filter(pk=new.pk).delete()

    assert names() == ["created", "deleted"]


def test_what_goes_there_and_back_in_several_transactions_is_no_news(deposit: Deposit) -> None:
    declare(only_fields=["amount"])

    with webhook_signal_session():
        Deposit.objects.update(amount=1)
        Deposit.objects.update(note="x")
        Deposit.objects.update(amount=100)
    nothing = names()
    with webhook_signal_session():
        Deposit.objects.update(amount=1)
        Deposit.objects.update(note="y")

    assert (nothing, names()) == ([], ["updated"])


def test_a_change_that_was_undone_does_not_count(deposit: Deposit) -> None:
    declare(only_fields=["amount"])

    with transaction.atomic():
        Deposit.objects.update(note="x")
        with transaction.atomic():
            Deposit.objects.update(amount=1)
            transaction.set_rollback(True)

    assert names() == []


def test_what_another_one_has_said_meanwhile_makes_it_worth_saying(deposit: Deposit) -> None:
    declare(only_fields=["amount"])

    with webhook_signal_session():
        Deposit.objects.update(note="x")
        numbering.number([("core.deposit", str(deposit.pk))], "default")

    assert names() == ["updated"]


def test_a_worker_that_does_not_know_the_form_before_says_it(deposit: Deposit) -> None:
    declare(only_fields=["amount"])

    with webhook_signal_session():
        Deposit.objects.update(note="x")
        Event.objects.update(held_until=timezone.now() - timedelta(days=1))
        pipeline.release_due()

    assert names() == ["updated"]


def test_an_object_that_cannot_be_serialized_is_parked_and_not_left_out(deposit: Deposit) -> None:
    declare(only_fields=["amount"], condition=lambda cls, change: False)

    Deposit.objects.update(note="boom")

    assert "boom" in recorded()[0].error


def asked(answer: Callable[[FormChange], bool]) -> list[FormChange]:
    """Declare a resource with a condition; return the list of what it is asked."""
    found: list[FormChange] = []

    def condition(cls: Any, change: FormChange) -> bool:
        found.append(change)
        return answer(change)

    declare(condition=condition)
    return found


def test_a_condition_is_asked_with_both_forms(deposit: Deposit) -> None:
    changes = asked(lambda change: change.has_changed("amount"))

    Deposit.objects.update(note="x")
    Deposit.objects.update(amount=7)

    first, second = changes
    assert (first.operation, first.owner, first.instance) == ("updated", None, deposit)
    assert first.changed_fields == frozenset({"note"})
    assert second.before["amount"] == "100.00"
    assert second.after["amount"] == "7.00"
    assert [data["note"] for _, data in said()] == ["x"]
    assert sequences() == [1]


def test_a_condition_is_asked_once_at_the_end_of_a_session(deposit: Deposit) -> None:
    changes = asked(lambda change: True)

    with webhook_signal_session():
        new = Deposit.objects.create(tenant=deposit.tenant)
        Deposit.objects.filter(pk=new.pk).update(amount=3)
        Deposit.objects.filter(pk=deposit.pk).update(amount=4)
        Deposit.objects.filter(pk=deposit.pk).delete()

    # Of one that was changed and deleted: deleted.
    created, deleted = changes
    assert (created.operation, created.before, created.after["amount"]) == ("created", None, "3.00")
    assert (deleted.operation, deleted.after, deleted.instance) == ("deleted", None, None)
    assert deleted.before["amount"] == "100.00"


def test_what_a_condition_refuses_takes_no_number(deposit: Deposit) -> None:
    asked(lambda change: change.operation == "deleted")

    new = Deposit.objects.create(tenant=deposit.tenant)
    new.save()
    new.delete()

    assert [(each.type, each.sequence) for each in recorded()] == [("core.deposit.deleted", 1)]


def test_a_condition_without_comparison_does_not_turn_updates_into_deletions(
    deposit: Deposit,
) -> None:
    def get_queryset(cls: Any) -> Any:
        return Deposit.objects.exclude(note="gone")

    declare(get_queryset=get_queryset, condition=lambda cls, change: True)

    Deposit.objects.update(note="gone")

    assert names() == []


def test_each_owner_is_asked_for(deposit: Deposit) -> None:
    with disable_webhooks():
        ada, bea = make_user(username="ada"), make_user(username="bea")
        for owner in (ada, bea):
            Endpoint.objects.create(owner=owner, url="https://x.example/", event_types=["*"])

    def condition(cls: Any, change: FormChange) -> bool:
        return bool(change.owner.username == "ada")

    declare(get_owner=owned_by(ada, bea), condition=condition)

    deposit.save()

    assert [each.owner_id for each in recorded()] == [ada.pk]


@pytest.mark.parametrize("policy", ["park", "raise"])
def test_a_condition_that_fails_is_treated_like_a_serializer(
    deposit: Deposit, policy: str, settings: Any
) -> None:
    def condition(cls: Any, change: FormChange) -> bool:
        raise LookupError(change.operation)

    declare(condition=condition)

    with override_settings(DRF_WEBHOOKS={**settings.DRF_WEBHOOKS, "ON_PAYLOAD_ERROR": policy}):
        if policy == "park":
            deposit.save()
            assert "condition() failed" in recorded()[0].error
        else:
            with pytest.raises(Exception, match="condition\\(\\) failed"):
                deposit.save()
            assert recorded() == []


def test_a_database_error_in_a_condition_fails_the_commit(deposit: Deposit) -> None:
    def condition(cls: Any, change: FormChange) -> bool:
        return bool(Deposit.objects.extra(where=["no_such_column = 1"]))

    declare(condition=condition)

    with pytest.raises(Exception, match="no_such_column"):
        deposit.save()


def test_a_deferred_resource_keeps_no_forms(deposit: Deposit) -> None:
    changes: list[FormChange] = []

    def condition(cls: Any, change: FormChange) -> bool:
        changes.append(change)
        return True

    declare(serialize="deferred", condition=condition)

    Deposit.objects.update(amount=4)
    pipeline.release_due()

    assert [(each.before, each.after["amount"]) for each in changes] == [(None, "4.00")]
    assert names() == ["updated"]


def update_all(some: list[Deposit]) -> None:
    Deposit.objects.update(amount=F("amount") + 1)


def save_each(some: list[Deposit]) -> None:
    for each in some:
        each.save()


def save_twice(some: list[Deposit]) -> None:
    save_each(some)
    save_each(some)


def save_what_is_nested(some: list[Deposit]) -> None:
    some[0].tenant.save()


@pytest.mark.parametrize(
    "attributes",
    [
        pytest.param({"only_fields": ["amount"]}, id="only_fields"),
        pytest.param({"condition": lambda cls, change: True}, id="condition"),
        pytest.param({"skip_unchanged": True}, id="skip_unchanged"),
    ],
)
@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize(
    ("write", "writes", "more"),
    [
        pytest.param(update_all, 1, 2, id="one statement"),
        pytest.param(save_each, None, 2, id="each saved"),
        pytest.param(save_twice, None, 2, id="each saved twice"),
        # Before it is written, the objects above it are looked for.
        pytest.param(save_what_is_nested, 1, 3, id="nested"),
    ],
)
def test_comparing_costs_two_statements_before_each_write_to_objects_not_seen_yet(
    deposit: Deposit, attributes: Any, count: int, write: Any, writes: int | None, more: int
) -> None:
    with disable_webhooks():
        some = [deposit] + [make_deposit(tenant=deposit.tenant) for _ in range(count - 1)]
    costs = []
    chosen: dict[str, Any]
    for chosen in ({}, attributes):
        with registry.isolated():
            declare(**chosen)
            with statements() as found, transaction.atomic():
                write(some)
        costs.append(len(found))

    silent = bool(attributes.get("only_fields") or "skip_unchanged" in attributes)
    changed = write is update_all
    # What is silent writes nothing, and takes its number back.
    less = 0 if changed or not silent else written_in() - 1
    assert costs[1] == costs[0] + more * (count if writes is None else 1) - less


def written_in() -> int:
    """Return how many statements write events and deliveries."""
    return 1 if connection.vendor == "postgresql" else 2


@pytest.mark.skipif(connection.vendor == "sqlite", reason="it has one writer at a time")
def test_a_second_look_compares_what_is_named(deposit: Deposit) -> None:
    declare(only_fields=["amount"])

    def look_again() -> list[str]:
        Event.objects.filter(recheck_at__isnull=False).update(
            recheck_at=timezone.now() - timedelta(days=1)
        )
        pipeline.recheck_due()
        return names()

    Deposit.objects.update(amount=1)
    with override_settings(DRF_WEBHOOKS={"CAPTURE_BULK": False}):
        Deposit.objects.update(note="unseen")
    unnamed = look_again()
    Deposit.objects.update(amount=2)
    with override_settings(DRF_WEBHOOKS={"CAPTURE_BULK": False}):
        Deposit.objects.update(amount=3)

    assert unnamed == ["updated"]
    assert look_again() == ["updated"] * 3


@pytest.mark.skipif(connection.vendor == "sqlite", reason="it has one writer at a time")
def test_a_second_look_asks_the_condition_again(deposit: Deposit) -> None:
    changes = asked(lambda change: change.has_changed("amount"))

    Deposit.objects.update(amount=1)
    Deposit.objects.update(note="refused")
    Event.objects.update(recheck_at=timezone.now() - timedelta(days=1))
    pipeline.recheck_due()

    # The last one compares with what was last said.
    assert changes[-1].changed_fields == frozenset({"note"})
    assert names() == ["updated"]
