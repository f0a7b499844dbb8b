"""A REST API's document, made from serializers, and what its webhooks say."""

import json
from typing import Any

from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.settings import patched_settings
from jsonschema import Draft202012Validator
from rest_framework import permissions, routers, serializers, viewsets

from drf_webhooks import payloads
from drf_webhooks.event_schemas import schema_of
from drf_webhooks.resources import ModelSerializerWebhook
from tests.app.models import Landlord, Tenant

HOOKS = [
    "drf_spectacular.hooks.postprocess_schema_enums",
    "drf_webhooks.contrib.spectacular.add_webhooks",
]
MODERN = {"OAS_VERSION": "3.1.1", "COMPONENT_SPLIT_REQUEST": True, "POSTPROCESSING_HOOKS": HOOKS}


def document(*shown: type[Any], **more: Any) -> dict[str, Any]:
    """Return the document of a REST API that has these serializers."""
    router = routers.SimpleRouter()
    for number, each in enumerate(shown):
        fields = {
            "queryset": each.Meta.model._default_manager.all(),
            "serializer_class": each,
            "permission_classes": [permissions.AllowAny],
            "schema": AutoSchema(),
        }
        name = f"things{number}"
        router.register(name, type("Things", (viewsets.ModelViewSet,), fields), basename=name)
    with patched_settings({**MODERN, **more}):
        generator: Any = SchemaGenerator
        result: dict[str, Any] = generator(patterns=router.urls).get_schema(public=True)
    return result


def warnings() -> list[str]:
    return [text.partition("Warning: ")[2] for text in GENERATOR_STATS._warn_cache if ": " in text]


def declare(serializer: type[Any], **fields: Any) -> type[ModelSerializerWebhook]:
    given = {"serializer_class": serializer, "base_name": "core.thing", **fields}
    return type("ThingWebhook", (ModelSerializerWebhook,), given)


def data_schema(of: dict[str, Any], kind: str = "core.thing.created") -> Any:
    body = of["webhooks"][kind]["post"]["requestBody"]["content"]["application/json"]["schema"]
    # The whole message is the first of its variants.
    name = body["anyOf"][0]["$ref"].rpartition("/")[2]
    return of["components"]["schemas"][name]["properties"]["data"]


def schema(kind: str = "core.thing.created") -> Any:
    """Return the schema that stands alone."""
    found = schema_of(kind)
    assert found is not None
    return found


def property_of(name: str, kind: str = "core.thing.created") -> Any:
    """Return what the schema that stands alone says of a property of the form."""
    whole = schema(kind)
    reference = whole["properties"]["data"]["anyOf"][0]["$ref"].rpartition("/")[2]
    return whole["$defs"][reference]["properties"].get(name)


def errors(kind: str, message: Any) -> list[str]:
    return [each.message for each in Draft202012Validator(schema(kind)).iter_errors(message)]


def wrong_with(resource: Any, instance: Any) -> list[str]:
    """Say what is wrong with the message of an object as it is."""
    data = json.loads(payloads.data_of(resource, instance))
    kind = f"{resource.base_name}.created"
    head = {"type": kind, "timestamp": "2026-03-14T09:26:53Z", "sequence": 1}
    return errors(kind, {**head, "data": data})


class PlainSerializer(serializers.ModelSerializer[Tenant]):
    class Meta:
        model = Tenant
        fields = ["id", "name"]


class OwnSchema(AutoSchema):
    """Names components in its own way, as projects do."""

    def get_serializer_name(self, serializer: Any, direction: Any) -> str:
        return f"Api{super().get_serializer_name(serializer, direction)}"


class PlainLandlordSerializer(serializers.ModelSerializer[Landlord]):
    class Meta:
        model = Landlord
        fields = ["id", "name"]
