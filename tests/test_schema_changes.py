from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from drf_webhooks.schema_changes import Difference, differences

TEXT = {"type": "string"}
NULL = {"type": "null"}


def thing(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def kinds(new: Any, old: Any, **options: Any) -> list[tuple[str, str]]:
    return [(each.where, each.kind) for each in differences(new, old, **options)]


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        pytest.param({"type": "integer"}, TEXT, "type", id="another type"),
        pytest.param({"type": ["string", "null"]}, TEXT, "null", id="null"),
        pytest.param({"anyOf": [TEXT, NULL]}, TEXT, "null", id="null, written otherwise"),
        pytest.param({"type": "number"}, {"type": "integer"}, "type", id="a wider number"),
        pytest.param({"enum": ["a", "b"]}, {"enum": ["a"]}, "value", id="a value more"),
        pytest.param(TEXT, {"enum": ["a"]}, "value", id="no enumeration any more"),
        pytest.param({"const": "a"}, {"const": "b"}, "value", id="another constant"),
        pytest.param({"const": True}, {"const": 1}, "value", id="true is no 1"),
        pytest.param(TEXT, {**TEXT, "format": "date"}, "format", id="no format any more"),
        pytest.param(
            {**TEXT, "format": "date-time"}, {**TEXT, "format": "date"}, "format", id="a format"
        ),
        pytest.param({**TEXT, "maxLength": 9}, {**TEXT, "maxLength": 8}, "limit", id="longer"),
        pytest.param(TEXT, {**TEXT, "maxLength": 8}, "limit", id="as long as it likes"),
        pytest.param(TEXT, {**TEXT, "minLength": 1}, "limit", id="shorter"),
        pytest.param(TEXT, {**TEXT, "pattern": "^a"}, "limit", id="no pattern any more"),
        pytest.param({"type": "integer"}, {"type": "integer", "minimum": 0}, "limit", id="below"),
        pytest.param(
            {"type": "integer", "maximum": 9},
            {"type": "integer", "exclusiveMaximum": 9},
            "limit",
            id="the limit itself",
        ),
        pytest.param(
            {"type": "integer", "maximum": 9},
            {"type": "integer", "maximum": 9, "exclusiveMaximum": True},
            "limit",
            id="the limit itself, as OpenAPI 3.0 wrote it",
        ),
        pytest.param(
            {"type": "integer", "multipleOf": 3},
            {"type": "integer", "multipleOf": 2},
            "limit",
            id="other multiples",
        ),
        pytest.param({"type": ["object", "array"]}, {"type": "object"}, "type", id="one more type"),
        pytest.param(TEXT, False, "type", id="where nothing was"),
        pytest.param(
            {"type": "array"}, {"type": "array", "uniqueItems": True}, "limit", id="twice the same"
        ),
        pytest.param({"type": "array"}, {"type": "array", "maxItems": 2}, "limit", id="more items"),
        pytest.param(TEXT, {**TEXT, "not": {"const": ""}}, "unknown", id="what is not compared"),
        pytest.param(
            {"type": "object"},
            {"type": "object", "minProperties": 1},
            "limit",
            id="an empty object",
        ),
        pytest.param(
            {"type": "object", "patternProperties": {"^a": TEXT}},
            {"type": "object", "patternProperties": {"^b": TEXT}},
            "unknown",
            id="other patterns of names",
        ),
        pytest.param(
            {"const": [1]}, {"type": "array", "maxItems": 3}, "unknown", id="a whole list"
        ),
    ],
)
def test_what_a_receiver_did_not_accept_is_a_difference(new: Any, old: Any, expected: str) -> None:
    assert {kind for _, kind in kinds(new, old)} == {expected}


@pytest.mark.parametrize(
    ("new", "old"),
    [
        pytest.param(TEXT, {"type": ["string", "null"]}, id="never null"),
        pytest.param({"type": "integer"}, {"type": "number"}, id="a narrower number"),
        pytest.param({"enum": ["a"]}, {"enum": ["a", "b"]}, id="a value less"),
        pytest.param({"enum": ["a", 1]}, {"type": ["string", "integer"]}, id="values of types"),
        pytest.param({"const": "abc"}, {**TEXT, "maxLength": 3}, id="a value within limits"),
        pytest.param({"const": 1.0}, {"type": "integer", "minimum": 1}, id="a whole number"),
        pytest.param({**TEXT, "format": "date"}, TEXT, id="a format"),
        pytest.param(thing(a=TEXT, b=TEXT), thing(a=TEXT), id="a property more"),
        pytest.param(
            {"anyOf": [TEXT, NULL]}, {"type": ["null", "string"]}, id="the same, written otherwise"
        ),
        pytest.param(
            {"allOf": [thing(a=TEXT), thing(b=TEXT)]},
            thing(a=TEXT, b=TEXT),
            id="parts of what was one",
        ),
        pytest.param(
            thing(a=TEXT, b=TEXT),
            {"allOf": [thing(a=TEXT), thing(b=TEXT)]},
            id="one of what was parts",
        ),
        pytest.param({}, {"description": "anything"}, id="anything, as before"),
        pytest.param(False, TEXT, id="nothing any more"),
        pytest.param({"allOf": [TEXT, NULL]}, {"type": "integer"}, id="impossible"),
        pytest.param(
            {"allOf": [{"type": "number"}, {"type": "integer"}]}, {"type": "integer"}, id="both"
        ),
        pytest.param(
            {"allOf": [{"enum": [1, 2, "a"]}, {"enum": [2, 3]}]}, {"const": 2}, id="both values"
        ),
        pytest.param(
            {"type": "array", "prefixItems": [TEXT, TEXT], "items": False},
            {"type": "array", "items": TEXT},
            id="some items first",
        ),
        pytest.param(
            {"type": "integer", "exclusiveMinimum": 0},
            {"type": "integer", "minimum": 0},
            id="a narrower limit",
        ),
        pytest.param({**TEXT, "title": "A", "x-y": 1}, {**TEXT, "x-y": 2}, id="notes"),
        pytest.param(
            {**TEXT, "contentEncoding": "base64"},
            {**TEXT, "contentEncoding": "base64"},
            id="what nobody knows, and it is the same",
        ),
    ],
)
def test_what_a_receiver_accepted_is_no_difference(new: Any, old: Any) -> None:
    assert kinds(new, old) == []


def test_anything_is_of_every_other_type() -> None:
    types = {"boolean", "number", "string", "array"}

    everything: list[Any] = [{}, True]
    for anything in everything:
        found = differences(anything, {"type": ["object", "null"]})

        assert {each.what for each in found} == types


def test_a_difference_says_where_it_is() -> None:
    old = thing(tenant=thing(name=TEXT, tags={"type": "array", "items": TEXT}), note=TEXT)
    new = thing(tenant=thing(name=TEXT, tags={"type": "array", "items": {"type": "integer"}}))

    assert differences(new, old) == [
        Difference("tenant.tags[]", "type", "integer", "string"),
        Difference("note", "removed"),
    ]


def test_a_property_that_may_be_missing_now_is_a_difference() -> None:
    new = {**thing(a=TEXT, b=TEXT), "required": ["a"]}

    assert kinds(new, thing(a=TEXT, b=TEXT)) == [("b", "optional")]


def test_what_was_required_without_a_schema_counts_too() -> None:
    assert kinds(thing(a=TEXT), {"type": "object", "required": ["a", "b"]}) == [("b", "removed")]
    loose = {**thing(a=TEXT), "required": []}
    assert kinds(loose, {"type": "object", "required": ["a"]}) == [("a", "optional")]


def test_what_stood_alone_must_stand_alone() -> None:
    closed = {**thing(a=TEXT), "additionalProperties": False}

    assert kinds(thing(a=TEXT, b=TEXT), closed) == [("b", "closed"), ("*", "closed")]
    assert kinds(closed, closed) == []
    assert kinds({**thing(a=TEXT), "additionalProperties": NULL}, closed) == [("*", "closed")]


def test_what_may_stand_beside_is_compared() -> None:
    texts = {"type": "object", "additionalProperties": TEXT}
    numbers = {"type": "object", "additionalProperties": {"type": "integer"}}
    one_number = {**texts, "properties": {"a": {"type": "integer"}}}
    some = {**texts, "patternProperties": {"^x": NULL}}

    assert kinds(numbers, texts) == [("*", "type")]
    assert kinds(one_number, texts) == [("a", "type")]
    assert kinds(some, texts) == [("*", "null")]
    assert kinds(texts, {"type": "object", "additionalProperties": {}}) == []
    assert kinds({"type": "object", "additionalProperties": False}, texts) == []


def test_references_are_followed_each_in_its_document() -> None:
    new = {"components": {"A": thing(a={"$ref": "#/components/B"}), "B": TEXT}}
    old = {"components": {"A": thing(a={"type": "integer"})}}
    here = {"$ref": "#/components/A"}

    assert kinds(here, here, new_root=new, old_root=old) == [("a", "type")]
    assert kinds(here, here, new_root=new, old_root=new) == []


def test_what_stands_beside_a_reference_counts() -> None:
    root = {"A": thing(a=TEXT)}
    beside = {"$ref": "#/A", "required": ["a", "b"]}

    assert kinds({"$ref": "#/A"}, beside, new_root=root, old_root=root) == [("b", "removed")]


def test_a_schema_may_contain_itself() -> None:
    tree = {"A": thing(name=TEXT, below={"type": "array", "items": {"$ref": "#/A"}})}
    other = {"A": thing(name=NULL, below={"type": "array", "items": {"$ref": "#/A"}})}
    here = {"$ref": "#/A"}

    assert kinds(here, here, new_root=tree, old_root=tree) == []
    assert kinds(here, here, new_root=tree, old_root=other) == [("name", "type")]
    assert kinds({"$ref": "#"}, {"$ref": "#"}) == []


def test_a_schema_that_is_one_of_itself_has_an_end() -> None:
    root = {"A": {"anyOf": [{"$ref": "#/A"}, NULL]}}

    found = differences({"$ref": "#/A"}, TEXT, new_root=root)

    assert ("", "null") in [(each.where, each.kind) for each in found]


def test_parts_that_say_more_of_a_property_are_taken_together() -> None:
    some = [thing(a={"type": ["string", "null"]}), thing(a={**TEXT, "maxLength": 3}), thing(a=TEXT)]

    assert kinds({"allOf": some}, thing(a={**TEXT, "maxLength": 3})) == []
    assert kinds({"allOf": some}, thing(a=NULL)) == [("a", "type")]


def test_the_longest_list_of_first_items_counts() -> None:
    first = {"type": "array", "prefixItems": [TEXT]}
    both = {"allOf": [first, {"prefixItems": [TEXT, TEXT], "items": NULL}]}

    assert kinds(both, {"type": "array", "prefixItems": [TEXT, TEXT]}) == []
    assert kinds(both, {"type": "array", "prefixItems": [TEXT, NULL]}) == [("[1]", "type")]


def test_items_that_two_parts_speak_of_are_taken_together() -> None:
    items = {"type": "array", "items": {"type": ["string", "null"]}}

    both = {"allOf": [items, {"items": {"type": ["string", "integer"]}}]}

    assert kinds(both, {"type": "array", "items": TEXT}) == []


def test_half_a_number_is_no_integer() -> None:
    assert kinds({"enum": [1.5]}, {"type": "integer"}) == [("", "type")]


def test_a_reference_that_leads_nowhere_is_an_error() -> None:
    for reference in ("#/A", "other.yaml#/A", "#/B/7", "#/B/x"):
        with pytest.raises(ValueError, match="leads to nothing"):
            differences({"$ref": reference}, TEXT, new_root={"B": []})


def test_of_the_alternatives_the_nearest_says_what_is_wrong() -> None:
    old = {"oneOf": [thing(a=TEXT), NULL]}

    assert kinds(thing(a={"type": "integer"}), old) == [("a", "type")]
    assert kinds({"type": "integer"}, old) == [("", "type")]
    assert kinds({"const": 1}, old) == [("", "value")]
    two = {"oneOf": [thing(a=TEXT), thing(b=TEXT)]}
    assert kinds(thing(c=TEXT), two) == [("", "unknown")]
    assert kinds(thing(b=TEXT), two) == []


def test_the_same_may_mean_something_else_beside_something_else() -> None:
    old = {"type": "object", "unevaluatedProperties": False}

    assert kinds({**old, "properties": {"a": TEXT}}, old) == [("", "unknown")]
    assert kinds(old, old) == []


def test_what_is_too_deep_is_not_compared() -> None:
    new: Any = TEXT
    old: Any = NULL
    for _ in range(70):
        new, old = {"type": "array", "items": new}, {"type": "array", "items": old}

    assert [each.what for each in differences(new, old)] == ["its depth"]


def test_too_many_combinations_are_taken_for_anything() -> None:
    many = {"allOf": [{"anyOf": [{"minLength": n} for n in range(9)]} for _ in range(4)]}

    assert ("", "limit") in kinds({**many, "type": "string"}, {**TEXT, "minLength": 1})


# Soundness: what the comparison lets pass is accepted by the old schema too.

NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "ab", "abc", 1.5]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)


def _sized(kind: str, low: str, high: str, sizes: st.SearchStrategy[int]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({"type": st.just(kind)}, optional={low: sizes, high: sizes})


def _compound(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.lists(NAMES, unique=True, max_size=2)
    return (
        st.fixed_dictionaries(
            {"type": st.just("object")},
            optional={
                "properties": st.dictionaries(NAMES, inner, max_size=3),
                "required": names,
                "additionalProperties": inner | st.booleans(),
                "minProperties": st.integers(0, 2),
                "patternProperties": st.dictionaries(st.just("^[bc]"), inner, max_size=1),
            },
        )
        | st.fixed_dictionaries(
            {"type": st.just("array")},
            optional={
                "items": inner | st.booleans(),
                "prefixItems": st.lists(inner, min_size=1, max_size=2),
                "maxItems": st.integers(0, 3),
                "uniqueItems": st.booleans(),
            },
        )
        | st.lists(inner, min_size=1, max_size=3).map(lambda some: {"anyOf": some})
        | st.lists(inner, min_size=1, max_size=2).map(lambda some: {"allOf": some})
        | st.tuples(inner, inner).map(lambda two: {**two[0], "anyOf": [two[1], {"type": "null"}]})
        | inner.map(lambda one: {"not": one})
    )


SCHEMAS = st.recursive(
    st.sampled_from([{}, NULL, {"type": "boolean"}, {"type": ["string", "null"]}])
    | _sized("string", "minLength", "maxLength", st.integers(0, 3))
    | _sized("integer", "minimum", "exclusiveMaximum", st.integers(-2, 2))
    | _sized("number", "exclusiveMinimum", "maximum", st.integers(-2, 2))
    | st.lists(VALUES, min_size=1, max_size=3).map(lambda some: {"enum": some})
    | VALUES.map(lambda one: {"const": one}),
    _compound,
    max_leaves=6,
)


@st.composite
def _changed(draw: st.DrawFn, schema: Any) -> Any:
    """Give a schema that differs from another in few places, as releases do."""
    if not isinstance(schema, dict) or draw(st.integers(0, 5)) == 0:
        return draw(SCHEMAS)
    result = dict(schema)
    for name, value in schema.items():
        choice = draw(st.integers(0, 7))
        if choice == 0:
            del result[name]
        elif name in {"anyOf", "allOf", "prefixItems"}:
            result[name] = [draw(_changed(each)) for each in value]
        elif name in {"properties", "patternProperties"}:
            result[name] = {key: draw(_changed(each)) for key, each in value.items()}
        elif name in {"items", "additionalProperties", "not"} and choice < 4:
            result[name] = draw(_changed(value))
    return result


# Most pairs of schemas do not pass, and say nothing here.
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(st.data())
def test_what_passes_the_comparison_is_accepted_as_before(data: st.DataObject) -> None:
    old = data.draw(SCHEMAS, "old")
    new = data.draw(_changed(old) | SCHEMAS, "new")
    assume(not differences(new, old))
    value = data.draw(VALUES, "value")

    assert not Draft202012Validator(new).is_valid(value) or Draft202012Validator(old).is_valid(
        value
    )


def _around(inner: Any) -> Any:
    return (
        st.dictionaries(NAMES, inner, max_size=3).map(lambda some: thing(**some))
        | inner.map(lambda one: {"type": "array", "items": one})
        | inner.map(lambda one: {"type": "object", "additionalProperties": one})
        | st.lists(inner, min_size=1, max_size=3).map(lambda some: {"anyOf": some})
    )


PLAIN = (
    st.sampled_from([{}, NULL, {"type": "boolean"}, {"type": ["string", "null"]}])
    | _sized("string", "minLength", "maxLength", st.integers(0, 3))
    | _sized("number", "exclusiveMinimum", "maximum", st.integers(-2, 2))
    | st.sampled_from([{"enum": ["a", None]}, {"const": "a"}])
)
FLAT = PLAIN | _around(PLAIN | _around(PLAIN))


@settings(max_examples=100, deadline=None)
@given(FLAT)
def test_nothing_differs_from_itself(schema: Any) -> None:
    # By a reference, so that no short cut is taken.
    here = {"$ref": "#/A"}

    assert differences(here, here, new_root={"A": schema}, old_root={"A": schema}) == []
