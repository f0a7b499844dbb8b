"""How the rental business looks from outside."""

from typing import Any, ClassVar

from rest_framework import serializers

from tests.app.models import (
    Address,
    Deposit,
    Document,
    Landlord,
    RentalUnit,
    Tag,
    Tenant,
    User,
)


class AddressSerializer(serializers.ModelSerializer[Address]):
    class Meta:
        model = Address
        fields: ClassVar = ["id", "street", "city"]


class UserSerializer(serializers.ModelSerializer[User]):
    class Meta:
        model = User
        fields: ClassVar = ["id", "username"]


class LandlordSerializer(serializers.ModelSerializer[Landlord]):
    address = AddressSerializer()

    class Meta:
        model = Landlord
        fields: ClassVar = ["id", "name", "address"]


class RentalUnitSerializer(serializers.ModelSerializer[RentalUnit]):
    address = AddressSerializer()
    tags: serializers.SlugRelatedField[Tag] = serializers.SlugRelatedField(
        "name", many=True, read_only=True
    )

    class Meta:
        model = RentalUnit
        fields: ClassVar = ["id", "name", "address", "tags"]


class TenantSerializer(serializers.ModelSerializer[Tenant]):
    address = AddressSerializer()
    user = UserSerializer()

    class Meta:
        model = Tenant
        fields: ClassVar = ["id", "name", "address", "user"]


class NoteField(serializers.CharField):
    """A field whose code may fail."""

    def to_representation(self, value: str) -> str:
        if value == "boom":
            raise ValueError(value)
        return super().to_representation(value)


class DepositSerializer(serializers.ModelSerializer[Deposit]):
    note = NoteField()
    tenant = TenantSerializer()
    landlord = LandlordSerializer()
    unit = RentalUnitSerializer()

    class Meta:
        model = Deposit
        fields: ClassVar = ["id", "amount", "note", "tenant", "landlord", "unit"]


class UnitInLandlordSerializer(serializers.ModelSerializer[RentalUnit]):
    class Meta:
        model = RentalUnit
        fields: ClassVar = ["id", "name"]


class LandlordWithUnitsSerializer(serializers.ModelSerializer[Landlord]):
    units = UnitInLandlordSerializer(many=True)

    class Meta:
        model = Landlord
        fields: ClassVar = ["id", "name", "units"]


class DocumentSerializer(serializers.ModelSerializer[Document]):
    class Meta:
        model = Document
        fields: ClassVar = ["id", "title", "readers"]


def form(serializer_class: Any, instance: Any) -> Any:
    """Return what a REST API would answer for an object, read afresh."""
    fresh = type(instance)._default_manager.get(pk=instance.pk)
    return serializer_class(fresh, context={"request": None}).data
