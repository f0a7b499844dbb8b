"""Resources that compare an object's form with what it was before the session."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction
from django.db.models import Case, Value, When
from rest_framework import serializers

from drf_webhooks import numbering
from drf_webhooks.models import BaseObject, Endpoint, Event
from drf_webhooks.registry import registry
from drf_webhooks.resources import ModelSerializerWebhook
from drf_webhooks.session import disable_webhooks, webhook_signal_session
from tests.app.models import Deposit, Landlord, RentalUnit, Tenant, User
from tests.app.serializers import LandlordWithUnitsSerializer, NoteField, TenantSerializer
from tests.factories import make_deposit, make_landlord, make_tenant, make_unit, make_user

pytestmark = pytest.mark.django_db(transaction=True)


class DepositSerializer(serializers.ModelSerializer[Deposit]):
    note = NoteField()
    tenant = TenantSerializer()

    class Meta:
        model = Deposit
        fields = ("id", "amount", "note", "tenant")


@pytest.fixture(autouse=True)
def _isolated(everything: Endpoint) -> Iterator[None]:
    with registry.isolated():
        yield


def declare(**attributes: Any) -> type[ModelSerializerWebhook]:
    return type(
        "DepositWebhook",
        (ModelSerializerWebhook,),
        {"serializer_class": DepositSerializer, "skip_unchanged": True, **attributes},
    )


def visible(**attributes: Any) -> type[ModelSerializerWebhook]:
    """Declare a resource that leaves out what is marked as gone."""

    def get_queryset(cls: Any) -> Any:
        return Deposit.objects.exclude(note="gone")

    return declare(get_queryset=classmethod(get_queryset), **attributes)


@pytest.fixture
def deposit() -> Deposit:
    with disable_webhooks():
        return make_deposit()


def said() -> list[tuple[str, Any]]:
    events = Event.objects.filter(held_until=None).order_by("created_at", "id")
    return [(each.type.removeprefix("core.deposit."), each.data) for each in events]


def names() -> list[str]:
    return [name for name, _ in said()]


def sequences() -> list[int]:
    return list(BaseObject.objects.values_list("sequence", flat=True))


def test_a_save_that_changes_nothing_says_nothing_and_takes_no_number(deposit: Deposit) -> None:
    declare()

    deposit.save()
    deposit.tenant.save()
    assert said() == []
    assert sequences() == [0]

    deposit.amount = 1
    deposit.save()
    assert names() == ["updated"]
    assert sequences() == [1]


def test_there_and_back_in_one_session_of_two_transactions(deposit: Deposit) -> None:
    declare()

    with webhook_signal_session():
        Deposit.objects.update(amount=1)
        Deposit.objects.update(amount=100)

    assert said() == []


def test_what_begins_to_be_left_out_is_deleted(deposit: Deposit) -> None:
    visible()

    Deposit.objects.update(note="gone")
    Deposit.objects.update(note="gone", amount=1)
    Deposit.objects.update(note="back")

    assert said()[0] == ("deleted", {"id": deposit.pk})
    assert names() == ["deleted", "created"]


def test_what_stays_left_out_is_no_news(deposit: Deposit) -> None:
    visible()
    with disable_webhooks():
        Deposit.objects.update(note="gone")

    Deposit.objects.update(amount=1)

    assert said() == []


def test_a_whole_form_may_be_deleted_too(deposit: Deposit) -> None:
    visible(deleted_payload="full")

    Deposit.objects.update(note="gone")

    assert said()[0][1]["amount"] == "100.00"


def test_what_was_left_out_is_deleted_in_silence(deposit: Deposit) -> None:
    visible()
    with disable_webhooks():
        Deposit.objects.update(note="gone")

    deposit.delete()

    assert said() == []


def test_what_is_not_to_be_said_is_not(deposit: Deposit) -> None:
    visible(delete=False)

    Deposit.objects.update(note="gone")

    assert said() == []


def test_made_again_with_the_same_key_is_an_update(deposit: Deposit) -> None:
    declare()
    key = deposit.pk

    with transaction.atomic():
        deposit.delete()
        Deposit.objects.create(pk=key, amount=1, tenant=make_tenant())

    assert names() == ["updated"]


def test_an_object_that_cannot_be_serialized_equals_nothing(deposit: Deposit) -> None:
    declare()
    Deposit.objects.update(note="boom")
    Deposit.objects.update(note="boom")

    assert [each.error != "" for each in Event.objects.all()] == [True, True]


def test_what_others_say_in_between_makes_it_worth_saying(deposit: Deposit) -> None:
    declare()

    with webhook_signal_session():
        deposit.save()
        # What another process would do: it changes the object, and says so.
        numbering.number([("core.deposit", str(deposit.pk))], "default")

    assert names() == ["updated"]


def test_each_owner_is_compared_by_itself(deposit: Deposit) -> None:
    with disable_webhooks():
        ada, bea = make_user(username="ada"), make_user(username="bea")
        for owner in (ada, bea):
            Endpoint.objects.create(owner=owner, url="https://x.example/", event_types=["*"])

    def get_owner(cls: Any, instance: Deposit) -> list[User]:
        return [ada, bea]

    def get_serializer_context(cls: Any, owner: Any = None) -> dict[str, Any]:
        return {"owner": getattr(owner, "username", "")}

    class Personal(serializers.ModelSerializer[Deposit]):
        note = serializers.SerializerMethodField()

        class Meta:
            model = Deposit
            fields = ("note",)

        def get_note(self, one: Deposit) -> str:
            return one.note if self.context["owner"] == "ada" else ""

    declare(
        serializer_class=Personal,
        get_owner=classmethod(get_owner),
        get_serializer_context=classmethod(get_serializer_context),
    )

    Deposit.objects.update(note="for ada")

    assert [each.owner_id for each in Event.objects.all()] == [ada.pk]


def test_nothing_is_compared_when_nobody_listens(deposit: Deposit) -> None:
    declare()
    Endpoint.objects.all().delete()

    deposit.tenant.save()
    Tenant.objects.update(name="x")

    assert not BaseObject.objects.exists()


@pytest.fixture
def moved_unit() -> tuple[RentalUnit, Landlord]:
    """A unit, and the landlord that it is about to hang under."""

    class LandlordWebhook(ModelSerializerWebhook):
        serializer_class = LandlordWithUnitsSerializer
        skip_unchanged = True

    with disable_webhooks():
        return make_unit(landlord=make_landlord()), make_landlord()


def under(unit: RentalUnit, landlord: Landlord) -> Case:
    return Case(When(pk=unit.pk, then=Value(landlord.pk)))


def test_where_an_expression_hangs_rows_is_known_before(
    moved_unit: tuple[RentalUnit, Landlord],
) -> None:
    unit, new = moved_unit
    old = unit.landlord
    moved = RentalUnit.objects.filter(pk=unit.pk)

    with webhook_signal_session():
        moved.update(landlord=under(unit, new))
        new.save()
        moved.update(landlord=under(unit, old))
    there_and_back = Event.objects.count()
    moved.update(landlord=under(unit, new))

    keys = Event.objects.values_list("object_key", flat=True)
    assert there_and_back == 0
    assert sorted(keys) == sorted([str(old.pk), str(new.pk)])


def test_where_a_saved_expression_hangs_a_row_is_known_too_late_to_compare(
    moved_unit: tuple[RentalUnit, Landlord],
) -> None:
    unit, new = moved_unit
    old = unit.landlord

    with webhook_signal_session():
        unit.landlord_id = under(unit, new)
        unit.save()
        # What names the new one again must not take its form of now for that of before.
        new.save()

    keys = Event.objects.values_list("object_key", flat=True)
    assert sorted(keys) == sorted([str(old.pk), str(new.pk)])


def test_where_nobody_asks_nothing_is_evaluated(moved_unit: tuple[RentalUnit, Landlord]) -> None:
    unit, new = moved_unit
    (compared,) = registry

    class Others(LandlordWithUnitsSerializer):
        pass

    class OthersWebhook(ModelSerializerWebhook):
        serializer_class = Others
        base_name = "core.other"
        skip_unchanged = True

    with disable_webhooks(compared):
        RentalUnit.objects.filter(pk=unit.pk).update(landlord=under(unit, new))

    assert {each.resource for each in Event.objects.all()} == {"core.other"}
