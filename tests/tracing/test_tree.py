"""What is read from a serializer: columns, relations, and what stays unknown."""

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from rest_framework import serializers

from drf_webhooks.registry import registry
from drf_webhooks.resources import ModelSerializerWebhook
from drf_webhooks.testing import capture_events
from drf_webhooks.tracing.index import index
from drf_webhooks.tracing.tree import Node, read
from tests.app.models import Address, Deposit, Tenant
from tests.app.serializers import AddressSerializer
from tests.factories import make_deposit
from tests.library import resources


def tree(model: Any = Deposit, **fields: Any) -> Node:
    meta = type("Meta", (), {"model": model, "fields": list(fields)})
    serializer = type("Some", (serializers.ModelSerializer,), {**fields, "Meta": meta})
    return read(serializer(), model)


def unknown(node: Node) -> list[str]:
    return [each.name for one in node for each in one.opaque]


class Free(serializers.BaseSerializer[Any]):
    def to_representation(self, instance: Any) -> Any:
        return str(instance)


class Overridden(AddressSerializer):
    def to_representation(self, instance: Any) -> Any:
        return str(instance)


class Flat(serializers.Serializer[Any]):
    city = serializers.CharField()


class Deep(serializers.Serializer[Any]):
    address = AddressSerializer()
    addresses = AddressSerializer(many=True, write_only=True)


def test_columns_by_each_spelling() -> None:
    found = tree(
        amount=serializers.CharField(),
        key=serializers.IntegerField(source="pk"),
        tenant_id=serializers.IntegerField(),
        secret=serializers.CharField(source="note", write_only=True),
    )

    assert found.columns == {"amount", "id", "tenant_id"}
    assert unknown(found) == []


def test_dotted_sources_lead_to_other_models() -> None:
    found = tree(city=serializers.CharField(source="tenant.address.city"))

    assert [node.lookup for node in found] == ["", "tenant", "tenant__address"]
    assert found.children["tenant"].children["address"].columns == {"city"}


def test_a_plain_serializer_of_the_same_object() -> None:
    found = tree(Address, flat=Flat(source="*"))

    assert found.columns == {"city"}


def test_what_cannot_be_seen_is_named() -> None:
    found = tree(
        tenant=Free(),
        unit=Overridden(source="tenant.address"),
        label=serializers.CharField(source="some_property"),
        whole=serializers.JSONField(source="*"),
    )

    assert unknown(found) == ["label", "whole", "Free", "Overridden"]


def test_a_nested_serializer_of_a_property_names_the_models_in_it() -> None:
    found = tree(best=Deep(source="some_property"))

    assert [(each.name, each.model) for each in found.unreachable] == [("best.address", Address)]
    assert unknown(found) == ["best"]


def test_links_read_a_key_or_a_column() -> None:
    found = tree(
        by_key=serializers.HyperlinkedRelatedField("x", source="tenant", read_only=True),
        by_name=serializers.HyperlinkedRelatedField(
            "x", source="unit", read_only=True, lookup_field="name"
        ),
        own=serializers.HyperlinkedIdentityField("x"),
    )

    assert found.children["tenant"].is_key_only
    assert found.children["unit"].columns == {"name"}


def test_a_query_name_is_no_attribute() -> None:
    found = tree(Address, tenants=serializers.CharField(source="tenant"))

    assert unknown(found) == ["tenants"]


@pytest.mark.parametrize("name", resources.serializers_by_name())
def test_no_field_has_to_be_made_to_be_read(name: str) -> None:
    serializer = resources.serializers_by_name()[name]
    model = serializer.Meta.model

    quick = read(serializer(context={}), model, ["count", "dearest", "is_lent"])
    whole = read(serializer(context={}), model, ["count", "dearest", "is_lent"], is_used=True)

    def known(tree: Node) -> list[Any]:
        return sorted(
            (node.lookup, node.accessor, sorted(node.columns), node.reads_all, node.is_key_only)
            for node in tree
        )

    assert known(quick) == known(whole)
    assert sorted(unknown(quick)) == sorted(unknown(whole))


@pytest.fixture
def isolated() -> Iterator[None]:
    with registry.isolated():
        yield


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["tenant", "tenant__name", "tenant_set", "tenant__deposits"])
def test_paths_may_be_declared_in_each_spelling(isolated: None, name: str) -> None:
    class Opaque(serializers.ModelSerializer[Address]):
        who = serializers.SerializerMethodField()

        class Meta:
            model = Address
            fields: ClassVar = ["id", "who"]

        def get_who(self, address: Address) -> str:
            return ", ".join(Tenant.objects.filter(address=address).values_list("name", flat=True))

    class AddressWebhook(ModelSerializerWebhook):
        serializer_class = Opaque
        depends_on = (name,)

    deposit = make_deposit()

    with capture_events() as events:
        deposit.tenant.name = "Bea"
        deposit.tenant.save()

    assert index().traces[0].mistakes == []
    assert [each.data["who"] for each in events] == ["Bea"]


@pytest.mark.django_db(transaction=True)
def test_only_the_columns_that_are_read_count(isolated: None) -> None:
    class Line(serializers.ModelSerializer[Deposit]):
        name = serializers.CharField(source="tenant.name")

        class Meta:
            model = Deposit
            fields: ClassVar = ["id", "name"]

    class DepositWebhook(ModelSerializerWebhook):
        serializer_class = Line

    deposit = make_deposit()
    with capture_events() as events:
        deposit.tenant.save(update_fields=["notes", "address"])
        deposit.save(update_fields=["amount"])
        deposit.save(update_fields=["tenant"])

    assert [each.type for each in events] == ["core.deposit.updated"]
