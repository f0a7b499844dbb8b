"""What a worker has in hand: limits, leasing ahead, leases that grow old."""

import uuid
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from drf_webhooks.delivery.hand import Hand
from drf_webhooks.delivery.health_rows import Standing
from drf_webhooks.delivery.leases import Leased, Recipient
from drf_webhooks.encryption import Stored

A, B = uuid.UUID(int=1), uuid.UUID(int=2)
QUICK = timedelta(milliseconds=5)
SLOW = timedelta(seconds=5)


def leased(
    endpoint: uuid.UUID = A, delivery: int = 0, *, limit: int = 2, owner: int | None = None
) -> Leased:
    return Leased(
        delivery=delivery,
        fence=1,
        attempt_count=0,
        age=timedelta(0),
        message_id="evt_",
        object_key="1",
        body=b"",
        has_body=True,
        endpoint=endpoint,
        to=Recipient(
            url="https://a.example/",
            method="POST",
            format="json",
            headers=Stored(""),
            secret=Stored(""),
            old_secrets=Stored(""),
            owner=owner,
            limit=limit,
        ),
        event_owner=None,
        standing=Standing(),
    )


def hand(size: int = 10, patience: float = 60) -> Hand:
    return Hand(size, patience=timedelta(seconds=patience))


def begun(held: Hand, now: float = 0) -> list[Leased]:
    found = []
    while (each := held.next(now=now)) is not None:
        found.append(each)
    return found


def test_an_endpoint_at_its_limit_does_not_hold_up_the_next() -> None:
    held = hand()
    held.take([leased(A), leased(A), leased(A), leased(B)], now=0)

    assert [each.endpoint for each in begun(held)] == [A, B, A]
    held.landed(leased(A), took=QUICK)
    assert [each.endpoint for each in begun(held)] == [A]


def test_what_was_claimed_just_now_does_not_wait_for_all_that_another_has() -> None:
    held = hand(size=1)
    held.take([leased(A, each, limit=9) for each in range(20)], now=0)
    (first,) = begun(held)
    held.take([leased(B, 20)], now=0)
    held.landed(first, took=QUICK)

    # The turn is that of A, who was there before.
    (second,) = begun(held)
    held.landed(second, took=QUICK)

    assert [second.delivery, *(each.delivery for each in begun(held))] == [1, 20]


def test_an_owner_with_many_endpoints_has_one_turn() -> None:
    held = hand(size=6)
    endpoints = [uuid.UUID(int=each) for each in range(10, 20)]
    held.take([leased(each, 1, owner=1) for each in endpoints], now=0)
    held.take([leased(A, 2, owner=2), leased(B, 2, owner=2), leased(uuid.UUID(int=3), 3)], now=0)

    assert [each.delivery for each in begun(held)] == [1, 2, 3, 1, 2, 1]


def test_no_more_are_in_the_air_than_there_is_room() -> None:
    held = hand(size=2)
    held.take([leased(A), leased(A), leased(B)], now=0)

    assert len(begun(held)) == 2
    assert held.has_more
    assert held.room == 15


def test_an_endpoint_that_is_quick_is_leased_ahead() -> None:
    held = hand()
    held.take([leased(A)] * 3 + [leased(B)] * 3, now=0)
    first = begun(held)
    held.landed(first[0], took=QUICK)
    held.landed(first[1], took=SLOW)

    assert held.counts() == {A: 0, B: 2}
    held.landed(first[2], took=None)
    assert held.counts() == {A: 1, B: 2}


def test_a_lease_that_grew_old_is_not_begun() -> None:
    held = hand(patience=1)
    held.take([leased(A, 1), leased(A, 2)], now=0)
    held.take([leased(B, 3)], now=5)

    assert [each.delivery for each in begun(held, now=5.5)] == [3]
    assert [each.delivery for each in held.drop_late()] == [1, 2]
    assert held.drop_late() == []
    assert held.counts() == {B: 1}


def test_what_was_not_begun_can_be_dropped() -> None:
    held = hand(size=1)
    held.take([leased(A, 1), leased(A, 2)], now=0)
    (first,) = begun(held)

    assert [each.delivery for each in held.drop()] == [2]
    held.landed(first, took=QUICK)
    assert held.is_empty
    assert held.counts() == {}


@given(
    st.lists(st.tuples(st.sampled_from([A, B, uuid.UUID(int=3)]), st.booleans()), max_size=60),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_limits_hold_whatever_happens(
    story: list[tuple[uuid.UUID, bool]], size: int, each: int
) -> None:
    held = hand(size)
    flying: list[Leased] = []
    for endpoint, lands in story:
        if lands and flying:
            held.landed(flying.pop(0), took=QUICK)
        elif held.room:
            held.take([leased(endpoint, limit=each)], now=0)
        flying += begun(held)
        assert len(flying) <= size
        assert all(sum(x.endpoint == y.endpoint for x in flying) <= each for y in flying)
    held.drop()
    for one in flying:
        held.landed(one, took=None)
    assert held.is_empty
    assert held.room == 9 * size


@given(
    st.lists(st.one_of(st.none(), st.tuples(st.integers(0, 5), st.integers(1, 4))), max_size=60),
    st.integers(1, 5),
)
def test_nobody_has_two_turns_while_another_waits_for_one(
    story: list[tuple[int, int] | None], size: int
) -> None:
    """Six endpoints of three owners; what is ``None`` is an answer, the rest is claimed."""
    held = hand(size)
    flying: list[Leased] = []
    ready: list[Leased] = []
    waits: dict[int | None, set[int | None]] = {}
    number = 0
    for step in story:
        if step is None and flying:
            held.landed(flying.pop(0), took=QUICK)
        elif step is not None and held.room >= step[1]:
            endpoint, count = step
            some = [
                leased(uuid.UUID(int=endpoint), number + each, owner=endpoint % 3)
                for each in range(count)
            ]
            number += count
            ready += some
            held.take(some, now=0)
        for _ in range(size):
            may = {
                each.to.owner
                for each in ready
                if sum(each.endpoint == other.endpoint for other in flying) < each.to.limit
            }
            one = held.next(now=0)
            assert (one is None) == (len(flying) == size or not may)
            if one is None:
                break
            # Each of an endpoint in the order in which they were claimed.
            assert one == next(each for each in ready if each.endpoint == one.endpoint)
            ready.remove(one)
            flying.append(one)
            owner = one.to.owner
            assert not waits.get(owner), f"{owner} goes before {waits[owner]}"
            for others in waits.values():
                others.discard(owner)
            waits[owner] = may - {owner}


def test_a_failure_is_known_until_something_is_taken_or_nothing_is_in_hand() -> None:
    held = hand()
    held.take([leased(A), leased(A), leased(B)], now=0)
    first, other, second = begun(held)
    assert not held.hear(first, is_taken=True)

    assert not held.hear(first, is_taken=False)
    assert not held.hear(other, is_taken=True)
    assert held.hear(second, is_taken=True)
    assert not held.hear(second, is_taken=True)

    assert not held.hear(first, is_taken=False)
    held.landed(first, took=None)
    held.landed(second, took=None)
    held.take([leased(A)], now=0)
    (again,) = begun(held)
    assert not held.hear(again, is_taken=True)
