"""Before and after: what had to be said of a change, by looking at every object's form.

Missed events and wrong payloads must never be; spurious ones are counted.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from django.db import connection
from rest_framework.utils.encoders import JSONEncoder

from drf_webhooks.changes import object_key
from drf_webhooks.models import Event
from drf_webhooks.registry import registry
from drf_webhooks.session import disable_webhooks, webhook_signal_session
from tests.bookshop.resources import PREFETCH

Forms = dict[tuple[str, str], Any]
Tables = dict[str, Any]

#: What each resource was last found to be, and the rows of all tables that it was read from.
_found: WeakKeyDictionary[Any, tuple[Forms, Tables]] = WeakKeyDictionary()

_NAMES = re.compile(r"""["`](\w+)["`]""")


@dataclass
class Verdict:
    """How what was said compares with what had to be said."""

    missed: list[Any] = field(default_factory=list)
    wrong: list[Any] = field(default_factory=list)
    spurious: list[Any] = field(default_factory=list)
    said: list[Any] = field(default_factory=list)
    #: What the bookshop executed, besides the change itself.
    statements: int = 0

    @staticmethod
    def record(
        verdicts: "list[Verdict]", record_property: Callable[[str, Any], None], what: str = "cases"
    ) -> None:
        """Hand the totals to the summary at the end of the run."""
        record_property(
            "oracle",
            {
                what: len(verdicts),
                "missed": sum(len(each.missed) for each in verdicts),
                "wrong": sum(len(each.wrong) for each in verdicts),
                "spurious": sum(len(each.spurious) for each in verdicts),
                "said": sum(len(each.said) for each in verdicts),
                "statements": sum(each.statements for each in verdicts),
            },
        )


def forms() -> Forms:
    """Serialize every base object of every resource from fresh rows.

    A resource whose statements would find the same rows as the last time is not asked again.
    """
    found: Forms = {}
    tables = _tables()
    for resource in registry:
        known, read = _found.get(resource, ({}, None))
        if read is None or any(tables[name] != rows for name, rows in read.items()):
            names: set[str] = set()
            with connection.execute_wrapper(_naming(names)):
                known = _forms_of(resource)
            _found[resource] = known, {name: tables[name] for name in names & tables.keys()}
        found |= known
    return found


def _forms_of(resource: Any) -> Forms:
    context = {"request": None, **resource.get_serializer_context()}
    # One for all objects, as a list view does it: to make one costs more than to use it.
    serializer = resource.serializer_class(context=context)
    prefetch = PREFETCH.get(resource.base_name, [])
    found: Forms = {}
    for instance in resource.get_queryset().prefetch_related(*prefetch):
        form = json.dumps(serializer.to_representation(instance), cls=JSONEncoder)
        found[resource.base_name, object_key(instance.pk)] = json.loads(form)
    return found


def _tables() -> Tables:
    """Return the rows of all tables but ours."""
    found: Tables = {}
    with connection.cursor() as cursor:
        for name in _table_names(connection.settings_dict["NAME"]):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(name)}")  # noqa: S608  # our own tables
            found[name] = cursor.fetchall()
    return found


@cache
def _table_names(database: str) -> list[str]:
    return [each for each in connection.introspection.table_names() if not each.startswith("drf_")]


def _naming(names: set[str]) -> Any:
    """Note which tables statements name."""

    def note(execute: Any, sql: Any, *arguments: Any) -> Any:
        names.update(_NAMES.findall(str(sql)))
        return execute(sql, *arguments)

    return note


def judge(change: Callable[[], Any], before: Forms | None = None) -> Verdict:
    """Make a change in one session and compare what was said with what had to be said.

    Args:
        change: What is judged.
        before: All forms before it, if they are known.

    """
    verdict = Verdict()
    before = forms() if before is None else before
    with recorded(verdict):
        change()
    return compared(verdict, before, forms())


def compared(verdict: Verdict, before: Forms, after: Forms) -> Verdict:
    """Compare what was said with what had to be said."""
    said = {(name, key): (operation, data) for name, key, operation, data in verdict.said}
    if len(said) != len(verdict.said):
        verdict.wrong.append(("said more than once", verdict.said))
    for subject in {*before, *after}:
        expected = _expected(before.get(subject), after.get(subject))
        found = said.pop(subject, None)
        if expected is None:
            if found is not None:
                verdict.spurious.append((subject, found[0]))
        elif found is None:
            verdict.missed.append((subject, expected))
        elif found[0] != expected or (expected != "deleted" and found[1] != after[subject]):
            verdict.wrong.append((subject, expected, after.get(subject), found))
    verdict.wrong += [("of nothing", each) for each in said.items()]
    return verdict


@contextmanager
def recorded(verdict: Verdict) -> Iterator[None]:
    """Note the final events that one session writes."""
    known = set(Event.objects.values_list("pk", flat=True))
    with webhook_signal_session(), connection.execute_wrapper(_counting(verdict)):
        yield
    verdict.said = said_since(known)


def said_since(known: set[Any]) -> list[Any]:
    """Return the final events that were written since some were known."""
    return [
        (each.resource, each.object_key, each.type.rpartition(".")[2], each.data)
        for each in Event.objects.filter(held_until=None).exclude(pk__in=known)
    ]


def _counting(verdict: Verdict) -> Any:
    """Count statements of ours: those that touch our tables."""

    def count(execute: Any, sql: Any, *arguments: Any) -> Any:
        verdict.statements += "drf_webhooks" in str(sql)
        return execute(sql, *arguments)

    return count


@contextmanager
def quietly() -> Iterator[None]:
    """Make objects that the change to be judged starts from."""
    with disable_webhooks():
        yield


def _expected(before: Any, after: Any) -> str | None:
    if before is None:
        return "created"
    if after is None:
        return "deleted"
    return None if before == after else "updated"
