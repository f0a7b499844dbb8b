"""Each kind of relation and field, each kind of change: judged by the forms before and after."""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from rest_framework import serializers

from drf_webhooks.models import Endpoint
from drf_webhooks.registry import registry
from drf_webhooks.resources import ModelSerializerWebhook
from tests.app.models import (
    Address,
    Deposit,
    House,
    Inspection,
    Landlord,
    Regular,
    Remark,
    RentalUnit,
    Tag,
    Tenant,
)
from tests.app.serializers import AddressSerializer, DepositSerializer, UserSerializer
from tests.factories import make_address, make_deposit, make_user
from tests.oracle import judge, quietly

pytestmark = pytest.mark.django_db(transaction=True)


def declare() -> None:
    """Declare resources that read the rental business in every direction."""

    class DepositLine(serializers.ModelSerializer[Deposit]):
        city = serializers.CharField(source="tenant.address.city", default=None)

        class Meta:
            model = Deposit
            fields: ClassVar = ["id", "amount", "city"]

    class UnitInLandlord(serializers.ModelSerializer[RentalUnit]):
        address = AddressSerializer()
        deposits = DepositLine(many=True)
        inspectors: Any = serializers.SlugRelatedField("username", many=True, read_only=True)
        floors = serializers.IntegerField(source="house.floors", default=None)

        class Meta:
            model = RentalUnit
            fields: ClassVar = ["id", "name", "address", "deposits", "inspectors", "floors"]

    class HouseSerializer(serializers.ModelSerializer[House]):
        class Meta:
            model = House
            fields: ClassVar = ["id", "name", "floors"]

    class RegularSerializer(serializers.ModelSerializer[Regular]):
        class Meta:
            model = Regular
            fields: ClassVar = ["id", "name"]

    class WithFriends(serializers.ModelSerializer[Tenant]):
        friends: Any = serializers.SlugRelatedField("name", many=True, read_only=True)

        class Meta:
            model = Tenant
            fields: ClassVar = ["id", "friends"]

    class WithRemarks(serializers.ModelSerializer[Deposit]):
        remarks: Any = serializers.SlugRelatedField("text", many=True, read_only=True)

        class Meta:
            model = Deposit
            fields: ClassVar = ["id", "remarks"]

    class LandlordSerializer(serializers.ModelSerializer[Landlord]):
        units = UnitInLandlord(many=True)
        flats: Any = serializers.PrimaryKeyRelatedField(source="units", many=True, read_only=True)

        class Meta:
            model = Landlord
            fields: ClassVar = ["id", "name", "units", "flats", "address"]

    class UserWithTenant(UserSerializer):
        flat = serializers.CharField(source="tenant.name", default=None)

        class Meta(UserSerializer.Meta):
            fields: ClassVar = [*UserSerializer.Meta.fields, "flat"]

    class TagSerializer(serializers.ModelSerializer[Tag]):
        units: Any = serializers.StringRelatedField(many=True)

        class Meta:
            model = Tag
            fields: ClassVar = ["id", "name", "units"]

    class AddressWithTenants(serializers.ModelSerializer[Address]):
        tenant_set: Any = serializers.SlugRelatedField("name", many=True, read_only=True)
        unit: Any = serializers.SlugRelatedField("name", read_only=True)

        class Meta:
            model = Address
            fields: ClassVar = ["id", "street", "tenant_set", "unit"]

    class DepositWebhook(ModelSerializerWebhook):
        serializer_class = DepositSerializer

    class LandlordWebhook(ModelSerializerWebhook):
        serializer_class = LandlordSerializer

    class HouseWebhook(ModelSerializerWebhook):
        serializer_class = HouseSerializer

    class RegularWebhook(ModelSerializerWebhook):
        serializer_class = RegularSerializer

    class FriendsWebhook(ModelSerializerWebhook):
        serializer_class = WithFriends
        base_name = "core.friends"

    class RemarksWebhook(ModelSerializerWebhook):
        serializer_class = WithRemarks
        base_name = "core.remarks"

    class UserWebhook(ModelSerializerWebhook):
        serializer_class = UserWithTenant

    class TagWebhook(ModelSerializerWebhook):
        serializer_class = TagSerializer

    class AddressWebhook(ModelSerializerWebhook):
        serializer_class = AddressWithTenants


@pytest.fixture(autouse=True)
def _declared() -> Iterator[None]:
    with registry.isolated():
        declare()
        yield


def change(instance: Any, **fields: Any) -> None:
    """Set fields of an object and save it."""
    for name, value in fields.items():
        setattr(instance, name, value)
    instance.save()


CHANGES: dict[str, Callable[[Deposit, Deposit], Any]] = {
    "base saved": lambda one, two: change(one, amount=1),
    "base saved by update_fields": lambda one, two: one.save(update_fields=["amount"]),
    "base created": lambda one, two: make_deposit(),
    "base deleted": lambda one, two: one.delete(),
    "foreign key changed": lambda one, two: change(one, tenant=two.tenant),
    "foreign key nulled": lambda one, two: change(one, unit=None),
    "nested saved": lambda one, two: change(one.tenant, name="Bea"),
    "nested saved, field not read": lambda one, two: one.tenant.save(update_fields=["notes"]),
    "nested saved, column name": lambda one, two: change(one.unit, landlord_id=two.landlord_id),
    "two hops": lambda one, two: change(one.unit.address, city="Wien"),
    "two hops to a user": lambda one, two: change(one.tenant.user, username="bea"),
    "nested swapped": lambda one, two: change(one.tenant, address=two.tenant.address),
    "nested nulled": lambda one, two: change(one.tenant, address=None),
    "nested deleted, set null": lambda one, two: one.tenant.address.delete(),
    "nested deleted, one to one": lambda one, two: one.unit.address.delete(),
    "nested deleted, cascade": lambda one, two: one.tenant.delete(),
    "user deleted": lambda one, two: one.tenant.user.delete(),
    "one to one moved": lambda one, two: change(one.tenant, user=make_user()),
    "child moved to another parent": lambda one, two: change(one.unit, landlord=two.landlord),
    "child nulled": lambda one, two: change(one.unit, landlord=None),
    "child created": lambda one, two: RentalUnit.objects.create(name="x", landlord=two.landlord),
    "child deleted": lambda one, two: one.unit.delete(),
    "parent deleted": lambda one, two: one.landlord.delete(),
    "grandchild moved": lambda one, two: change(one, unit=two.unit),
    "child moved through a stale instance": lambda one, two: (
        RentalUnit.objects.get(pk=one.unit.pk).delete(),
        change(one.unit, landlord=two.landlord),
    ),
    "reverse set": lambda one, two: one.tenant.deposits.create(amount=5),
    "m2m add": lambda one, two: one.unit.tags.add(Tag.objects.get(name="old")),
    "m2m add from the other side": lambda one, two: Tag.objects.get(name="old").units.add(one.unit),
    "m2m remove": lambda one, two: two.unit.tags.remove(Tag.objects.get(name="old")),
    "m2m remove from the other side": lambda one, two: Tag.objects.get(name="old").units.remove(
        two.unit
    ),
    "m2m clear": lambda one, two: two.unit.tags.clear(),
    "m2m clear from the other side": lambda one, two: Tag.objects.get(name="old").units.clear(),
    "m2m set": lambda one, two: two.unit.tags.set([Tag.objects.create(name="new")]),
    "m2m end deleted": lambda one, two: Tag.objects.get(name="old").delete(),
    "m2m end renamed": lambda one, two: change(Tag.objects.get(name="old"), name="new"),
    "friends added": lambda one, two: one.tenant.friends.add(two.tenant),
    "friends cleared": lambda one, two: (
        one.tenant.friends.add(two.tenant),
        two.tenant.friends.clear(),
    ),
    "a friend renamed": lambda one, two: (
        one.tenant.friends.add(two.tenant),
        change(one.tenant, name="Bea"),
    ),
    "through row made by hand": lambda one, two: Inspection.objects.create(
        unit=one.unit, inspector=two.tenant.user
    ),
    "through row deleted by hand": lambda one, two: Inspection.objects.get().delete(),
    "through row moved by hand": lambda one, two: change(Inspection.objects.get(), unit=one.unit),
    "through rows cleared": lambda one, two: two.unit.inspectors.clear(),
    "parent row of a child saved": lambda one, two: change(
        RentalUnit.objects.get(name="house"), name="villa"
    ),
    "child saved with its parent": lambda one, two: change(House.objects.get(), floors=3, name="v"),
    "inheriting child created": lambda one, two: House.objects.create(
        name="x", landlord=one.landlord
    ),
    "child row deleted": lambda one, two: House.objects.get().delete(),
    "child row deleted, parent kept": lambda one, two: House.objects.get().delete(
        keep_parents=True
    ),
    "parent row of a child deleted": lambda one, two: RentalUnit.objects.get(name="house").delete(),
    "saved through a proxy": lambda one, two: change(
        Regular.objects.get(pk=one.tenant_id), name="Bea"
    ),
    "created through a proxy": lambda one, two: Regular.objects.create(name="Bea"),
    "generic row made": lambda one, two: Remark.objects.create(text="late", target=one),
    "generic row saved": lambda one, two: change(Remark.objects.get(), text="early"),
    "generic row moved": lambda one, two: change(Remark.objects.get(), object_id=one.pk),
    "generic row deleted": lambda one, two: Remark.objects.get().delete(),
    "generic target deleted": lambda one, two: two.delete(),
    "many at once": lambda one, two: (
        change(one.tenant, name="x"),
        one.delete(),
        change(two.unit, landlord=None),
        two.unit.tags.clear(),
        make_deposit(tenant=two.tenant),
        change(two.tenant, address=make_address()),
    ),
    "and back": lambda one, two: (
        change(one.unit, landlord=two.landlord),
        change(one.unit, landlord=one.landlord),
    ),
}


#: A save writes every column of its row. That those which a form reads are equal, or equal
#: again, only a comparison with the form before would tell.
EQUAL_AGAIN = {
    "base saved by update_fields",
    "and back",
    "base saved",
    "foreign key changed",
    "foreign key nulled",
    "grandchild moved",
    "saved through a proxy",
    "nested saved",
    "nested saved, column name",
    "two hops",
    "nested swapped",
    "nested nulled",
    "one to one moved",
    "child moved to another parent",
    "child nulled",
    "child moved through a stale instance",
    "many at once",
    "friends cleared",
    "a friend renamed",
}


@pytest.mark.parametrize(("name", "act"), CHANGES.items(), ids=CHANGES)
def test_what_alters_a_form_is_said_and_nothing_else(
    name: str, act: Callable[[Deposit, Deposit], Any], everything: Endpoint
) -> None:
    assert everything
    with quietly():
        one, two = make_deposit(), make_deposit()
        two.unit.tags.add(Tag.objects.create(name="old"))
        Inspection.objects.create(unit=two.unit, inspector=one.tenant.user)
        House.objects.create(name="house", landlord=two.landlord)
        Remark.objects.create(text="late", target=two)

    verdict = judge(lambda: act(one, two))

    assert verdict.missed == []
    assert verdict.wrong == []
    if name not in EQUAL_AGAIN:
        assert verdict.spurious == []


def test_tenant_is_reached_by_two_paths(everything: Endpoint) -> None:
    with quietly():
        shared = make_address()
        deposit = make_deposit(
            tenant=Tenant.objects.create(name="Ada", address=shared),
            landlord=Landlord.objects.create(name="Grace", address=shared),
        )

    verdict = judge(lambda: change(shared, city="Wien"))

    assert verdict.missed == verdict.wrong == []
    assert ("core.deposit", str(deposit.pk)) in [each[:2] for each in verdict.said]
