"""What is said of serializers that drf-spectacular cannot know is true of what they write."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, TypedDict

import pytest
from django.test import override_settings
from django.utils import translation
from django.utils.translation import gettext_lazy as _
from drf_spectacular.extensions import OpenApiSerializerExtension, OpenApiSerializerFieldExtension
from drf_spectacular.settings import patched_settings
from drf_spectacular.utils import OpenApiExample, extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from drf_webhooks.contrib.spectacular.modern import modern
from drf_webhooks.event_schemas import example_of, read
from drf_webhooks.event_shapes import shape_of
from drf_webhooks.json_text import encode
from drf_webhooks.testing import isolated_registry
from tests.app.models import Deposit, Document, RentalUnit, Tenant, User
from tests.app.serializers import DepositSerializer
from tests.contrib.openapi import (
    PlainLandlordSerializer,
    PlainSerializer,
    declare,
    errors,
    property_of,
    schema,
    wrong_with,
)
from tests.factories import make_address, make_deposit, make_tenant, make_user

pytestmark = pytest.mark.django_db
NULL = {"type": "null"}


@pytest.fixture(autouse=True)
def _only_own_resources() -> Iterator[None]:
    with isolated_registry():
        yield


def fields(model: Any, **declared: Any) -> type[Any]:
    """Return a serializer of a model that has its key, and these fields."""
    meta = type("Meta", (), {"model": model, "fields": ["id", *declared]})
    return type("ThingSerializer", (serializers.ModelSerializer,), {"Meta": meta, **declared})


def notes() -> list[str]:
    shape = shape_of("core.thing.created")
    assert shape is not None
    return read(shape.parts).notes


def test_what_is_behind_a_key_that_may_be_null_may_be_null() -> None:
    resource = declare(
        fields(
            Deposit,
            landlord=PlainLandlordSerializer(),
            unit=serializers.PrimaryKeyRelatedField(read_only=True),
            tenant=PlainSerializer(),
        )
    )

    assert property_of("landlord") == {"anyOf": [{"$ref": "#/$defs/PlainLandlord"}, NULL]}
    assert property_of("unit")["type"] == ["integer", "null"]
    assert property_of("tenant") == {"$ref": "#/$defs/Plain"}
    assert wrong_with(resource, make_deposit(landlord=None, unit=None)) == []
    assert wrong_with(resource, make_deposit()) == []


def test_what_is_behind_a_row_that_may_not_be_there_may_be_null() -> None:
    resource = declare(
        fields(
            User,
            tenant=PlainSerializer(read_only=True),
            name=serializers.CharField(source="tenant.name"),
        )
    )

    assert NULL in property_of("tenant")["anyOf"]
    assert property_of("name")["type"] == ["string", "null"]
    assert wrong_with(resource, make_user()) == []


def test_what_is_behind_nothing_is_left_out_if_it_is_not_required() -> None:
    resource = declare(
        fields(
            Tenant,
            street=serializers.CharField(source="address.street", read_only=True),
            login=serializers.CharField(source="user.username", allow_null=True, read_only=True),
            city=serializers.CharField(source="address.city", default="Graz"),
        )
    )

    required = schema()["$defs"]["Thing"]["required"]

    assert required == ["id", "login"]
    assert wrong_with(resource, make_tenant()) == []
    assert wrong_with(resource, make_tenant(address=make_address(), user=make_user())) == []


def test_all_may_be_missing() -> None:
    resource = declare(
        type(
            "ThingSerializer",
            (serializers.ModelSerializer,),
            {
                "street": serializers.CharField(source="address.street", read_only=True),
                "Meta": type("Meta", (), {"model": Tenant, "fields": ["street"]}),
            },
        )
    )

    assert "required" not in schema()["$defs"]["Thing"]
    assert wrong_with(resource, make_tenant()) == []


@pytest.mark.parametrize("source", ["landlord.name", "said_by_nobody"])
@pytest.mark.parametrize(
    ("default", "kind"),
    [(None, ["string", "null"]), (lambda: None, ["string", "null"]), ("nobody", "string")],
    ids=["null", "code", "a text"],
)
def test_a_default_that_is_null_stands_for_what_is_not_there(
    source: str, default: Any, kind: Any
) -> None:
    declare(fields(Deposit, lord=serializers.CharField(source=source, default=default)))

    assert property_of("lord")["type"] == kind


def test_lists_are_never_null() -> None:
    declare(
        fields(
            RentalUnit,
            tags=serializers.SlugRelatedField("name", many=True, read_only=True),
            deposits=serializers.PrimaryKeyRelatedField(many=True, read_only=True),
        )
    )

    assert property_of("tags")["type"] == "array"
    assert property_of("deposits")["type"] == "array"


def test_a_type_that_nobody_tells_is_left_open() -> None:
    class ThingSerializer(serializers.ModelSerializer[Deposit]):
        place = serializers.SerializerMethodField()
        total = serializers.SerializerMethodField()
        told = serializers.SerializerMethodField()

        class Meta:
            model = Deposit
            fields = ["id", "place", "total", "told"]

        def get_place(self, deposit):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return {"a": deposit.pk}

        def get_total(self, deposit: Deposit) -> int:
            return 5

        @extend_schema_field({"type": "boolean"})
        def get_told(self, deposit):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return True

    resource = declare(ThingSerializer)

    assert property_of("place") == {"readOnly": True}
    assert property_of("total") == {"type": "integer", "readOnly": True}
    assert property_of("told") == {"type": "boolean", "readOnly": True}
    (note,) = notes()
    assert note == (
        "ThingSerializer.place is of no type that can be told, so anything is allowed. Give its "
        "method a type hint, or write @extend_schema_field()."
    )
    assert wrong_with(resource, make_deposit()) == []


def test_a_guess_within_a_list_leaves_open_what_is_in_it() -> None:
    class Odd(serializers.Field[Any, Any, Any, Any]):
        def to_representation(self, value):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return 5

    declare(fields(Tenant, friends=serializers.ListField(child=Odd())))

    assert property_of("friends")["items"] == {}
    assert property_of("friends")["type"] == "array"


def test_a_field_with_code_is_what_its_hint_says() -> None:
    class Same(serializers.CharField):
        def to_representation(self, value: Any) -> str:
            return str(value)

    class Other(serializers.CharField):
        def to_representation(self, value: Any) -> int:  # type: ignore[override]  # on purpose
            return len(value)

    class Unknown(serializers.CharField):
        def to_representation(self, value):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return [value]

    class Vague(serializers.CharField):
        def to_representation(self, value: Any) -> Any:
            return [value]

    class Strange(serializers.CharField):
        def to_representation(self, value: Any) -> Iterator[str]:  # type: ignore[override]  # on purpose
            return iter([value])

    resource = declare(
        fields(
            Tenant,
            name=Same(max_length=50),
            other=Other(source="name", help_text="How long"),
            unknown=Unknown(source="name"),
            vague=Vague(source="name"),
            strange=Strange(source="name"),
        )
    )

    assert property_of("name") == {"type": "string", "maxLength": 50}
    assert property_of("other") == {"type": "integer", "description": "How long"}
    assert property_of("unknown") == property_of("vague") == property_of("strange") == {}
    assert len(notes()) == 3
    assert wrong_with(resource, make_tenant()) == []


def test_a_serializer_with_code_may_write_anything() -> None:
    class ThingSerializer(serializers.ModelSerializer[Tenant]):
        class Meta:
            model = Tenant
            fields = ["id", "name"]

        def to_representation(self, instance: Tenant) -> dict[str, Any]:
            return {"id": str(instance.pk), "code": True}

    resource = declare(ThingSerializer)

    assert wrong_with(resource, make_tenant()) == []
    assert "ThingSerializer.to_representation() is code" in notes()[0]


def test_a_serializer_with_code_may_say_what_it_writes() -> None:
    class Written(TypedDict):
        code: int

    class HintedSerializer(serializers.ModelSerializer[Tenant]):
        class Meta:
            model = Tenant
            fields = ["id", "name"]

        def to_representation(self, instance: Tenant) -> Written:  # type: ignore[override]  # on purpose
            return {"code": 5}

    @extend_schema_serializer(component_name="Told")
    class ToldSerializer(serializers.ModelSerializer[Tenant]):
        class Meta:
            model = Tenant
            fields = ["id", "name"]

        def to_representation(self, instance: Tenant) -> Any:
            return super().to_representation(instance)

    hinted = declare(HintedSerializer)
    told = declare(ToldSerializer, base_name="core.told")

    assert notes() == []
    assert schema()["$defs"]["Hinted"]["properties"] == {"code": {"type": "integer"}}
    assert list(schema("core.told.created")["$defs"]["Told"]["properties"]) == ["id", "name"]
    assert wrong_with(hinted, make_tenant()) == []
    assert wrong_with(told, make_tenant()) == []


def test_an_extension_is_believed() -> None:
    class MoneyField(serializers.CharField):
        def to_representation(self, value):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return 5

    class ExtendedSerializer(serializers.ModelSerializer[Tenant]):
        class Meta:
            model = Tenant
            fields = ["id", "name"]

        def to_representation(self, instance):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return {"a": 1}

    class MoneyExtension(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]  # theirs
        target_class = MoneyField

        def map_serializer_field(self, auto_schema: Any, direction: Any) -> Any:
            return {"type": "integer"}

    class Extension(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]  # theirs
        target_class = ExtendedSerializer

        def map_serializer(self, auto_schema: Any, direction: Any) -> Any:
            return {"type": "object", "properties": {"a": {"type": "integer"}}}

    try:
        declare(fields(Tenant, name=MoneyField(), friend=ExtendedSerializer(source="address")))

        assert property_of("name") == {"type": "integer"}
        assert schema()["$defs"]["Extended"]["properties"] == {"a": {"type": "integer"}}
    finally:
        OpenApiSerializerFieldExtension._registry.remove(MoneyExtension)
        OpenApiSerializerExtension._registry.remove(Extension)


def test_an_extension_may_leave_a_field_out() -> None:
    class HushedField(serializers.CharField):
        pass

    class HushedExtension(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]  # theirs
        target_class = HushedField

        def map_serializer_field(self, auto_schema: Any, direction: Any) -> Any:
            return None

    try:
        declare(fields(Tenant, name=HushedField()))

        assert property_of("name") is None
    finally:
        OpenApiSerializerFieldExtension._registry.remove(HushedExtension)


@override_settings(REST_FRAMEWORK={"DEFAULT_SCHEMA_CLASS": "tests.contrib.openapi.OwnSchema"})
def test_components_are_named_as_the_project_names_them() -> None:
    declare(PlainSerializer)

    assert list(schema()["$defs"]) == ["ApiPlain"]


def test_what_is_no_column_is_what_its_field_says() -> None:
    resource = declare(fields(Tenant, label=serializers.CharField(source="__str__")))

    assert property_of("label") == {"type": "string"}
    assert wrong_with(resource, make_tenant()) == []


@override_settings(LANGUAGE_CODE="de")
def test_a_schema_is_in_the_projects_language_and_not_in_the_visitors() -> None:
    declare(fields(User, login=serializers.CharField(source="username", label=_("username"))))

    with translation.override("fr"):
        assert property_of("login")["title"] == "Benutzername"


def test_numbers_are_texts_where_json_has_them_as_such() -> None:
    resource = declare(
        fields(
            Deposit,
            amount=serializers.DecimalField(
                max_digits=10, decimal_places=2, coerce_to_string=False
            ),
        )
    )

    is_text = encode(Decimal(1)).startswith(b'"')
    assert property_of("amount")["type"] == ("string" if is_text else "number")
    assert wrong_with(resource, make_deposit()) == []


def test_keys_may_be_written_as_numbers() -> None:
    resource = declare(fields(Document, number=serializers.UUIDField(source="id", format="int")))

    assert property_of("number")["type"] == "integer"
    assert wrong_with(resource, Document.objects.create(title="A")) == []


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [(None, "uri-reference"), ("https://api.example.com", "uri")],
)
def test_links_are_relative_without_a_base_url(base_url: str | None, expected: str) -> None:
    with override_settings(DRF_WEBHOOKS={"BASE_URL": base_url}):
        declare(fields(Tenant, name=serializers.FileField(use_url=True)))

        assert property_of("name")["format"] == expected


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (serializers.DateTimeField(source="last_login", format="%d.%m.%Y"), None),
        (serializers.DateTimeField(source="last_login", format="iso-8601"), "date-time"),
        (serializers.DateTimeField(source="last_login", format=None), "date-time"),
        (serializers.DateField(source="last_login", format="%d.%m.%Y"), None),
        (serializers.TimeField(source="last_login"), "time"),
    ],
)
def test_a_time_of_another_format_has_none(field: Any, expected: str | None) -> None:
    declare(fields(User, at=field))

    assert property_of("at").get("format") == expected
    assert property_of("at")["type"] == ["string", "null"]


def test_a_text_that_may_be_empty_may_be_empty() -> None:
    resource = declare(fields(User, email=serializers.EmailField(allow_blank=True)))

    assert wrong_with(resource, make_user(email="")) == []
    assert wrong_with(resource, make_user(email="ada@example.com")) == []


def test_fields_that_depend_on_the_owner_may_be_missing() -> None:
    class ThingSerializer(serializers.ModelSerializer[Tenant]):
        class Meta:
            model = Tenant
            fields = ["id", "name"]

        def get_fields(self) -> dict[str, Any]:
            found = super().get_fields()
            if self.context.get("owner") is None:
                return found
            return {"id": found["id"]}

    declare(
        ThingSerializer,
        get_serializer_context=classmethod(lambda cls, owner=None: {"owner": owner}),
    )
    declare(ThingSerializer, base_name="core.same")

    assert "required" not in schema()["$defs"]["Thing"]
    assert schema("core.same.created")["$defs"]["Thing"]["required"] == ["id", "name"]


def test_serializers_of_one_name_are_kept_apart() -> None:
    class Meta:
        model = Deposit
        fields = ["id", "tenant", "unit"]

    tenant = type("PartSerializer", (PlainSerializer,), {})
    unit_meta = type("Meta", (), {"model": RentalUnit, "fields": ["name"]})
    unit = type("PartSerializer", (serializers.ModelSerializer,), {"Meta": unit_meta})
    declare(
        type(
            "ThingSerializer",
            (serializers.ModelSerializer,),
            {"tenant": tenant(), "unit": unit(), "Meta": Meta},
        )
    )

    assert property_of("tenant") == {"$ref": "#/$defs/Part"}
    assert property_of("unit")["anyOf"][0] == {"$ref": "#/$defs/Part2"}


def test_a_serializer_that_cannot_be_made_is_left_open() -> None:
    class ThingSerializer(serializers.ModelSerializer[Tenant]):
        class Meta:
            model = Tenant
            fields = ["id", "nothing"]

    declare(ThingSerializer)

    assert schema()["properties"]["data"] == {}
    assert "ThingSerializer cannot be made: ImproperlyConfigured" in notes()[0]


def test_a_form_without_fields_is_an_object() -> None:
    class ThingSerializer(serializers.ModelSerializer[Tenant]):
        class Meta:
            model = Tenant
            fields: list[str] = []

    resource = declare(ThingSerializer)

    assert schema()["properties"]["data"]["anyOf"][0] == {"type": "object"}
    assert wrong_with(resource, make_tenant()) == []


@pytest.mark.parametrize(
    ("serializer", "key"),
    [
        (
            fields(Document, title=serializers.CharField()),
            {"id": {"type": "string", "format": "uuid"}},
        ),
        (
            type(
                "NoKeySerializer",
                (serializers.ModelSerializer,),
                {"Meta": type("Meta", (), {"model": Document, "fields": ["title"]})},
            ),
            {"id": {"type": "string", "format": "uuid"}},
        ),
        (
            type(
                "OtherKeySerializer",
                (serializers.ModelSerializer,),
                {
                    "number": serializers.CharField(source="pk"),
                    "Meta": type("Meta", (), {"model": Document, "fields": ["number"]}),
                },
            ),
            {"number": {"type": "string"}},
        ),
    ],
)
def test_what_is_gone_has_its_key(serializer: Any, key: Any) -> None:
    declare(serializer)

    assert schema("core.thing.deleted")["properties"]["data"] == {
        "type": "object",
        "properties": key,
        "required": [*key],
    }


def test_what_is_gone_has_its_form_or_key_if_that_is_asked_for() -> None:
    declare(PlainSerializer, deleted_payload="full")

    whole, key, *_ = schema("core.thing.deleted")["properties"]["data"]["anyOf"]

    assert whole == {"$ref": "#/$defs/Plain"}
    assert list(key["properties"]) == ["id"]
    assert list((example_of("core.thing.deleted") or {})["data"]) == ["id", "name"]


def test_an_example_of_the_developers_is_taken() -> None:
    @extend_schema_serializer(
        examples=[
            OpenApiExample("asked", value={"id": 1}, request_only=True),
            OpenApiExample("given", value={"id": 7, "name": "Grace"}),
        ]
    )
    class ThingSerializer(PlainSerializer):
        pass

    declare(ThingSerializer)

    assert (example_of("core.thing.created") or {})["data"] == {"id": 7, "name": "Grace"}


@pytest.mark.parametrize("version", ["3.0.3", "3.1.1"])
def test_a_schema_is_the_same_whatever_version_the_document_has(version: str) -> None:
    declare(DepositSerializer)
    kept = schema()

    with isolated_registry(), patched_settings({"OAS_VERSION": version}):
        resource = declare(DepositSerializer)

        assert schema() == kept
        assert wrong_with(resource, make_deposit(landlord=None)) == []
        assert errors(
            "core.thing.created", {**(example_of("core.thing.created") or {}), "sequence": 0}
        )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        ({"type": "string", "nullable": False}, {"type": "string"}),
        ({"type": ["string", "null"], "nullable": True}, {"type": ["string", "null"]}),
        (
            {"enum": ["a"], "type": "string", "nullable": True, "x-spec-enum-id": "1"},
            {"enum": ["a", None], "type": ["string", "null"]},
        ),
        ({"enum": ["a", None], "nullable": True}, {"enum": ["a", None]}),
        (
            {"allOf": [{"$ref": "#/A"}], "nullable": True, "readOnly": True},
            {"anyOf": [{"$ref": "#/A"}, NULL], "readOnly": True},
        ),
        ({"$ref": "#/A", "nullable": True}, {"anyOf": [{"$ref": "#/A"}, NULL]}),
        ({"oneOf": [{"$ref": "#/A"}, NULL], "nullable": True}, {"anyOf": [{"$ref": "#/A"}, NULL]}),
        ({"nullable": True}, {}),
        (
            {"minimum": 1, "exclusiveMinimum": True, "maximum": 9, "exclusiveMaximum": False},
            {"exclusiveMinimum": 1, "maximum": 9},
        ),
        (
            {"properties": {"nullable": {"type": "boolean"}, "oneOf": {"type": "string"}}},
            {"properties": {"nullable": {"type": "boolean"}, "oneOf": {"type": "string"}}},
        ),
    ],
)
def test_what_is_written_as_of_old_is_written_anew(old: Any, new: Any) -> None:
    assert modern(old) == new
