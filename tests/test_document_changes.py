import copy
from typing import Any

import pytest

from drf_webhooks.contrib.spectacular import webhooks_document
from drf_webhooks.document_changes import Changes, changes
from drf_webhooks.resources import ModelSerializerWebhook
from drf_webhooks.testing import isolated_registry
from tests.app.serializers import DepositSerializer, TenantSerializer, UserSerializer
from tests.test_versions import NEW, OLD, NewForm, OldForm

TEXT = {"type": "string"}


def body(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties]}


def document(schema: Any = TEXT, *, headers: Any = (), **more: Any) -> dict[str, Any]:
    """Return a document with one webhook, ``a.b``, and more types of it."""
    content = {"application/json": {"schema": schema}, **more}
    post = {"parameters": [*headers], "requestBody": {"content": content}}
    return {"openapi": "3.1.0", "webhooks": {"a.b": {"post": post}}}


def header(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": TEXT, **more}


def breaking(new: Any, old: Any) -> list[str]:
    return changes(new, old).breaking


def compatible(new: Any, old: Any) -> list[str]:
    found = changes(new, old)
    assert found.breaking == []
    return found.compatible


def test_the_same_document_has_no_changes() -> None:
    with isolated_registry():
        type("W", (ModelSerializerWebhook,), {"serializer_class": DepositSerializer})
        found = webhooks_document()

    assert changes(copy.deepcopy(found), found) == Changes()


def test_an_event_type_that_is_gone_breaks() -> None:
    none = {"openapi": "3.1.0"}

    assert breaking(none, document()) == ["a.b: is not sent any more"]
    assert compatible(document(), none) == ["a.b: is new"]


@pytest.mark.parametrize(
    ("new", "old", "line"),
    [
        (body(), body(x=TEXT), "x is not there any more"),
        ({**body(x=TEXT), "required": []}, body(x=TEXT), "x may be missing"),
        (body(x={"type": "integer"}), body(x=TEXT), "x may be of the type integer, and was string"),
        (body(x={"type": ["string", "null"]}), body(x=TEXT), "x may be null"),
        (body(x={"enum": ["a", "b"]}), body(x={"enum": ["a"]}), 'x may be "b"'),
        (body(x=TEXT), body(x={"enum": ["a"]}), 'x may be anything, and was one of "a"'),
        (
            body(x={**TEXT, "format": "date"}),
            body(x={**TEXT, "format": "time"}),
            "x has the format date, and had time",
        ),
        (
            body(x={**TEXT, "maxLength": 9}),
            body(x={**TEXT, "maxLength": 8}),
            "x has not the limit maxLength 8 any more",
        ),
        (
            body(y=TEXT),
            {**body(), "additionalProperties": False},
            "y is there, where nothing else was to be",
        ),
        (body(x=TEXT), body(x={**TEXT, "not": {}}), "x cannot be compared: not"),
        (TEXT, {"type": "integer"}, "may be of the type string, and was integer"),
    ],
)
def test_what_breaks_is_said_in_a_line(new: Any, old: Any, line: str) -> None:
    assert f"a.b: {line}" in breaking(document(new), document(old))


@pytest.mark.parametrize(
    ("new", "old", "line"),
    [
        (body(x=TEXT), body(), "x is new"),
        (body(x=TEXT), {**body(x=TEXT), "required": []}, "x is always there"),
        (body(x=TEXT), body(x={"type": ["string", "null"]}), "x is never null any more"),
        (
            body(x=TEXT),
            body(x={"type": ["string", "integer", "boolean"]}),
            "x is never of the type integer or boolean any more",
        ),
        (body(x={"enum": ["a"]}), body(x={"enum": ["a", "b"]}), 'x is never "b" any more'),
        (body(x={"enum": ["a"]}), body(x=TEXT), 'x is one of "a"'),
        (body(x={**TEXT, "format": "date"}), body(x=TEXT), "x has the format date"),
        (body(x={**TEXT, "maxLength": 9}), body(x=TEXT), "x has the limit maxLength 9"),
        (body(x={**TEXT, "not": {}}), body(x=TEXT), "x is another schema: not"),
        (
            {**body(), "additionalProperties": False},
            {**body(), "additionalProperties": TEXT},
            "* is not there, as nothing else is",
        ),
    ],
)
def test_what_breaks_nothing_is_said_too(new: Any, old: Any, line: str) -> None:
    assert compatible(document(new), document(old)) == [f"a.b: {line}"]


def test_what_breaks_is_not_said_to_be_fine_the_other_way_round() -> None:
    found = changes(document(body(x={"type": "integer"})), document(body(x=TEXT)))

    assert len(found.breaking) == 1
    assert found.compatible == []


def test_what_is_the_same_in_each_format_is_said_once() -> None:
    def both(schema: Any) -> dict[str, Any]:
        return document(schema, **{"application/cloudevents+json": {"schema": schema}})

    assert breaking(both(body()), both(body(x=TEXT))) == ["a.b: x is not there any more"]
    assert compatible(both(body(x=TEXT)), both(body())) == ["a.b: x is new"]


def test_a_format_that_is_gone_breaks() -> None:
    xml = document(**{"application/xml": {}})

    assert breaking(document(), xml) == ["a.b: has no application/xml any more"]
    assert compatible(xml, document()) == ["a.b: has application/xml too"]


def test_headers_count() -> None:
    one = document(headers=[header("Webhook-Id", required=True), {"name": "q", "in": "query"}])
    other = document(headers=[header("webhook-id")])
    number = document(headers=[header("webhook-id", required=True, schema={"type": "integer"})])

    assert breaking(document(), one) == ["a.b: has no header webhook-id any more"]
    assert compatible(one, document()) == ["a.b: has the header webhook-id"]
    assert compatible(one, other) == []
    assert breaking(other, one) == ["a.b: may be without the header webhook-id"]
    assert breaking(number, one) == [
        "a.b: the header webhook-id may be of the type integer, and was string"
    ]


def test_references_are_followed_wherever_they_are() -> None:
    post = {
        "parameters": [{"$ref": "#/components/parameters/Id"}],
        "requestBody": {"$ref": "#/components/requestBodies/Body"},
    }
    schema = {"$ref": "#/components/schemas/Text"}
    components = {
        "pathItems": {"Item": {"put": post}},
        "parameters": {"Id": header("webhook-id")},
        "requestBodies": {"Body": {"content": {"application/json": {"schema": schema}}}},
        "schemas": {"Text": {"type": "integer"}},
    }
    new = {
        "openapi": "3.1.1",
        "webhooks": {"a.b": {"$ref": "#/components/pathItems/Item"}},
        "components": components,
    }

    assert breaking(new, document(headers=[header("webhook-id")])) == [
        "a.b: may be of the type integer, and was string"
    ]


def test_an_entry_without_a_request_has_nothing_to_compare() -> None:
    empty = {"openapi": "3.1.0", "webhooks": {"a.b": {}}}

    assert breaking(empty, empty) == []


@pytest.mark.parametrize("wrong", [{"openapi": "3.0.3"}, {"swagger": "2.0"}, [], "text", None])
def test_what_is_no_document_of_today_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"no OpenAPI document of version 3\.1 or later"):
        changes(document(), wrong)


# Versions, and thin messages.


def declared(**fields: Any) -> Any:
    """Return the document of one resource, of which only "updated" is said."""
    with isolated_registry():
        type("W", (ModelSerializerWebhook,), {"create": False, "delete": False, **fields})
        found = webhooks_document()
    found["webhooks"] = {
        kind: each for kind, each in found["webhooks"].items() if kind.startswith("core.")
    }
    return found


def without(name: str, document: Any) -> Any:
    """Return a document whose forms and messages have a property no more."""
    changed = copy.deepcopy(document)
    for schema in changed["components"]["schemas"].values():
        if schema.get("properties", {}).pop(name, None) is not None:
            schema["required"] = [each for each in schema["required"] if each != name]
    return changed


ONE = {OLD: OldForm}
BOTH = {OLD: OldForm, NEW: NewForm}


def test_a_new_version_is_compatible_and_one_that_is_gone_breaks() -> None:
    one, both = declared(versions=ONE), declared(versions=BOTH)

    assert compatible(both, one) == [f"core.deposit.updated: version {NEW} is new"]
    assert breaking(one, both) == [
        f"core.deposit.updated: version {NEW} is not sent any more",
    ]


def test_what_changes_within_a_version_is_said_of_it() -> None:
    both = declared(versions=BOTH)

    assert breaking(without("cents", both), both) == [
        f"core.deposit.updated: version {NEW}: data.cents is not there any more"
    ]
    assert compatible(both, without("cents", both)) == [
        f"core.deposit.updated: version {NEW}: data.cents is new"
    ]


def test_a_form_that_would_do_for_another_version_is_not_compared_with_it() -> None:
    more = {OLD: OldForm, NEW: type("More", (OldForm,), {"Meta": _meta("id", "tenant", "amount")})}
    both = declared(versions=more)

    assert breaking(without("amount", both), both) == [
        f"core.deposit.updated: version {NEW}: data.amount is not there any more"
    ]


def _meta(*names: str) -> type[Any]:
    return type("Meta", (OldForm.Meta,), {"fields": list(names)})


def test_versions_may_begin_with_the_form_that_there_was() -> None:
    before = declared(serializer_class=OldForm)

    assert compatible(declared(versions=BOTH), before) == [
        "core.deposit.updated: version is new",
        f"core.deposit.updated: version {NEW} is new",
    ]
    other = declared(versions={NEW: NewForm})
    assert "core.deposit.updated: data.tenant is not there any more" in breaking(other, before)


def test_who_is_pinned_to_a_version_is_compared_with_what_has_none() -> None:
    found = breaking(declared(serializer_class=OldForm), declared(versions=ONE))

    assert found == [f"core.deposit.updated: version {OLD}: version is not there any more"]


def test_a_resource_that_becomes_thin_breaks_and_one_that_was_may_be_whole() -> None:
    whole = declared(serializer_class=TenantSerializer)
    thin = declared(serializer_class=TenantSerializer, thin=True)

    assert breaking(thin, whole) == ["core.tenant.updated: is only sent thin"]
    assert breaking(whole, thin) == ["core.tenant.updated: may be whole"]


def test_what_is_new_in_a_thin_message_and_what_is_gone_is_said_once() -> None:
    whole = declared(serializer_class=UserSerializer)

    assert breaking(without("id", whole), whole) == [
        "core.user.updated: data.id is not there any more"
    ]


def test_a_document_without_thin_messages_may_be_an_older_one() -> None:
    new = declared(serializer_class=UserSerializer)
    old = copy.deepcopy(new)
    for media in old["webhooks"]["core.user.updated"]["post"]["requestBody"]["content"].values():
        if media:
            media["schema"] = media["schema"]["anyOf"][0]

    assert breaking(new, old) == ["core.user.updated: may be thin"]
    assert compatible(old, new) == ["core.user.updated: is never thin any more"]


def test_a_union_that_says_nothing_of_versions_is_compared_as_a_whole() -> None:
    one, other = body(x=TEXT), body(y=TEXT)

    assert breaking(document({"anyOf": [one, other]}), document(one)) == [
        "a.b: x is not there any more"
    ]
    assert breaking(document(one), document({"anyOf": [one, other]})) == []
