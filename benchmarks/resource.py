"""What the benchmark declares: a deposit that nests four objects."""

from typing import Any, ClassVar

from rest_framework import serializers

from drf_webhooks.registry import registry
from drf_webhooks.resources import ModelSerializerWebhook
from tests.app.models import Deposit, Landlord, RentalUnit, Tenant
from tests.app.serializers import UserSerializer

__all__ = ["declare"]


class TenantSerializer(serializers.ModelSerializer[Tenant]):
    user = UserSerializer()

    class Meta:
        model = Tenant
        fields: ClassVar = ["id", "name", "notes", "user"]


class LandlordSerializer(serializers.ModelSerializer[Landlord]):
    class Meta:
        model = Landlord
        fields: ClassVar = ["id", "name", "address"]


class UnitSerializer(serializers.ModelSerializer[RentalUnit]):
    class Meta:
        model = RentalUnit
        fields: ClassVar = ["id", "name", "address"]


class DepositSerializer(serializers.ModelSerializer[Deposit]):
    tenant = TenantSerializer()
    landlord = LandlordSerializer()
    unit = UnitSerializer()

    class Meta:
        model = Deposit
        fields: ClassVar = ["id", "amount", "note", "tenant", "landlord", "unit"]


def declare(serialize: Any) -> None:
    """Declare the one resource of the benchmark, instead of what there was."""
    registry._replace([])
    attributes = {
        "serializer_class": DepositSerializer,
        "base_name": "core.deposit",
        "serialize": serialize,
    }
    type("DepositWebhook", (ModelSerializerWebhook,), attributes)
