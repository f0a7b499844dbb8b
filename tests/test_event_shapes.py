"""What schemas say of custom events, versions and thin messages."""

import json
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from jsonschema import Draft202012Validator
from rest_framework import serializers

from drf_webhooks.event_schemas import description_of, example_of, is_possible, schema_of
from drf_webhooks.event_shapes import shape_of, shapes
from drf_webhooks.event_types import ENDPOINT_VERIFY, OPERATIONAL
from drf_webhooks.models import Delivery, Endpoint
from drf_webhooks.resources import ModelSerializerWebhook
from drf_webhooks.testing import isolated_registry
from tests.app.models import Deposit
from tests.declaring import declare
from tests.factories import make_deposit
from tests.test_versions import NEW, OLD, NewForm, OldForm

UPDATED = "core.deposit.updated"
FORMS = {OLD: OldForm, NEW: NewForm}
HEAD = {"type": UPDATED, "timestamp": "2026-03-14T09:26:53Z", "sequence": 1}


@pytest.fixture(autouse=True)
def _isolated() -> Iterator[None]:
    with isolated_registry():
        yield


def versioned(**fields: Any) -> Any:
    given = {"versions": FORMS, "depends_on": ["unit"], **fields}
    return type("DepositWebhook", (ModelSerializerWebhook,), given)


def schema(kind: str = UPDATED, version: str | None = None) -> Any:
    found = schema_of(kind, version)
    assert found is not None
    Draft202012Validator.check_schema(found)
    return found


def is_valid(data: Any, *, kind: str = UPDATED, pinned: str | None = None, **more: Any) -> bool:
    validator = Draft202012Validator(schema(kind, pinned))
    return validator.is_valid({**HEAD, "type": kind, "data": data, **more})


def test_each_version_has_its_form() -> None:
    versioned()
    old, new = {"id": 5, "tenant": "Ada"}, {"id": 5, "cents": 100, "unit": "Top 5"}

    whole = schema()

    assert whole["properties"]["version"] == {"type": "string", "enum": [NEW, OLD]}
    assert "version" in whole["required"]
    assert whole["properties"]["data"]["anyOf"][:2] == [
        {"$ref": "#/$defs/NewForm"},
        {"$ref": "#/$defs/OldForm"},
    ]
    assert is_valid(old, version=OLD)
    assert is_valid(new, version=NEW)
    assert not is_valid(old, version=NEW)
    assert not is_valid(new, version=OLD)
    assert not is_valid(new)
    assert not is_valid(new, version="2020-01")


@pytest.mark.parametrize(
    ("pinned", "name"), [(OLD, "OldForm"), ("2025-09", "OldForm"), (NEW, "NewForm")]
)
def test_the_schema_of_one_version_has_that_alone(pinned: str, name: str) -> None:
    versioned()

    whole = schema(version=pinned)

    assert whole["properties"]["version"]["const"] == (OLD if name == "OldForm" else NEW)
    assert list(whole["$defs"]) == [name]
    assert (example_of(UPDATED, pinned) or {})["version"] == whole["properties"]["version"]["const"]
    assert schema(version=pinned) == whole


def test_a_version_changes_nothing_of_what_has_none() -> None:
    declare()

    assert schema(version=OLD) == schema()
    assert schema_of("webhooks.endpoint.test", OLD) == schema_of("webhooks.endpoint.test")
    assert schema_of("a.b", OLD) is None


def test_an_example_is_of_the_newest_version() -> None:
    versioned()

    example = example_of(UPDATED)

    assert example is not None
    assert (example["version"], list(example["data"])) == (NEW, ["id", "cents", "unit"])
    assert "thin" not in example


def test_the_key_and_the_links_are_those_of_the_version() -> None:
    class Renamed(serializers.ModelSerializer[Deposit]):
        number = serializers.IntegerField(source="pk")

        class Meta:
            model = Deposit
            fields: ClassVar = ["number"]

    versioned(versions={OLD: OldForm, NEW: Renamed})

    for kind, more in ((UPDATED, {"thin": True}), ("core.deposit.deleted", {})):
        assert is_valid({"number": 5}, kind=kind, version=NEW, **more)
        assert is_valid({"id": 5}, kind=kind, version=OLD, **more)
        assert not is_valid({"id": 5}, kind=kind, version=NEW, **more)


def test_a_serializer_that_asks_for_the_version_is_read_in_each() -> None:
    class Asking(serializers.ModelSerializer[Deposit]):
        class Meta:
            model = Deposit
            fields: ClassVar = ["id", "amount"]

        def get_fields(self) -> Any:
            fields = super().get_fields()
            if self.context.get("version") == NEW:
                del fields["amount"]
            return fields

    versioned(versions={OLD: Asking, NEW: Asking})

    assert is_valid({"id": 5, "amount": "said besides"}, version=NEW)
    assert not is_valid({"id": 5, "amount": "no number"}, version=OLD)


def test_any_message_may_be_thin() -> None:
    declare(previous_attributes=True)
    whole = {"id": 5, "amount": "1.00", "note": "", "tenant": None}

    assert is_valid({"id": 5}, thin=True)
    assert not is_valid({"id": 5})
    assert not is_valid({"id": 5}, thin=False)
    assert not is_valid({}, thin=True)
    assert not is_valid(whole, previous_attributes=[])
    assert schema()["required"] == ["type", "timestamp", "sequence", "data"]
    assert [*schema()["properties"]][-2:] == ["data", "previous_attributes"]
    assert "previous_attributes" not in schema("core.deposit.created")["properties"]
    assert "previous_attributes" not in (example_of(UPDATED) or {})


def test_of_a_thin_resource_every_message_is() -> None:
    declare(thin=True, previous_attributes=True, deleted_payload="full")

    whole = schema()

    assert whole["properties"]["thin"]["const"] is True
    assert whole["required"] == ["type", "timestamp", "sequence", "thin", "data"]
    assert "previous_attributes" not in whole["properties"]
    assert "$defs" not in whole
    assert (example_of(UPDATED) or {})["data"] == {"id": 42}
    assert description_of(UPDATED) == "Deposit updated. Says only which object it is of."
    assert description_of("core.deposit.deleted").startswith("Deposit deleted. Says only")


def test_a_custom_event_has_the_form_of_its_serializer() -> None:
    class Receipt(serializers.ModelSerializer[Deposit]):
        """What was paid."""

        class Meta:
            model = Deposit
            fields: ClassVar = ["amount"]

    declare(events={"paid": Receipt, "paid_back": None})

    assert is_valid({"amount": "1.00"}, kind="core.deposit.paid")
    assert not is_valid({"amount": 1}, kind="core.deposit.paid")
    # Of an object that is gone, and thin.
    assert is_valid({"id": 5}, kind="core.deposit.paid")
    assert is_valid({"id": 5}, kind="core.deposit.paid", thin=True)
    assert not is_valid({"amount": "1.00"}, kind="core.deposit.paid", thin=True)
    assert example_of("core.deposit.paid") == {
        "type": "core.deposit.paid",
        "timestamp": "2026-03-14T09:26:53.589000Z",
        "sequence": 7,
        "data": {"amount": "100.00"},
    }
    assert description_of("core.deposit.paid_back") == "Deposit paid back."


def test_what_is_said_besides_is_allowed() -> None:
    declare(events={"paid": None})

    example = example_of("core.deposit.paid") or {}

    assert is_valid({**example["data"], "by": "transfer"}, kind="core.deposit.paid")


def test_a_form_that_is_code_may_be_thin_in_any_way() -> None:
    class Code(serializers.ModelSerializer[Deposit]):
        class Meta:
            model = Deposit
            fields: ClassVar = ["id"]

        def to_representation(self, instance):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return {"id": f"dep_{instance.pk}"}

    declare(serializer_class=Code)

    assert is_valid({"id": "dep_5"}, thin=True)


def test_a_form_without_its_key_is_thin_with_the_key() -> None:
    class Bare(serializers.ModelSerializer[Deposit]):
        class Meta:
            model = Deposit
            fields: ClassVar = ["amount"]

    declare(serializer_class=Bare)

    assert is_valid({"id": 5}, thin=True)
    assert not is_valid({"amount": "1.00"}, thin=True)


def test_what_an_endpoint_is_asked_is_told() -> None:
    assert [each.event_type for each in shapes()] == list(OPERATIONAL)
    assert "hears nothing else" in description_of(ENDPOINT_VERIFY)
    assert "challenge" in (example_of(ENDPOINT_VERIFY) or {})["data"]
    # A project's own verifier may ask for something else.
    found = shape_of(ENDPOINT_VERIFY)
    assert found is not None
    assert "challenge" not in found.parts[0].schema["required"]


@pytest.mark.django_db(transaction=True)
def test_what_endpoints_are_sent_is_as_the_schema_of_their_version_says() -> None:
    assert is_possible()
    deposit = make_deposit()
    versioned()
    ways = [(version, is_thin) for version in FORMS for is_thin in (False, True)]
    for version, is_thin in ways:
        Endpoint.objects.create(
            url="https://a.example/", event_types=["*"], version=version, is_thin=is_thin
        )

    deposit.save()

    said = {}
    for each in Delivery.objects.with_bodies().select_related("endpoint"):
        message = json.loads(each.body or b"")
        pinned = each.endpoint.version
        assert Draft202012Validator(schema(UPDATED, pinned)).is_valid(message)
        other = OLD if pinned == NEW else NEW
        assert not Draft202012Validator(schema(UPDATED, other)).is_valid(message)
        said[pinned, each.endpoint.is_thin] = message["version"], message.get("thin", False)
    assert said == {way: way for way in ways}


def test_a_resource_without_a_model_has_no_events_to_tell_of() -> None:
    class Plain(serializers.Serializer[Any]):
        name = serializers.CharField()

    type("PlainWebhook", (ModelSerializerWebhook,), {"serializer_class": Plain})

    assert [each.event_type for each in shapes()] == list(OPERATIONAL)
