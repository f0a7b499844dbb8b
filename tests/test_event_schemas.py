import importlib.util
import json
from datetime import UTC, datetime

import pytest
from django.test import override_settings
from jsonschema import Draft202012Validator

from drf_webhooks import endpoints, messages
from drf_webhooks.event_schemas import (
    Form,
    description_of,
    example_of,
    exemplified,
    message_schemas,
    schema_of,
)
from drf_webhooks.event_shapes import shape_of, shapes
from drf_webhooks.event_types import ENDPOINT_DISABLED, ENDPOINT_TEST, OPERATIONAL
from drf_webhooks.models import Endpoint, Event
from drf_webhooks.notices import tell
from drf_webhooks.registry import registered_event_types
from drf_webhooks.resources import ModelSerializerWebhook
from drf_webhooks.testing import isolated_registry
from tests.app.serializers import TenantSerializer, UserSerializer

NOW = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)


def wrong(kind: str, body: bytes) -> list[str]:
    schema = schema_of(kind)
    assert schema is not None
    Draft202012Validator.check_schema(schema)
    return [each.message for each in Draft202012Validator(schema).iter_errors(json.loads(body))]


def test_each_event_type_has_a_shape() -> None:
    kinds = [each.event_type for each in shapes()]

    assert set(kinds) == registered_event_types() | set(OPERATIONAL)
    assert len(kinds) == len(set(kinds))


@pytest.mark.parametrize("kind", [each.event_type for each in shapes()])
def test_each_example_is_as_its_schema_says(kind: str) -> None:
    assert wrong(kind, json.dumps(example_of(kind)).encode()) == []
    assert "replay" not in (example_of(kind) or {})


@pytest.mark.parametrize("is_replay", [True, False])
def test_the_members_are_those_that_are_written(*, is_replay: bool) -> None:
    body = messages.message(
        "core.deposit.deleted", data=b'{"id":5}', sequence=7, at=NOW, is_replay=is_replay
    )
    shape = shape_of("core.deposit.deleted")
    assert shape is not None

    schema = message_schemas(shape, [{}, {}])[0]

    assert wrong("core.deposit.deleted", body) == []
    known = [each for each in schema["properties"] if is_replay or each != "replay"]
    assert list(json.loads(body)) == known
    assert [each for each in schema["properties"] if each != "replay"] == schema["required"]


@pytest.mark.django_db
def test_what_is_said_of_endpoints_is_as_its_schema_says() -> None:
    ours = Endpoint.objects.create(url="https://a.example/hooks?key=1", event_types=["a.b"])
    Endpoint.objects.create(url="https://b.example/", event_types=["webhooks.*"])
    endpoints.send_test(ours)
    endpoints.disable(ours, "Not wanted.")
    tell()

    said = {each.type: bytes(each.body) for each in Event.objects.all()}

    assert set(said) == {ENDPOINT_TEST, ENDPOINT_DISABLED}
    for kind, body in said.items():
        assert wrong(kind, body) == []
        assert set(json.loads(body)["data"]) == set((example_of(kind) or {})["data"])


def test_a_description_is_the_resources_own_and_what_has_happened() -> None:
    with isolated_registry():

        class UserWebhook(ModelSerializerWebhook):
            """Somebody who can log in.

            And more.
            """

            serializer_class = UserSerializer
            deleted_payload = "full"

        class TenantWebhook(ModelSerializerWebhook):
            serializer_class = TenantSerializer

        assert description_of("core.user.created") == (
            "Somebody who can log in.\n\nAnd more.\n\nUser created."
        )
        assert description_of("core.tenant.updated") == "Tenant updated."
        assert description_of("core.tenant.deleted") == (
            "Tenant deleted. Has the key of the object that is gone."
        )
        assert "as it was" in description_of("core.user.deleted")


def test_nothing_is_known_of_what_nobody_declares() -> None:
    assert shape_of("a.b") is None
    assert schema_of("a.b") is None
    assert example_of("a.b") is None
    assert description_of("a.b") == ""


def test_what_is_returned_is_the_callers_own() -> None:
    first = schema_of("core.deposit.created")
    assert first is not None
    first.clear()

    assert schema_of("core.deposit.created")


def test_a_schema_follows_declarations_and_settings() -> None:
    with isolated_registry():
        assert schema_of("core.tenant.created") is None

        class TenantWebhook(ModelSerializerWebhook):
            serializer_class = TenantSerializer
            delete = False

        assert schema_of("core.tenant.created")
        assert schema_of("core.tenant.deleted") is None
        with override_settings(DRF_WEBHOOKS={"BASE_URL": "https://api.example.com"}):
            assert schema_of("core.tenant.created")


def test_of_two_resources_of_one_name_the_first_counts() -> None:
    with isolated_registry():

        class First(ModelSerializerWebhook):
            """First."""

            serializer_class = TenantSerializer
            base_name = "core.thing"

        class Second(ModelSerializerWebhook):
            """Second."""

            serializer_class = UserSerializer
            base_name = "core.thing"

        kinds = [each.event_type for each in shapes()]

        assert kinds.count("core.thing.created") == 1
        assert description_of("core.thing.created").startswith("First.")


def test_there_is_no_example_if_nobody_can_find_one() -> None:
    shape = shape_of(ENDPOINT_TEST)
    assert shape is not None

    form = Form([{"type": "string", "pattern": "^only I know$"}], {}, [])

    assert exemplified(shape, form) is None


def test_without_drf_spectacular_descriptions_are_all_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    assert schema_of("core.deposit.created") is None
    assert example_of("core.deposit.created") is None
    assert description_of("core.deposit.created") == "Deposit created."
