"""The oracle's table: every kind of write to every kind of relation, judged by all forms.

``ORACLE=2/3`` runs the second third of it; ``make oracle`` the whole table.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import ProtectedError

from drf_webhooks import pipeline
from drf_webhooks.models import Endpoint, Event
from drf_webhooks.registry import registry
from drf_webhooks.transactions import log_of
from tests.bookshop import operations, resources, world
from tests.oracle import Verdict, forms, judge, quietly, said_since

pytestmark = [pytest.mark.django_db, pytest.mark.oracle]

Table = dict[str, Callable[[int], Any]]


def grouped() -> dict[str, Table]:
    """Return the table in parts, by what is written."""
    part, parts = map(int, os.environ.get("ORACLE", "1/8").split("/"))
    groups: dict[str, Table] = defaultdict(dict)
    for name, act in [*operations.table().items()][part - 1 :: parts]:
        groups[name.split(" ")[0]][name] = act
    return groups


@pytest.fixture(autouse=True)
def _bookshop(everything: Endpoint) -> Iterator[None]:
    with registry.isolated():
        with quietly():
            world.make()
        yield


def attempted(act: Callable[[int], Any], number: int) -> None:
    """Do what the database may refuse: then nothing has happened."""
    try:
        with transaction.atomic():
            act(number)
    except (IntegrityError, ProtectedError):
        return


def judged(table: Table, record_property: Any) -> dict[str, Verdict]:
    """Judge each operation from the same start."""
    verdicts = {}
    before = forms()
    for name, act in table.items():
        with transaction.atomic():
            verdicts[name] = judge(lambda act=act: attempted(act, 1), before)
            transaction.set_rollback(True)
    Verdict.record(list(verdicts.values()), record_property)
    return verdicts


@pytest.mark.parametrize("compares", [False, True], ids=["plain", "skip_unchanged"])
@pytest.mark.parametrize("table", [pytest.param(each, id=name) for name, each in grouped().items()])
def test_what_alters_a_form_is_said(table: Table, *, compares: bool, record_property: Any) -> None:
    resources.declare(skip_unchanged=compares)

    verdicts = judged(table, record_property)

    assert {name: each.missed for name, each in verdicts.items() if each.missed} == {}
    assert {name: each.wrong for name, each in verdicts.items() if each.wrong} == {}
    if compares:
        assert {name: each.spurious for name, each in verdicts.items() if each.spurious} == {}


@pytest.mark.skipif(connection.vendor == "sqlite", reason="it looks at nothing again")
def test_what_is_not_to_be_said_is_not_said_by_a_second_look() -> None:
    resources.declare()
    for resource in registry:
        resource.trigger(resource.get_queryset().all(), "updated")
    echoes = {}
    for table in grouped().values():
        for name, act in table.items():
            with transaction.atomic():
                Event.objects.update(recheck_at=Event.objects.first().created_at)
                known = set(Event.objects.values_list("pk", flat=True))
                with quietly():
                    attempted(act, 1)
                log_of("default").before_commit()()
                pipeline.recheck_due()
                echoes[name] = said_since(known)
                transaction.set_rollback(True)

    assert echoes
    assert {name: each for name, each in echoes.items() if each} == {}
