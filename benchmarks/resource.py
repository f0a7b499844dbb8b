"""What the benchmark declares: a deposit that nests four objects."""

from typing import Any, ClassVar

from rest_framework import serializers

from drf_webhooks.registry import registry
from drf_webhooks.resources import ModelSerializerWebhook
from tests.app.models import Deposit, Landlord, RentalUnit, Tenant
from tests.app.serializers import UserSerializer

__all__ = ["declare", "declare_many", "declare_with_code", "walk"]


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


def declare_with_code() -> type[ModelSerializerWebhook]:
    """Declare a resource two of whose fields are code."""

    class WithCode(DepositSerializer):
        where = serializers.SerializerMethodField()
        who = serializers.SerializerMethodField()

        class Meta(DepositSerializer.Meta):
            fields: ClassVar = [*DepositSerializer.Meta.fields, "where", "who"]

        def get_where(self, deposit: Deposit) -> str:
            return str(deposit.unit.address.street) if deposit.unit else ""

        def get_who(self, deposit: Deposit) -> str:
            return str(deposit.tenant.name)

    registry._replace([])
    return type(
        "WithCodeWebhook",
        (ModelSerializerWebhook,),
        {"serializer_class": WithCode, "base_name": "core.deposit"},
    )


def declare_many(count: int, *, nested: int) -> None:
    """Declare resources whose serializers nest some others, each a class of its own."""
    for number in range(count):
        serializer: Any = DepositSerializer
        fields = {
            f"unit_{place}": type(
                f"Unit{number}{place}",
                (serializers.ModelSerializer,),
                {"Meta": type("Meta", (), {"model": RentalUnit, "fields": ["id", "name"]})},
            )(source="unit", read_only=True)
            for place in range(nested)
        }
        meta = type("Meta", (), {"model": Deposit, "fields": ["id", "amount", "note", *fields]})
        serializer = type(
            f"Deposit{number}", (serializers.ModelSerializer,), {**fields, "Meta": meta}
        )
        type(
            f"Deposit{number}Webhook",
            (ModelSerializerWebhook,),
            {"serializer_class": serializer, "base_name": f"core.deposit{number}"},
        )


def walk(serializer: Any) -> int:
    """Make all fields of a serializer and of those nested in it; return how many."""
    return sum(
        1 + (walk(each) if isinstance(each, serializers.BaseSerializer) else 0)
        for each in serializer.fields.values()
    )
