"""Programs of any writes, in any sessions and transactions, with rollbacks: judged by the oracle.

``ORACLE_PROGRAMS`` is how many each test runs, over a quarter of the resources.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import ProtectedError
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from drf_webhooks.models import BaseObject, Endpoint, Event
from drf_webhooks.registry import registry
from drf_webhooks.session import disable_webhooks, webhook_signal_session
from tests.bookshop import operations, resources, world
from tests.oracle import Forms, Verdict, compared, forms, quietly, said_since

pytestmark = pytest.mark.oracle

PROGRAMS = int(os.environ.get("ORACLE_PROGRAMS", "8"))
TABLE = operations.table()


class UndoneError(Exception):
    """Raised by a program to have a block rolled back."""


#: One write: what, and to which row. Rare kinds are as likely as frequent ones.
WRITES = st.tuples(
    st.sampled_from(sorted({name.split(" ")[0] for name in TABLE})),
    st.integers(0, 11),
    st.integers(0, 4),
)

#: A block of writes and blocks, and whether it is rolled back.
BLOCKS = st.recursive(
    st.lists(WRITES, min_size=1, max_size=3),
    lambda inner: st.tuples(st.lists(inner, min_size=1, max_size=3), st.booleans()),
    max_leaves=4,
)

#: How a unit of work is run, and its blocks: each block that is no list is a transaction.
UNITS = st.tuples(
    st.sampled_from(["session", "one transaction", "implicit", "session in a transaction"]),
    st.lists(BLOCKS, min_size=1, max_size=2),
)

PROGRAM = st.lists(UNITS, min_size=1, max_size=3)


def write(kind: str, number: int, row: int) -> None:
    """Do one of the writes of a kind; what the database refuses has not happened."""
    names = [name for name in TABLE if name.split(" ")[0] == kind]
    name = names[number % len(names)]
    try:
        with transaction.atomic():
            TABLE[name](row)
    except (IntegrityError, ProtectedError):
        return


def run(block: Any) -> None:
    """Run a block of a program."""
    if isinstance(block, list):
        for kind, number, row in block:
            write(kind, number, row)
        return
    inner, is_undone = block
    try:
        with transaction.atomic():
            for each in inner:
                run(each)
            if is_undone:
                raise UndoneError  # noqa: TRY301  # how a program undoes a block
    except UndoneError:
        return


def units(kind: str, blocks: list[Any]) -> Iterator[Callable[[], None]]:
    """Give the parts of a unit of work, of each of which one thing is said."""

    def all_of_them() -> None:
        for each in blocks:
            run(each)

    def in_a_transaction(act: Callable[[], None]) -> None:
        with transaction.atomic():
            act()

    def in_a_session() -> None:
        with webhook_signal_session():
            all_of_them()

    if kind == "session":
        yield in_a_session
    elif kind == "session in a transaction":
        yield lambda: in_a_transaction(in_a_session)
    elif kind == "one transaction":
        yield lambda: in_a_transaction(all_of_them)
    else:
        for each in blocks:
            yield lambda each=each: in_a_transaction(lambda: run(each))


def judged(act: Callable[[], None], before: Forms) -> tuple[Verdict, Forms]:
    """Run a unit and compare; return the forms after it too."""
    verdict = Verdict()
    known = set(Event.objects.values_list("pk", flat=True))
    # What the database checks at the commit alone may undo it.
    with suppress(IntegrityError):
        act()
    verdict.said = said_since(known)
    after = forms()
    return compared(verdict, before, after), after


def clear() -> None:
    """Empty the tables of the bookshop."""
    with disable_webhooks(), transaction.atomic():
        tables = [model._meta.db_table for model in operations.MODELS if not model._meta.proxy]
        tables += [
            field.remote_field.through._meta.db_table
            for model in operations.MODELS
            for field in model._meta.local_many_to_many
        ]
        tables += [Event._meta.db_table, BaseObject._meta.db_table]
        with connection.cursor() as cursor, connection.constraint_checks_disabled():
            cursor.execute("DELETE FROM drf_webhooks_delivery")
            for table in dict.fromkeys(tables):
                cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)}")  # noqa: S608  # our own tables
            for table in ("core_user_groups", "core_user", "auth_group"):
                cursor.execute(f"DELETE FROM {table}")  # noqa: S608  # our own tables


def explore(totals: Counter[str], *, number: int, compares: bool) -> None:
    """Run programs until one is judged wrong, or there are enough."""

    @seed(number)
    @settings(
        max_examples=PROGRAMS,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(PROGRAM)
    def programs(program: Any) -> None:
        totals["programs"] += 1
        with quietly():
            world.make()
        try:
            found = forms()
            for kind, blocks in program:
                for act in units(kind, blocks):
                    verdict, found = judged(act, found)
                    for name in ("missed", "wrong", "spurious", "said"):
                        totals[name] += len(getattr(verdict, name))
                    assert verdict.missed == []
                    assert verdict.wrong == []
                    assert not compares or verdict.spurious == []
        finally:
            clear()

    programs()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("compares", [False, True], ids=["plain", "skip_unchanged"])
@pytest.mark.parametrize("number", range(4))
def test_programs(
    everything: Endpoint, *, number: int, compares: bool, record_property: Any
) -> None:
    totals: Counter[str] = Counter()
    with registry.isolated():
        resources.declare(number, parts=4, skip_unchanged=compares)
        try:
            explore(totals, number=number, compares=compares)
        finally:
            record_property("oracle", dict(totals))


def test_the_strategies_reach_every_kind_of_write() -> None:
    kinds: set[str] = set()

    @settings(max_examples=400, deadline=None, database=None, derandomize=True)
    @given(WRITES)
    def drawn(each: tuple[str, int, int]) -> None:
        kinds.add(each[0])

    drawn()
    assert len(kinds) > 50
