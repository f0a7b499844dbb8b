"""How the business looks from outside: the same in the API and in the webhooks."""

from typing import Any

from django.contrib.auth import get_user_model
from rest_framework import serializers

from example.core.models import Address, Amenity, Deposit, Landlord, RentalUnit, Tenant


class AddressSerializer(serializers.ModelSerializer[Address]):
    class Meta:
        model = Address
        fields = ["id", "street", "city"]


class UserSerializer(serializers.ModelSerializer[Any]):
    class Meta:
        model = get_user_model()
        fields = ["id", "username"]


class LandlordSerializer(serializers.ModelSerializer[Landlord]):
    address = AddressSerializer(read_only=True)

    class Meta:
        model = Landlord
        fields = ["id", "name", "address"]


class RentalUnitSerializer(serializers.ModelSerializer[RentalUnit]):
    address = AddressSerializer(read_only=True)
    amenities: serializers.SlugRelatedField[Amenity] = serializers.SlugRelatedField(
        "name", many=True, read_only=True
    )

    class Meta:
        model = RentalUnit
        fields = ["id", "name", "address", "amenities"]


class TenantSerializer(serializers.ModelSerializer[Tenant]):
    address = AddressSerializer(read_only=True)
    user = UserSerializer(read_only=True)

    class Meta:
        model = Tenant
        fields = ["id", "name", "address", "user"]


class DepositSerializer(serializers.ModelSerializer[Deposit]):
    """A deposit with all that belongs to it; written by the keys of what it names."""

    tenant = TenantSerializer(read_only=True)
    landlord = LandlordSerializer(read_only=True)
    unit = RentalUnitSerializer(read_only=True)
    tenant_id: Any = serializers.PrimaryKeyRelatedField(
        source="tenant", queryset=Tenant.objects.all(), write_only=True
    )
    landlord_id: Any = serializers.PrimaryKeyRelatedField(
        source="landlord", queryset=Landlord.objects.all(), write_only=True
    )
    unit_id: Any = serializers.PrimaryKeyRelatedField(
        source="unit", queryset=RentalUnit.objects.all(), write_only=True
    )

    class Meta:
        model = Deposit
        fields = [
            "id",
            "amount",
            "tenant",
            "landlord",
            "unit",
            "tenant_id",
            "landlord_id",
            "unit_id",
        ]


class PortfolioUnitSerializer(serializers.ModelSerializer[RentalUnit]):
    class Meta:
        model = RentalUnit
        fields = ["id", "name"]


class PortfolioSerializer(serializers.ModelSerializer[Landlord]):
    """A landlord with the units that belong to it."""

    units = PortfolioUnitSerializer(many=True, read_only=True)

    class Meta:
        model = Landlord
        fields = ["id", "name", "units"]
