"""What another program does, judged by the oracle: its table, with nothing seen but by triggers."""

from typing import Any

import pytest
from django.apps import apps
from django.db import connection, transaction
from django.db.migrations.state import ProjectState

from drf_webhooks.contrib.triggers.journal import monitored, relay
from drf_webhooks.contrib.triggers.operations import CaptureRows
from drf_webhooks.models import Endpoint, Event
from drf_webhooks.registry import registry
from tests.bookshop import resources, world
from tests.oracle import Forms, Verdict, compared, forms, quietly, said_since
from tests.tracing.test_oracle import attempted, grouped

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.oracle,
    pytest.mark.skipif(connection.vendor != "postgresql", reason="triggers are for PostgreSQL"),
]


def capture() -> None:
    state = ProjectState.from_apps(apps)
    with connection.schema_editor(atomic=False) as editor:
        for model in monitored():
            operation = CaptureRows(model._meta.object_name)
            operation.database_forwards(model._meta.app_label, editor, state, state)


def judged(act: Any, before: Forms) -> Verdict:
    """Let nobody but the triggers see a change; then let the worker say what they saw."""
    verdict = Verdict()
    known = set(Event.objects.values_list("pk", flat=True))

    def committed(number: int) -> None:
        act(number)
        # What a commit would refuse.
        connection.check_constraints()

    with quietly():
        attempted(committed, 1)
    relay()
    verdict.said = said_since(known)
    return compared(verdict, before, forms())


def test_what_another_program_does_is_said(everything: Endpoint, record_property: Any) -> None:
    verdicts: dict[str, Verdict] = {}
    with registry.isolated():
        resources.declare()
        capture()
        with quietly():
            world.make()
        relay()
        before = forms()
        for table in grouped().values():
            for name, act in table.items():
                with transaction.atomic():
                    verdicts[name] = judged(act, before)
                    transaction.set_rollback(True)
    Verdict.record([*verdicts.values()], record_property)

    assert {name: each.missed for name, each in verdicts.items() if each.missed} == {}
    assert {name: each.wrong for name, each in verdicts.items() if each.wrong} == {}
