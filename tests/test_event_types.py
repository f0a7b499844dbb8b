"""Event types and their patterns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drf_webhooks.event_types import is_event_type, is_pattern, patterns, refusal

TYPES = st.from_regex(r"[a-zA-Z0-9_]+(\.[a-zA-Z0-9_]+){0,4}", fullmatch=True)


@given(TYPES)
def test_a_type_matches_itself_and_all_above_it(event_type: str) -> None:
    found = patterns(event_type)

    assert is_event_type(event_type)
    assert found[0] == event_type
    assert found[-1] == "*"
    assert all(is_pattern(each) for each in found)
    assert all(event_type.startswith(each[:-1]) for each in found[1:])


@pytest.mark.parametrize("text", ["", ".", "a.", "a..b", "a b", "a.*.b", "*.a", "a*", "ä", "a\n"])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    assert not is_pattern(text)
    assert repr(text) in refusal(text)
