"""What is read from a serializer: columns, relations, and what stays unknown."""

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from django.db.models import F
from rest_framework import serializers

from drf_webhooks.registry import registry
from drf_webhooks.resources import ModelSerializerWebhook
from drf_webhooks.testing import capture_events
from drf_webhooks.tracing.index import index
from drf_webhooks.tracing.tree import Node, read
from tests.app.models import Address, Deposit, House, Regular, Remark, Tenant
from tests.app.serializers import AddressSerializer
from tests.bookshop import resources
from tests.bookshop.models import Chapter
from tests.factories import make_deposit


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


@pytest.mark.parametrize(
    ("ordering", "columns", "reads_all"),
    [
        ("name", {"name"}, False),
        ("-name__length", {"name"}, False),
        ("user", {"user_id"}, False),
        ("user__username", {"user_id"}, False),
        (F("name").asc(), set(), True),
        ("nothing", set(), True),
        ("pk", set(), False),
    ],
)
def test_what_several_rows_are_sorted_by_is_read(
    ordering: Any, columns: set[str], *, reads_all: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tenant._meta, "ordering", [ordering])

    found = tree(
        Address,
        tenant_set=serializers.PrimaryKeyRelatedField(many=True, read_only=True),
    ).children["tenant"]

    assert found.columns - {"address_id"} == columns
    assert found.reads_all is reads_all
    if ordering == "user":
        assert found.children["user"].reads_all


def test_a_composite_key_is_its_columns() -> None:
    assert tree(Chapter, pk=serializers.CharField()).columns >= {"book_id", "number"}


def test_a_generic_foreign_key_is_its_columns_and_code() -> None:
    found = tree(Remark, target=serializers.StringRelatedField())

    assert {"content_type_id", "object_id"} <= found.columns
    assert unknown(found) == ["target"]


def test_a_related_field_of_a_property_is_code() -> None:
    found = tree(best=serializers.StringRelatedField(source="some_property"))

    assert unknown(found) == ["best"]


def test_code_may_read_every_column_of_a_proxy_and_of_parents() -> None:
    assert tree(Regular, what=serializers.SerializerMethodField()).reads_all
    found = tree(House, what=serializers.SerializerMethodField())
    assert [node.reads_all for node in found] == [True, True]


def test_all_fields_of_a_model_have_to_be_made() -> None:
    meta = type("Meta", (), {"model": Tenant, "fields": "__all__"})
    serializer = type("All", (serializers.ModelSerializer,), {"Meta": meta})

    assert "notes" in read(serializer(), Tenant).columns


def test_options_may_decide_whether_a_field_is_read() -> None:
    options = {"notes": {"write_only": True}}
    meta = type("Meta", (), {"model": Tenant, "fields": ["name", "notes"], "extra_kwargs": options})
    serializer = type("Some", (serializers.ModelSerializer,), {"Meta": meta})

    assert read(serializer(), Tenant).columns == {"name"}


def test_below_a_declared_getter_nothing_says_where_a_row_hangs(isolated: None) -> None:
    class Line(serializers.ModelSerializer[Deposit]):
        remarks: Any = serializers.SlugRelatedField("text", many=True, read_only=True)

        class Meta:
            model = Deposit
            fields: ClassVar = ["remarks"]

    class Of(serializers.ModelSerializer[Tenant]):
        deposits = Line(many=True)

        class Meta:
            model = Tenant
            fields: ClassVar = ["deposits"]

    class Above(serializers.ModelSerializer[Address]):
        tenant_set = Of(many=True)

        class Meta:
            model = Address
            fields: ClassVar = ["tenant_set"]

    class AddressWebhook(ModelSerializerWebhook):
        serializer_class = Above
        signal_model_instance_base_getters: ClassVar = {
            Tenant: lambda tenant: [tenant.address],
            Deposit: None,
        }

    class TenantWebhook(ModelSerializerWebhook):
        serializer_class = Of
        signal_model_instance_base_getters: ClassVar = {Deposit: lambda deposit: [deposit.tenant]}

    class OtherWebhook(ModelSerializerWebhook):
        serializer_class = type("Other", (Above,), {})
        base_name = "core.other"
        signal_model_instance_base_getters: ClassVar = {Tenant: lambda tenant: [tenant.address]}

    found = {path.model: path.hang for one in index().traces for path in one.paths}

    assert found[Remark] is None or found[Remark].column == "object_id"
    assert found[Deposit] is None
