"""What tells two serialized forms apart."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drf_webhooks.differences import (
    FormChange,
    changed_names,
    differs,
    is_same,
    previous,
    restored,
)

# Small on purpose: what matters is how members meet, and drawing them must be quick.
values = st.recursive(
    st.sampled_from([None, True, False, 0, 1, -1, 0.5, 1.0, "", "x"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2)
    ),
    max_leaves=6,
)
forms = st.dictionaries(st.sampled_from("abcd"), values, max_size=3)


patiently = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def has_all(form: Any, before: Any) -> bool:
    """Tell whether a form has every member of another one, with its value."""
    if isinstance(before, dict) and isinstance(form, dict):
        return all(name in form and has_all(form[name], old) for name, old in before.items())
    return is_same(form, before)


@patiently
@given(forms, forms)
def test_previous_attributes_bring_back_the_form_before(before: Any, after: Any) -> None:
    assert has_all(restored(after, previous(before, after)), before)


@patiently
@given(forms)
def test_nothing_has_changed_in_what_is_the_same(form: Any) -> None:
    copy = json.loads(json.dumps(form))

    assert previous(form, copy) == {}
    assert changed_names(form, copy) == frozenset()
    assert not differs(form, copy, ["a", "b.c", "a.b.c"])


@patiently
@given(forms, forms)
def test_previous_attributes_have_no_member_that_is_the_same(before: Any, after: Any) -> None:
    def check(changed: Any, old: Any, new: Any) -> None:
        for name, value in changed.items():
            assert not is_same(old[name], new.get(name, object()))
            if isinstance(old[name], dict) and isinstance(new.get(name), dict):
                check(value, old[name], new[name])
            else:
                assert is_same(value, old[name])

    check(previous(before, after), before, after)


@patiently
@given(forms, forms)
def test_a_form_differs_where_a_name_has_changed_and_nowhere_else(before: Any, after: Any) -> None:
    changed = changed_names(before, after)

    assert bool(changed) is not is_same(before, after)
    assert all(differs(before, after, [name]) for name in changed)
    for name in {*before, *after}:
        is_below = any(each == name or each.startswith(f"{name}.") for each in changed)
        assert differs(before, after, [name]) is is_below


@patiently
@given(forms, forms, st.sets(st.sampled_from(["a", "a.b", "b.c.a", "d"])))
def test_to_differ_is_to_differ_in_one_of_the_names(
    before: Any, after: Any, names: set[str]
) -> None:
    one_by_one = any(differs(before, after, [name]) for name in names)

    assert differs(before, after, names) is one_by_one
    assert differs(after, before, names) is one_by_one


@pytest.mark.parametrize(
    ("before", "after", "changed", "names"),
    [
        pytest.param({"a": 1}, {"a": 2}, {"a": 1}, {"a"}, id="a value"),
        pytest.param(
            {"a": {"b": 1, "c": 1}}, {"a": {"b": 2, "c": 1}}, {"a": {"b": 1}}, {"a.b"}, id="below"
        ),
        pytest.param({"a": [1, 2]}, {"a": [1, 3]}, {"a": [1, 2]}, {"a"}, id="a list, as a whole"),
        pytest.param({"a": None}, {"a": {"b": 1}}, {"a": None}, {"a"}, id="it came"),
        pytest.param({"a": {"b": 1}}, {"a": None}, {"a": {"b": 1}}, {"a"}, id="it went"),
        pytest.param({}, {"a": 1}, {}, {"a"}, id="a member came"),
        pytest.param({"a": 1}, {}, {"a": 1}, {"a"}, id="a member went"),
        pytest.param({"a": True}, {"a": 1}, {"a": True}, {"a"}, id="true is no number"),
        pytest.param({"a": {}}, {"a": {"b": 1}}, {}, {"a.b"}, id="a member came below"),
        pytest.param([1], [2], {}, frozenset(), id="no objects"),
    ],
)
def test_what_has_changed(before: Any, after: Any, changed: Any, names: Any) -> None:
    assert previous(before, after) == changed
    assert changed_names(before, after) == names


def test_a_name_leads_through_lists() -> None:
    before = {"items": [{"price": 1, "note": "a"}, {"price": 2}]}
    after = {"items": [{"price": 1, "note": "b"}, {"price": 2}]}

    assert not differs(before, after, ["items.price"])
    assert differs(before, after, ["items.note"])
    assert differs(before, {"items": before["items"][:1]}, ["items.price"])


def test_what_is_put_back_may_be_no_object() -> None:
    assert restored([1], [2]) == [2]


def test_a_change_knows_what_has_changed() -> None:
    change = FormChange("updated", None, None, {"a": {"b": 1}, "c": 1}, {"a": {"b": 2}, "c": 1})

    assert change.changed_fields == frozenset({"a.b"})
    assert change.has_changed()
    assert change.has_changed("c", "a")
    assert not change.has_changed("c")


@pytest.mark.parametrize("forms", [(None, {"a": 1}), ({"a": 1}, None)])
def test_where_one_form_is_not_known_anything_may_have_changed(forms: tuple[Any, Any]) -> None:
    change = FormChange("updated", None, None, *forms)

    assert change.changed_fields is None
    assert change.has_changed("a")
    assert change.has_changed()
