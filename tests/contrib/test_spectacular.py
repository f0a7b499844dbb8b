"""What the document of a REST API says of webhooks, and that they are sent as it says."""

import json
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from django.test import override_settings
from drf_spectacular.settings import patched_settings
from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from rest_framework import serializers

from drf_webhooks import trace_context
from drf_webhooks.contrib.spectacular import add_webhooks, webhooks_document
from drf_webhooks.delivery.formats import CloudEvents, Format, Message
from drf_webhooks.event_schemas import example_of
from drf_webhooks.models import Endpoint
from drf_webhooks.testing import WebhookReceiver, deliver_now, isolated_registry
from tests.app.models import RentalUnit, Tenant
from tests.app.serializers import DepositSerializer, TenantSerializer
from tests.contrib.openapi import (
    HOOKS,
    MODERN,
    PlainLandlordSerializer,
    PlainSerializer,
    data_schema,
    declare,
    document,
    warnings,
)
from tests.factories import make_tenant


@pytest.fixture(autouse=True)
def _only_own_resources() -> Iterator[None]:
    with isolated_registry():
        yield


def test_data_is_the_very_component_of_the_rest_api() -> None:
    class TenantForm(serializers.ModelSerializer[Tenant]):
        secret = serializers.CharField(write_only=True)

        class Meta:
            model = Tenant
            fields = ["id", "name", "secret"]

    declare(TenantForm)

    found = document(TenantForm)

    assert data_schema(found) == {"$ref": "#/components/schemas/TenantForm"}
    assert {each for each in found["components"]["schemas"] if "TenantForm" in each} == {
        "TenantForm",
        "TenantFormRequest",
        "PatchedTenantFormRequest",
    }
    assert warnings() == []
    validate(found)


def test_a_component_that_the_rest_api_has_not_is_made() -> None:
    declare(TenantSerializer, update=False)

    found = document(PlainSerializer)

    assert data_schema(found) == {"$ref": "#/components/schemas/Tenant"}
    assert {"Plain", "Tenant", "Address", "User"} <= set(found["components"]["schemas"])
    assert list(found["webhooks"])[:2] == ["core.thing.created", "core.thing.deleted"]
    validate(found)


def test_a_component_with_what_is_written_only_has_one_beside_it() -> None:
    class TenantForm(serializers.ModelSerializer[Tenant]):
        secret = serializers.CharField(write_only=True)

        class Meta:
            model = Tenant
            fields = ["id", "name", "secret"]

    declare(TenantForm)

    found = document(TenantForm, COMPONENT_SPLIT_REQUEST=False)

    assert data_schema(found) == {"$ref": "#/components/schemas/TenantFormMessage"}
    assert "secret" not in found["components"]["schemas"]["TenantFormMessage"]["properties"]
    assert "secret" in found["components"]["schemas"]["TenantForm"]["properties"]
    (warning,) = warnings()
    assert warning == (
        "core.thing.created: the component TenantForm is not how messages look "
        "(secret is not there any more). They have TenantFormMessage."
    )
    validate(found)


def test_what_is_renamed_in_answers_only_is_not_said_of_messages() -> None:
    class TenantForm(serializers.ModelSerializer[Tenant]):
        full_name = serializers.CharField(source="name")

        class Meta:
            model = Tenant
            fields = ["id", "full_name"]

    declare(TenantForm)

    found = document(TenantForm, POSTPROCESSING_HOOKS=[HOOKS[0], f"{__name__}.camelize", HOOKS[1]])

    schemas = found["components"]["schemas"]
    assert set(schemas["TenantForm"]["properties"]) == {"id", "fullName"}
    assert set(schemas["TenantFormMessage"]["properties"]) == {"id", "full_name"}


def camelize(result: Any, generator: Any, **_: Any) -> Any:
    text = json.dumps(result, default=str).replace("full_name", "fullName")
    return json.loads(text)


def test_a_second_component_for_messages_is_shared() -> None:
    class UnitSerializer(serializers.ModelSerializer[RentalUnit]):
        landlord = PlainLandlordSerializer()

        class Meta:
            model = RentalUnit
            fields = ["id", "landlord"]

    declare(UnitSerializer)
    declare(PlainLandlordSerializer, base_name="core.landlord")

    found = document(UnitSerializer, PlainLandlordSerializer)

    assert {each for each in found["components"]["schemas"] if each.endswith("Message")} == {
        "UnitMessage"
    }
    assert data_schema(found, "core.landlord.created") == {
        "$ref": "#/components/schemas/PlainLandlord"
    }


def test_a_component_for_messages_has_those_for_messages_within() -> None:
    class LandlordForm(PlainLandlordSerializer):
        secret = serializers.CharField(write_only=True)

        class Meta(PlainLandlordSerializer.Meta):
            fields: ClassVar = ["id", "name", "secret"]

    class UnitForm(serializers.ModelSerializer[RentalUnit]):
        landlord = LandlordForm(allow_null=True)

        class Meta:
            model = RentalUnit
            fields: ClassVar = ["id", "landlord"]

    declare(UnitForm)

    schemas = document(UnitForm, COMPONENT_SPLIT_REQUEST=False)["components"]["schemas"]

    assert schemas["UnitFormMessage"]["properties"]["landlord"]["anyOf"][0] == {
        "$ref": "#/components/schemas/LandlordFormMessage"
    }


def test_two_components_of_one_name_that_differ_have_each_another_one() -> None:
    def made(*names: str) -> type[Any]:
        meta = type("Meta", (), {"model": Tenant, "fields": ["id", *names]})
        hidden = {each: serializers.CharField(write_only=True) for each in names}
        return type("TenantForm", (serializers.ModelSerializer,), {"Meta": meta, **hidden})

    street = serializers.CharField(source="address.street", read_only=True)
    meta = type("Meta", (), {"model": Tenant, "fields": ["id", "street"]})
    other = type("TenantForm", (serializers.ModelSerializer,), {"Meta": meta, "street": street})
    declare(made())
    declare(other, base_name="core.other")

    found = document(made("name"), COMPONENT_SPLIT_REQUEST=False)

    names = {each for each in found["components"]["schemas"] if each.startswith("TenantForm")}
    assert names == {"TenantForm", "TenantFormMessage", "TenantFormMessage2"}
    validate(found)


def test_what_is_left_open_is_warned_of() -> None:
    class TenantForm(serializers.ModelSerializer[Tenant]):
        total = serializers.SerializerMethodField()

        class Meta:
            model = Tenant
            fields: ClassVar = ["id", "total"]

        def get_total(self, tenant):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return 5

    declare(TenantForm, update=False, delete=False)

    document(PlainSerializer)

    (warning,) = warnings()
    assert warning.startswith("core.thing.created: TenantForm.total is of no type that can be told")


def test_a_message_without_an_example_has_none() -> None:
    class TenantForm(serializers.ModelSerializer[Tenant]):
        name = serializers.RegexField("^only I know$")

        class Meta:
            model = Tenant
            fields: ClassVar = ["id", "name"]

    declare(TenantForm)

    found = document()

    assert "examples" not in found["components"]["schemas"]["CoreThingCreatedEvent"]
    validate(found)


def test_the_document_of_the_webhooks_alone_has_the_projects_version_if_it_can() -> None:
    with patched_settings({"OAS_VERSION": "3.2.0", "TITLE": "Rentals"}):
        found = webhooks_document()

    assert found["openapi"] == "3.2.0"
    assert found["info"]["title"] == "Rentals"


def test_each_form_that_data_may_have_has_a_name() -> None:
    declare(PlainSerializer, deleted_payload="full")

    found = document()

    whole, key = data_schema(found, "core.thing.deleted")["anyOf"]
    assert whole == {"$ref": "#/components/schemas/Plain"}
    assert key == {"$ref": "#/components/schemas/CoreThingDeletedData"}
    assert list(found["components"]["schemas"]["CoreThingDeletedData"]["properties"]) == ["id"]


def test_each_message_has_its_headers_answers_and_signature() -> None:
    declare(PlainSerializer)

    post = document()["webhooks"]["core.thing.created"]["post"]

    assert post["operationId"] == "webhook_core_thing_created"
    assert [each["$ref"].rpartition("/")[2] for each in post["parameters"]] == [
        "WebhookId",
        "WebhookTimestamp",
        "WebhookSignature",
        "WebhookSequence",
        "WebhookDepth",
    ]
    assert list(post["responses"]) == ["2XX", "410", "429", "503", "default"]
    assert post["security"] == [{"webhookSignature": []}]


@pytest.mark.django_db(transaction=True)
def test_the_headers_are_those_that_are_sent() -> None:
    declare(PlainSerializer)
    parameters = document()["components"]["parameters"].values()
    documented = {each["name"]: each["schema"] for each in parameters}

    with WebhookReceiver() as receiver:
        Endpoint.objects.create(url=receiver.url, event_types=["*"])
        make_tenant()
        deliver_now()
        sent = {name.lower(): value for name, value in receiver.requests[0].headers.items()}

    usual = {"accept", "accept-encoding", "content-length", "content-type", "host", "user-agent"}
    assert set(sent) - usual == set(documented)
    for name, schema in documented.items():
        Draft202012Validator(schema).validate(sent[name])


@pytest.mark.django_db(transaction=True)
def test_headers_of_a_resource_are_in_the_document_as_it_describes_them() -> None:
    def get_headers(cls: Any, event_type: str, instance: Any, owner: Any = None) -> Any:
        return {"X-Region": "Graz"}

    described = {"X-Region": "Where it is.", "X-Sometimes": "If it is known."}
    declare(PlainSerializer, get_headers=classmethod(get_headers), header_descriptions=described)
    webhooks = document()["webhooks"]

    with WebhookReceiver() as receiver:
        Endpoint.objects.create(url=receiver.url, event_types=["*"])
        make_tenant()
        deliver_now()
        assert receiver.requests[0].headers["x-region"] == "Graz"

    for kind in ("created", "updated", "deleted"):
        told = webhooks[f"core.thing.{kind}"]["post"]["parameters"]
        assert [each for each in told if "$ref" not in each] == [
            {
                "name": name,
                "in": "header",
                "required": False,
                "description": text,
                "schema": {"type": "string"},
            }
            for name, text in described.items()
        ]
    assert "X-Region" not in str(webhooks["webhooks.endpoint.test"])
    validate(document())


def test_a_trace_is_in_the_document_if_it_is_sent() -> None:
    declare(PlainSerializer)

    trace_context.install(lambda: "")
    try:
        found = document()
    finally:
        trace_context.install(None)

    assert "WebhookTraceparent" in found["components"]["parameters"]
    assert "WebhookTraceparent" in str(found["webhooks"]["core.thing.created"])
    assert "traceparent" not in str(document())


def test_an_own_description_stays() -> None:
    declare(PlainSerializer)
    own = {"post": {"summary": "Own", "responses": {"200": {"description": ""}}}}

    with patched_settings(MODERN):
        found = add_webhooks({"webhooks": {"core.thing.created": own}}, None)

    assert found["webhooks"]["core.thing.created"] is own
    assert "requestBody" in found["webhooks"]["core.thing.updated"]["post"]
    assert "core.thing.created" not in str(found["components"]["schemas"]["WebhookEvent"])


def test_a_document_of_another_version_has_no_webhooks() -> None:
    declare(PlainSerializer)

    found = document(PlainSerializer, OAS_VERSION="3.0.3")

    assert "webhooks" not in found
    assert [each for each in warnings() if "need OpenAPI 3.1" in each]


def test_the_document_of_the_webhooks_alone_is_whole() -> None:
    declare(DepositSerializer)

    found = webhooks_document()

    validate(found)
    assert found["openapi"] == "3.1.0"
    assert found["info"]["title"] == "Webhooks"
    assert "paths" not in found


def test_all_messages_are_one_of_a_union() -> None:
    declare(PlainSerializer)

    union = webhooks_document()["components"]["schemas"]["WebhookEvent"]

    names = [each["$ref"].rpartition("/")[2] for each in union["anyOf"]]
    assert names[:2] == ["CoreThingCreatedEvent", "CoreThingCreatedThinEvent"]
    assert names[-1] == "WebhooksEndpointVerifyEvent"


def test_names_that_are_taken_are_left_alone() -> None:
    class CoreThingCreatedEvent(PlainSerializer):
        pass

    declare(CoreThingCreatedEvent)

    found = document(CoreThingCreatedEvent)

    assert data_schema(found) == {"$ref": "#/components/schemas/CoreThingCreatedEvent"}
    assert "CoreThingCreatedEvent2" in found["components"]["schemas"]


# Formats.


@override_settings(DRF_WEBHOOKS={"BASE_URL": "https://api.example.com"})
def test_a_cloud_event_is_as_its_schema_says() -> None:
    declare(PlainSerializer)
    found = webhooks_document()
    validate(found)
    content = found["webhooks"]["core.thing.created"]["post"]["requestBody"]["content"]
    schema = {**content[CloudEvents.content_type]["schema"], "components": found["components"]}
    whole = example_of("core.thing.created")
    assert whole is not None
    for message in (whole, {**whole, "thin": True, "data": {"id": 42}}):
        stored = Message("evt_1", "5", json.dumps(message).encode(), "https://api.example.com")
        written = CloudEvents().write(stored)
        Draft202012Validator(schema).validate(json.loads(written))

    examples = [each["value"] for each in content[CloudEvents.content_type]["examples"].values()]
    for example in examples:
        Draft202012Validator(schema).validate(example)
    assert [each.get("thin") for each in examples] == [None, True]
    assert examples[0]["subject"] == "42"
    wrong = {**examples[0], "data": {"id": 42}}
    assert not Draft202012Validator(schema).is_valid(wrong)
    assert next(iter(content)) == "application/json"


def test_a_format_that_cannot_be_used_is_not_there() -> None:
    declare(PlainSerializer)
    formats = {"bad": "tests.nowhere.Format", "form": "tests.contrib.test_spectacular.Form"}

    with override_settings(DRF_WEBHOOKS={"FORMATS": formats}):
        body = webhooks_document()["webhooks"]["core.thing.created"]["post"]["requestBody"]

    assert CloudEvents.content_type not in body["content"]
    assert body["content"]["application/x-www-form-urlencoded"] == {}


class Form(Format):
    content_type = "application/x-www-form-urlencoded; charset=utf-8"


def test_the_developers_example_is_in_the_document() -> None:
    @extend_schema_serializer(examples=[OpenApiExample("one", value={"id": 7, "name": "Grace"})])
    class TenantForm(PlainSerializer):
        pass

    declare(TenantForm)

    schemas = document()["components"]["schemas"]

    (example,) = schemas["CoreThingCreatedEvent"]["examples"]
    assert example["data"] == {"id": 7, "name": "Grace"}
    (thin,) = schemas["CoreThingCreatedThinEvent"]["examples"]
    assert thin["data"] == {"id": 42}
