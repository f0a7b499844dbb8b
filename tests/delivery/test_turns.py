"""What a claim finds: turns of owners and endpoints, lanes, order; and by which plans."""

import re
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import Model
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from drf_webhooks.delivery.claims import Claim, claim
from drf_webhooks.delivery.leases import Leased
from drf_webhooks.delivery.results import Result, settle
from drf_webhooks.delivery.turns import Due, Turns, endpoints_in_turn, interleave
from drf_webhooks.ids import object_hash, uuid7
from drf_webhooks.models import Delivery, Endpoint, EndpointHealth, Event
from tests.factories import make_user

AT_ONCE = [timedelta(0)] * 9
MINUTE = timedelta(minutes=1)
PAST = datetime(2026, 1, 1, tzinfo=UTC)


def make_endpoints(count: int, **fields: Any) -> list[Endpoint]:
    return Endpoint.objects.bulk_create(
        Endpoint(id=uuid7(), url=f"https://{number}.example/", event_types=["*"], **fields)
        for number in range(count)
    )


def make_due(
    endpoints: list[Endpoint],
    count: int = 1,
    *,
    at: datetime | None = PAST,
    apart: timedelta = timedelta(seconds=1),
    objects: int | None = None,
    **fields: Any,
) -> list[Delivery]:
    """Let some deliveries wait for each endpoint; with ``objects`` in the order of so many."""
    events = Event.objects.bulk_create(
        Event(
            id=uuid7(),
            type="core.deposit.updated",
            resource="core.deposit",
            object_key=str(number % (objects or count)),
            sequence=number // (objects or count) + 1,
            body=b"{}",
            created_at=PAST,
        )
        for number in range(count)
    )
    rows = []
    for place, event in enumerate(events):
        if objects:
            fields |= {
                "lane": Delivery.Lane.ORDERED,
                "order_key": object_hash(event.resource, event.object_key),
            }
        rows += [
            Delivery(
                event=event,
                endpoint=each,
                due_at=at and at + place * apart,
                sequence=event.sequence,
                created_at=PAST,
                **fields,
            )
            for each in endpoints
        ]
    return Delivery.objects.bulk_create(rows, batch_size=2000)


def taken(
    limit: int = 100,
    *,
    each: int = 10,
    in_air: Mapping[uuid.UUID, int] | None = None,
    turns: Turns | None = None,
) -> list[Leased]:
    found = claim(
        limit,
        using="default",
        length=MINUTE,
        each=each,
        in_air=in_air or {},
        turns=turns,
        schedule=AT_ONCE,
    )
    return found.leased


def ended(leased: Leased, state: str = "delivered", wait: timedelta | None = None) -> None:
    now = datetime.now(tz=UTC)
    result = Result(leased, now, timedelta(0), Delivery.State(state), wait=wait, reason="x")
    assert settle([result], using="default") == 0


@pytest.mark.django_db
def test_e58_an_endpoint_at_its_limit_hides_nobody() -> None:
    """E58: a thousand wait for it, and all are older than those of the others."""
    (slow,) = make_endpoints(1)
    make_due([slow], 1000)
    others = make_endpoints(50)
    make_due(others, at=PAST + MINUTE * 60)

    found = taken(in_air={slow.pk: 10})

    assert {each.endpoint for each in found} == {each.pk for each in others}


@pytest.mark.django_db
def test_e59_an_owner_with_very_many_does_not_hold_up_the_others() -> None:
    """E59: one owner has 30 endpoints and everything that is old, the other one delivery."""
    make_due(make_endpoints(30, owner=make_user()), 20)
    (other,) = make_endpoints(1, owner=make_user())
    make_due([other], 3, at=PAST + MINUTE * 60)

    found = taken(10)

    assert Counter(each.endpoint for each in found)[other.pk] >= 2


@pytest.mark.django_db
def test_e59_each_endpoint_is_visited_in_one_round() -> None:
    """E59: with more endpoints than one claim visits, the round goes on at the next one."""
    endpoints = make_endpoints(25)
    make_due(endpoints, 10)
    turns = Turns(visits=4)

    rounds = [{each.endpoint for each in taken(8, turns=turns)} for _ in range(7)]

    assert all(len(each) <= 4 for each in rounds)
    assert set().union(*rounds) == {each.pk for each in endpoints}


@pytest.mark.django_db
def test_endpoints_take_turns_from_claim_to_claim() -> None:
    endpoints = make_endpoints(30)
    make_due(endpoints, 10)
    turns = Turns()

    found = [each.endpoint for _ in range(3) for each in taken(10, turns=turns)]

    assert sorted(found) == sorted(each.pk for each in endpoints)


@pytest.mark.django_db
def test_a_first_attempt_does_not_wait_behind_retries() -> None:
    endpoints = make_endpoints(3)
    make_due(endpoints, 200, lane=Delivery.Lane.RETRY)
    first = make_due(endpoints[:1], 20, at=PAST + MINUTE * 60)

    found = taken(12, each=4)

    assert Counter(each.endpoint for each in found) == dict.fromkeys(
        [each.pk for each in endpoints], 4
    )
    new = {each.pk for each in first} & {each.delivery for each in found}
    # And retries not behind first attempts.
    assert len(new) == 3


@pytest.mark.django_db
def test_a_crowd_that_is_over_is_seen_to_be() -> None:
    endpoints = make_endpoints(2)
    make_due(endpoints, 150)
    turns = Turns()
    seen = []
    while found := taken(100, each=200, turns=turns):
        seen += [each.delivery for each in found]
        assert turns.is_crowded

    assert len(set(seen)) == 300
    assert not turns.is_crowded


@pytest.mark.django_db
def test_an_endpoint_has_a_limit_of_its_own() -> None:
    wide, narrow, usual = make_endpoints(3)
    Endpoint.objects.filter(pk=wide.pk).update(concurrency=20)
    Endpoint.objects.filter(pk=narrow.pk).update(concurrency=1)
    make_due([wide, narrow, usual], 30)

    found = taken(each=3)

    assert Counter(each.endpoint for each in found) == {wide.pk: 20, narrow.pk: 1, usual.pk: 3}
    assert {each.to.limit for each in found} == {20, 1, 3}


@pytest.mark.django_db
def test_an_endpoint_gets_no_more_in_a_second_than_its_rate() -> None:
    rated, slow, free = make_endpoints(3)
    Endpoint.objects.filter(pk=rated.pk).update(rate=100)
    Endpoint.objects.filter(pk=slow.pk).update(rate=0.5)
    make_due([rated, slow, free], 40)

    first = claim(200, using="default", length=MINUTE, each=40, in_air={}, schedule=AT_ONCE)
    second = claim(200, using="default", length=MINUTE, each=40, in_air={}, schedule=AT_ONCE)
    # A second later, by the clock of the database.
    Endpoint.objects.filter(pk=rated.pk).update(rate_from=PAST)
    third = claim(200, using="default", length=MINUTE, each=40, in_air={}, schedule=AT_ONCE)

    counts = [Counter(each.endpoint for each in found.leased) for found in (first, second, third)]
    assert counts[0] == {rated.pk: 10, slow.pk: 1, free.pk: 40}
    # Some time has passed, but less than two seconds.
    assert counts[1][slow.pk] == counts[1][free.pk] == 0
    assert counts[1][rated.pk] <= 10
    assert counts[2][rated.pk] == 10
    assert not first.is_all
    assert first.again_in == timedelta(seconds=1)


@pytest.mark.django_db
def test_the_setting_is_the_rate_of_those_that_have_none() -> None:
    (endpoint,) = make_endpoints(1)
    make_due([endpoint], 5)

    found = claim(10, using="default", length=MINUTE, each=10, in_air={}, schedule=AT_ONCE, rate=1)

    assert len(found.leased) == 1


@pytest.mark.django_db
def test_what_is_sent_by_hand_keeps_to_the_limit() -> None:
    (endpoint,) = make_endpoints(1)
    make_due([endpoint], 5, lane=Delivery.Lane.BY_HAND, is_by_hand=True)

    assert len(taken(each=2)) == 2


@pytest.mark.django_db
def test_what_waits_for_a_disabled_endpoint_is_not_in_the_way() -> None:
    off, on = make_endpoints(2)
    Endpoint.objects.filter(pk=off.pk).update(state="disabled")
    make_due([off], 500)
    make_due([on], 2, at=PAST + MINUTE * 60)

    found = taken()

    assert [each.endpoint for each in found] == [on.pk, on.pk]


@pytest.mark.django_db
@pytest.mark.parametrize("crowd", [0, 150])
def test_e60_one_of_an_object_goes_at_a_time_and_in_order(crowd: int) -> None:
    """E60, E63: the next is due at once when the one before it is settled."""
    (endpoint,) = make_endpoints(1, ordering="object")
    make_due([endpoint], 9, objects=3)
    make_due(make_endpoints(1), crowd)
    turns = Turns()
    heard: dict[int, list[int]] = {}
    for turn in range(6):
        # The crowd is not asked for.
        found = [each for each in taken(200, each=10, turns=turns) if each.endpoint == endpoint.pk]
        objects = Delivery.objects.in_bulk([each.delivery for each in found])
        for each in found:
            heard.setdefault(objects[each.delivery].order_key, []).append(each.sequence)
            # The first of each object fails once: the ones behind it wait, unlike others.
            if turn == 0:
                ended(each, "waiting", wait=timedelta(0) - MINUTE)
            else:
                ended(each)
        if turn in {0, 2}:
            assert len(found) == 3

    assert sorted(heard.values()) == [[1, 1, 2, 3]] * 3


@pytest.mark.django_db
def test_e60_others_flow_while_one_object_waits_for_its_retry() -> None:
    """E60: very many of the object wait, and more than a claim looks at in order."""
    (endpoint,) = make_endpoints(1, ordering="object")
    make_due([endpoint], 400, objects=1)
    (head,) = taken()
    ended(head, "waiting", wait=MINUTE)
    (free,) = make_due([endpoint], 1, at=PAST + MINUTE * 600, objects=1)
    Delivery.objects.filter(pk=free.pk).update(order_key=-5)

    assert [each.delivery for each in taken()] == [free.pk]


@pytest.mark.django_db
@pytest.mark.parametrize("on_dead", ["skip", "block"])
def test_e61_a_dead_delivery_is_skipped_or_blocks_by_choice(on_dead: str) -> None:
    """E61: never a silent change of order."""
    (endpoint,) = make_endpoints(1, ordering="object", on_dead=on_dead)
    first, second = make_due([endpoint], 2, objects=1)
    (head,) = taken()
    ended(head, "dead")

    if on_dead == "block":
        assert taken() == []
        Delivery.objects.filter(pk=first.pk).send_again()
        (again,) = taken()
        assert again.delivery == first.pk
        ended(again, "dead")
        assert taken() == []
        assert Delivery.objects.filter(pk=first.pk).skip() == 1
    assert [each.delivery for each in taken()] == [second.pk]


@pytest.mark.django_db
def test_what_is_sent_again_by_hand_waits_for_nothing() -> None:
    (endpoint,) = make_endpoints(1, ordering="object")
    first, _, _ = make_due([endpoint], 3, objects=1)
    for each in taken():
        ended(each)
    (second,) = taken()
    Delivery.objects.filter(pk=first.pk).send_again()

    assert [each.delivery for each in taken()] == [first.pk]
    assert second.sequence == 2


@pytest.mark.django_db
def test_e66_one_event_for_very_many_endpoints_is_in_memory_once() -> None:
    """E66: one row of the event, and one body for all deliveries that are in hand."""
    make_due(make_endpoints(2000))

    found = taken(500)

    assert Event.objects.count() == 1
    # Where each needs a part of the statement, they are fewer.
    assert len(found) == (500 if connection.vendor == "postgresql" else 200)
    assert len({id(each.body) for each in found}) == 1


def plans(queries: list[dict[str, str]], *, explain: str = "EXPLAIN") -> str:
    found = []
    if connection.vendor == "sqlite":
        explain += " QUERY PLAN"
    for each in queries:
        is_read = each["sql"].startswith(("SELECT", "WITH RECURSIVE"))
        if is_read and "drf_webhooks_delivery" in each["sql"]:
            with connection.cursor() as cursor:
                cursor.execute(f"{explain} {each['sql']}".replace("%", "%%"), None)
                found += [" ".join(map(str, row)) for row in cursor.fetchall()]
    return "\n".join(found)


def analyze(*models: type[Model]) -> None:
    with connection.cursor() as cursor:
        for model in models:
            table = model._meta.db_table
            cursor.execute(f"ANALYZE {'TABLE ' if connection.vendor == 'mysql' else ''}{table}")


# MariaDB commits before it analyzes: what the test has made is to be removed.
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_crowded", [False, True])
def test_e65_settled_rows_cost_a_claim_nothing(is_crowded: bool) -> None:
    """E65: 20 000 of them; each part of a claim goes by an index of what waits."""
    endpoints = make_endpoints(40)
    make_due(endpoints, 500, at=None, state="delivered")
    ordered = make_endpoints(2, ordering="object")
    make_due(endpoints, 5)
    make_due(endpoints[:4], 5, lane=Delivery.Lane.RETRY)
    make_due(ordered, 40, objects=8)
    analyze(Delivery, Event, Endpoint)

    with CaptureQueriesContext(connection) as captured:
        found = taken(turns=Turns(is_crowded=is_crowded))

    assert len(found) == 100
    plan = plans(captured.captured_queries)
    used = {name for name in ("lane", "turn", "order") if f"drf_webhooks_delivery_{name}" in plan}
    assert used >= ({"turn", "order"} if is_crowded else {"lane", "order"})
    for line in plan.splitlines():
        assert "Seq Scan on drf_webhooks_delivery" not in line
        assert "SCAN drf_webhooks_delivery" not in line
    if connection.vendor == "mysql":
        assert " ALL " not in "\n".join(
            x for x in plan.splitlines() if "drf_webhooks_delivery" in x
        )


@pytest.mark.skipif(connection.vendor != "postgresql", reason="it tells how many rows it read")
@pytest.mark.django_db
def test_e58_what_waits_for_one_is_not_walked_past_for_the_others() -> None:
    """E58: the statistics know only the one for which very many wait, as after a night of it."""
    (dead,) = make_endpoints(1)
    make_due([dead], 5000)
    analyze(Delivery)
    others = make_endpoints(20)
    make_due(others, at=PAST + MINUTE * 600)

    with CaptureQueriesContext(connection) as captured:
        found = taken(in_air={dead.pk: 10}, turns=Turns(is_crowded=True))

    assert {each.endpoint for each in found} == {each.pk for each in others}
    plan = plans(captured.captured_queries, explain="EXPLAIN ANALYZE")
    passed_by = re.findall(r"Rows Removed by Filter: (\d+)", plan)
    assert max(map(int, passed_by), default=0) < 100


@pytest.mark.skipif(connection.vendor != "postgresql", reason="it tells how many pages it read")
@pytest.mark.parametrize("is_due", [True, False])
@pytest.mark.django_db
def test_e58_a_claim_reads_the_same_however_much_waits_for_one(is_due: bool) -> None:
    """E58: or is to be sent to it again later. The others have little, and keys on either side."""
    endpoints = sorted(make_endpoints(41), key=lambda each: each.pk)
    busy = endpoints.pop(20)
    later = timedelta(0) if is_due else timedelta(days=100_000)
    pages = []
    for count in (20, 20_000):
        make_due(endpoints, 2)
        analyze(Delivery)
        make_due([busy], count, at=PAST + later)
        with CaptureQueriesContext(connection) as captured:
            found = taken(90, turns=Turns(is_crowded=True))
        assert {each.endpoint for each in found} >= {each.pk for each in endpoints}
        plan = plans(captured.captured_queries, explain="EXPLAIN (ANALYZE, BUFFERS)")
        pages.append(max(int(each) for each in re.findall(r"Buffers: shared hit=(\d+)", plan)))

    # An index of so many is a page deeper.
    assert 0 < pages[1] < 4 * pages[0], pages


@pytest.mark.skipif(connection.vendor != "postgresql", reason="it puts equal entries together")
@pytest.mark.django_db(transaction=True)
def test_e58_what_was_sent_is_not_walked_past_where_all_became_due_at_once() -> None:
    """E58: as after one update of very many objects. Entries that are shared would stay."""
    make_due(make_endpoints(1), 1000, apart=timedelta(0))
    turns = Turns(is_crowded=True)
    for _ in range(8):
        for each in taken(each=100, turns=turns):
            ended(each)

    wait_for_older_transactions()

    for _ in range(2):  # the first one finds out that what was sent is of no use to anybody
        with CaptureQueriesContext(connection) as captured:
            endpoints_in_turn(turns, using="default")
        plan = plans(captured.captured_queries, explain="EXPLAIN ANALYZE")

    fetches = re.findall(r"Heap Fetches: (\d+)", plan)
    assert 0 < max(map(int, fetches)) < 100


def wait_for_older_transactions() -> None:
    """Wait until no transaction is open that began before, in other databases of the server too.

    As long as there is one, PostgreSQL keeps what it could see.
    """
    until = time.monotonic() + 120
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()::text::bigint")
        [now] = cursor.fetchone()
        oldest = 0
        while oldest <= now:
            assert time.monotonic() < until
            cursor.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
            [oldest] = cursor.fetchone()


KEYS = [uuid.UUID(int=number) for number in range(1, 5)]


@given(
    st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 2)), max_size=40),
    st.dictionaries(st.sampled_from(KEYS), st.integers(0, 6)),
    st.integers(1, 12),
    st.sampled_from(KEYS),
)
def test_a_choice_keeps_to_limits_and_leaves_no_room_unused(
    rows: list[tuple[uuid.UUID, int]], room: dict[uuid.UUID, int], limit: int, after: uuid.UUID
) -> None:
    due = [Due(number, endpoint, lane) for number, (endpoint, lane) in enumerate(rows)]
    groups = {key: key.int % 2 for key in KEYS}

    chosen = interleave(due, room, groups, limit=limit, after=after)

    assert len(set(chosen)) == len(chosen) <= limit
    counts = Counter(each.endpoint for each in chosen)
    possible = {
        key: min(room.get(key, 0), sum(each.endpoint == key for each in due)) for key in KEYS
    }
    assert all(counts[key] <= possible[key] for key in KEYS)
    assert len(chosen) == min(limit, sum(possible.values()))
    for key in KEYS:
        mine = [each for each in chosen if each.endpoint == key and each.lane != 1]
        assert (
            mine == [each for each in due if each.endpoint == key and each.lane != 1][: len(mine)]
        )


def make_paused(count: int, **fields: Any) -> list[Endpoint]:
    endpoints = make_endpoints(count, **fields)
    later = timezone.now() + MINUTE * 60
    EndpointHealth.objects.bulk_create(
        EndpointHealth(endpoint=each, is_clean=False, paused_until=later, ramp=1)
        for each in endpoints
    )
    return endpoints


def claimed(turns: Turns) -> Claim:
    return claim(
        10, using="default", length=MINUTE, each=10, in_air={}, turns=turns, schedule=AT_ONCE
    )


@pytest.mark.django_db
@pytest.mark.parametrize("crowd", [0, 150])
def test_what_a_person_asks_for_waits_for_no_pause_and_no_crowd(crowd: int) -> None:
    (paused,), (off,) = make_paused(1), make_endpoints(1, state="disabled")
    make_due(make_endpoints(3), 5, at=PAST - MINUTE)
    make_due([paused], 3 + crowd)
    make_due([off], 3 + crowd)
    chosen = [Delivery.objects.filter(endpoint=each).latest("pk").pk for each in (paused, off)]
    Delivery.objects.filter(pk__in=chosen).send_again(by_hand=True, to_disabled=True)
    turns = Turns()

    found = taken(6, turns=turns)

    assert {each.delivery for each in found[:2]} == set(chosen)
    assert all(each.standing.is_by_hand for each in found[:2])
    assert not any(each.standing.is_by_hand for each in found[2:])
    assert len(found) == 6
    assert turns.is_crowded == bool(crowd)


@pytest.mark.django_db
def test_one_sent_by_hand_keeps_its_place_among_those_of_its_object() -> None:
    endpoint, crowded = make_endpoints(2, ordering="object")
    make_due([crowded], 150)
    first, second = make_due([endpoint], 2, objects=1)
    Delivery.objects.filter(pk=second.pk).send_again(by_hand=True)

    found = [each for each in taken(100, each=10) if each.endpoint == endpoint.pk]
    assert [each.delivery for each in found] == [first.pk]

    ended(found[0])
    (next_one,) = (each for each in taken(100, each=10) if each.endpoint == endpoint.pk)
    assert (next_one.delivery, next_one.standing.is_by_hand) == (second.pk, True)


@pytest.mark.django_db
@pytest.mark.parametrize("crowd", [0, 150])
def test_an_endpoint_that_recovers_has_one_round_at_a_time_in_a_crowd_too(crowd: int) -> None:
    recovering, well = make_endpoints(2)
    EndpointHealth.objects.create(endpoint=recovering, is_clean=False, ramp=2)
    make_due([recovering, well], 5 + crowd)
    turns = Turns()

    found = Counter(each.endpoint for _ in range(2) for each in taken(8, turns=turns, each=4))

    assert found[recovering.pk] == 2
    assert EndpointHealth.objects.get().round_left == 2
    assert found[well.pk] >= 4


@pytest.mark.django_db
@pytest.mark.parametrize("count", [3, 9])
def test_a_claim_says_that_what_waits_for_pauses_is_not_to_be_waited_for(count: int) -> None:
    make_due(make_paused(count) + make_endpoints(count, state="disabled"), 150)
    turns = Turns(visits=4)

    found = [claimed(turns) for _ in range(6)]

    assert not any(each.leased for each in found)
    assert any(each.is_all for each in found)
    # What comes then is found, wherever in the round its endpoint is.
    (new,) = make_due(make_endpoints(1))
    more = [each.delivery for _ in range(6) for each in claimed(turns).leased]
    assert more == [new.pk]


@pytest.mark.django_db
@pytest.mark.parametrize(("on_dead", "goes_on"), [("skip", True), ("block", False)])
def test_a_lost_worker_that_ends_a_delivery_ends_its_turn(on_dead: str, *, goes_on: bool) -> None:
    (endpoint,) = make_endpoints(1, ordering="object", on_dead=on_dead)
    first, second = make_due([endpoint], 2, objects=1)
    lost = {"due_at": PAST, "leased_at": PAST, "fence": 3}
    Delivery.objects.filter(pk=first.pk).update(**lost, attempt_count=8)

    (again,) = taken()
    assert (again.delivery, again.attempt_count, again.fence) == (first.pk, 9, 4)

    Delivery.objects.filter(pk=first.pk).update(**lost)
    assert taken() == []
    first.refresh_from_db()
    assert (first.state, first.attempt_count, first.leased_at) == ("dead", 10, None)
    assert [each.delivery for each in taken()] == ([second.pk] if goes_on else [])
    assert [each.error for each in first.attempts.order_by("number")] == ["worker_lost"] * 2


@pytest.mark.django_db
def test_a_claim_that_finds_no_lost_worker_opens_no_transaction() -> None:
    make_due(make_endpoints(2), 3)

    with CaptureQueriesContext(connection) as queries:
        assert len(taken()) == 6

    texts = [each["sql"] for each in queries.captured_queries]
    assert not any("worker_lost" in each or "endpointhealth SET" in each for each in texts)
    if connection.vendor == "postgresql":
        assert len(texts) == 4
