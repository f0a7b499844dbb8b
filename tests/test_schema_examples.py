from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker

from drf_webhooks.schema_examples import NoExampleError, example

TEXT = {"type": "string"}


@pytest.mark.parametrize(
    ("name", "schema", "expected"),
    [
        ("email", TEXT, "ada@example.com"),
        ("first_name", TEXT, "Ada"),
        ("home_city", TEXT, "Graz"),
        ("rent_total", TEXT, "Rent total"),
        ("", TEXT, "text"),
        ("name", {"type": "string", "maxLength": 3}, "Ada"),
        ("code", {"type": "string", "minLength": 6}, "AB12xx"),
        (
            "amount",
            {"type": "string", "format": "decimal", "pattern": r"^-?\d{0,2}(\.\d{0,2})?$"},
            "10.00",
        ),
        ("at", {"type": "string", "format": "date"}, "2026-03-14"),
        ("postcode", {"type": "string", "pattern": "^[0-9]{4}$"}, "8010"),
        ("plate", {"type": "string", "pattern": "^[A-Z]{3}$"}, "ADA"),
        ("id", {"type": "integer"}, 42),
        ("count", {"type": "integer", "maximum": 2}, 1),
        ("floor", {"type": "integer", "minimum": 500}, 500),
        ("floor", {"type": "integer", "exclusiveMinimum": 500}, 501),
        ("floor", {"type": "integer", "multipleOf": 7, "minimum": 1}, 7),
        ("share", {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5),
        ("is_paid", {"type": "boolean"}, True),
        ("gone", {"type": "null"}, None),
        ("kind", {"enum": ["b", "a"]}, "b"),
        ("kind", {"const": 7}, 7),
        ("note", {"type": ["null", "string"]}, "Paid by transfer"),
        ("note", {"anyOf": [{"type": "null"}, TEXT]}, "Paid by transfer"),
        ("anything", {}, "Anything"),
        ("anything", True, "Anything"),
        ("cities", {"type": "array", "items": TEXT}, ["Graz"]),
        ("tags", {"type": "array", "items": TEXT, "minItems": 2}, ["Tag", "Tag"]),
        (
            "tags",
            {
                "type": "array",
                "items": {"enum": ["a", "b", "c"]},
                "minItems": 2,
                "uniqueItems": True,
            },
            ["a", "b"],
        ),
        (
            "pair",
            {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": False},
            [1, 2],
        ),
        ("none", {"type": "array", "maxItems": 0}, []),
        ("given", {"type": "string", "examples": ["yes"]}, "yes"),
        ("given", {"type": "string", "example": "yes"}, "yes"),
        ("extra", {"type": "object", "additionalProperties": TEXT}, {}),
        (
            "odd",
            {"type": "object", "properties": {"x": {"type": "string", "pattern": "^only I$"}}},
            {},
        ),
        ("loose", {"type": "object", "required": ["a"]}, {"a": ""}),
    ],
)
def test_an_example_is_as_somebody_would_write_it(name: str, schema: Any, expected: Any) -> None:
    assert example(schema, name=name) == expected
    Draft202012Validator(schema).validate(expected)


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"type": "string", "pattern": "^only I know$"},
        {"type": "string", "pattern": "(?<x>this is no Python)"},
        {"type": "string", "format": "uuid", "maxLength": 3},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2},
        {"type": "array", "items": {"const": 1}, "minItems": 2, "uniqueItems": True},
        {
            "type": "object",
            "properties": {"x": {"type": "string", "pattern": "^only I$"}},
            "required": ["x"],
        },
    ],
)
def test_where_none_is_found_it_says_so(schema: Any) -> None:
    with pytest.raises(NoExampleError):
        example(schema)


def test_a_schema_that_contains_itself_has_an_end() -> None:
    here = {"$ref": "#/A"}
    root = {
        "A": {
            "type": "object",
            "properties": {
                "name": TEXT,
                "below": {"type": "array", "items": here},
                "above": {"anyOf": [here, {"type": "null"}]},
            },
            "required": ["name", "below", "above"],
        }
    }

    found = example(here, root)

    Draft202012Validator({**here, **root}).validate(found)
    assert found["name"] == "Ada Lovelace"


def test_what_may_be_left_out_is_at_some_depth() -> None:
    root = {"A": {"type": "object", "properties": {"above": {"$ref": "#/A"}}}}

    assert str(example({"$ref": "#/A"}, root)).count("above") == 7


def _compound(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.sampled_from(["id", "name", "amount", "note"])
    return (
        st.dictionaries(names, inner, max_size=4).map(
            lambda some: {"type": "object", "properties": some, "required": [*some]}
        )
        | st.builds(
            lambda items, least: {"type": "array", "items": items, "minItems": least},
            inner,
            st.integers(0, 3),
        )
        | st.lists(inner, min_size=1, max_size=3).map(lambda some: {"anyOf": some})
    )


SCHEMAS = st.recursive(
    st.sampled_from([{}, {"type": "null"}, {"type": "boolean"}, {"type": ["string", "null"]}])
    | st.builds(
        lambda least, more: {"type": "string", "minLength": least, "maxLength": least + more},
        st.integers(0, 60),
        st.integers(0, 5),
    )
    | st.builds(
        lambda low, more: {"type": "integer", "minimum": low, "exclusiveMaximum": low + more},
        st.integers(-900, 900),
        st.integers(1, 5),
    )
    | st.builds(
        lambda low, more: {"type": "number", "exclusiveMinimum": low, "maximum": low + more},
        st.integers(-900, 900),
        st.integers(1, 5),
    )
    | st.sampled_from(["date", "date-time", "time", "uuid", "email", "uri", "ipv4", "ipv6"]).map(
        lambda kind: {"type": "string", "format": kind}
    )
    | st.lists(st.integers(0, 3), min_size=1, unique=True).map(lambda some: {"enum": some}),
    _compound,
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(SCHEMAS)
def test_an_example_is_valid(schema: Any) -> None:
    validator = Draft202012Validator(schema, format_checker=FormatChecker())

    validator.validate(example(schema))
