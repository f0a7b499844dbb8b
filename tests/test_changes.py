"""Merging: whatever happens to an object, one thing is said of it, or nothing."""

from hypothesis import given
from hypothesis import strategies as st

from drf_webhooks.changes import Changes, Held, Operation, merge
from drf_webhooks.ids import uuid7

CREATED, UPDATED, DELETED = Operation.CREATED, Operation.UPDATED, Operation.DELETED


@st.composite
def histories(draw: st.DrawFn) -> tuple[bool, list[Operation]]:
    """What can really happen to an object that exists at first, or does not."""
    existed = exists = draw(st.booleans())
    history = []
    for chance in draw(st.lists(st.booleans(), max_size=12)):
        operation = (UPDATED if chance else DELETED) if exists else CREATED
        exists = operation is not DELETED
        history.append(operation)
    return existed, history


def expected(*, existed: bool, history: list[Operation]) -> Operation | None:
    exists = history[-1] is not DELETED if history else existed
    if not existed:
        return CREATED if exists else None
    if not exists:
        return DELETED
    return UPDATED if history else None


@given(histories())
def test_what_is_said_follows_from_before_and_after(story: tuple[bool, list[Operation]]) -> None:
    existed, history = story
    said: Operation | None = None
    for operation in history:
        said = merge(said, operation)

    assert said == expected(existed=existed, history=history)


@given(histories(), st.integers(0, 12))
def test_a_savepoint_in_the_middle_changes_nothing(
    story: tuple[bool, list[Operation]], cut: int
) -> None:
    _, history = story
    at_once, outer, inner = Changes(), Changes(), Changes()
    for number, operation in enumerate(history):
        at_once.note_base("resource", 1, operation)
        (outer if number < cut else inner).note_base("resource", 1, operation)

    outer.extend(inner)

    assert {key: noted.operation for key, noted in outer.bases.items()} == {
        key: noted.operation for key, noted in at_once.bases.items()
    }


def test_a_savepoint_hands_over_everything() -> None:
    outer, inner = Changes(), Changes()
    outer.note_nested("path", [1])
    outer.note_above("resource", [7])
    inner.note_nested("path", [1, 2])
    inner.note_nested("other", [3])
    inner.note_above("resource", [7, 8])

    outer.extend(inner)

    assert {path: list(rows) for path, rows in outer.nested.items()} == {
        "path": [1, 2],
        "other": [3],
    }
    assert [noted.pk for noted in outer.above.values()] == [7, 8]
    assert bool(outer)
    assert not Changes()


def test_an_object_that_comes_back_is_said_when_it_came_back() -> None:
    changes = Changes()
    for pk, operation in ((1, CREATED), (1, DELETED), (2, CREATED), (1, CREATED)):
        changes.note_base("resource", pk, operation)

    said = sorted(changes.bases.values(), key=lambda noted: noted.order)
    assert [(noted.pk, noted.operation) for noted in said] == [(2, CREATED), (1, CREATED)]


def test_an_object_that_came_and_went_inside_leaves_what_was_said_before() -> None:
    outer, inner = Changes(), Changes()
    outer.note_base("resource", 1, DELETED)
    inner.note_base("resource", 1, CREATED)
    inner.note_base("resource", 1, DELETED)

    outer.extend(inner)

    assert [noted.operation for noted in outer.bases.values()] == [DELETED]


def test_what_two_threads_hold_is_joined() -> None:
    first, second = Held((uuid7(),), 1, CREATED), Held((uuid7(),), 1, UPDATED)

    assert second.joined(None) is second
    assert second.joined(second) is second
    both = second.joined(first)
    assert both.events == (*first.events, *second.events)
    assert both.operation is CREATED
