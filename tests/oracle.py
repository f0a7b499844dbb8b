"""Before and after: what had to be said of a change, by looking at every object's form.

Missed events and wrong payloads must never be; spurious ones are counted.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rest_framework.utils.encoders import JSONEncoder

from drf_webhooks.changes import object_key
from drf_webhooks.models import Event
from drf_webhooks.registry import registry
from drf_webhooks.session import disable_webhooks, webhook_signal_session

Forms = dict[tuple[str, str], Any]


@dataclass
class Verdict:
    """How what was said compares with what had to be said."""

    missed: list[Any] = field(default_factory=list)
    wrong: list[Any] = field(default_factory=list)
    spurious: list[Any] = field(default_factory=list)
    said: list[Any] = field(default_factory=list)


def forms() -> Forms:
    """Serialize every base object of every resource from fresh rows."""
    return {
        (resource.base_name, object_key(instance.pk)): json.loads(
            json.dumps(
                resource.serializer_class(
                    instance, context={"request": None, **resource.get_serializer_context()}
                ).data,
                cls=JSONEncoder,
            )
        )
        for resource in registry
        for instance in resource.get_queryset()
    }


def judge(change: Callable[[], Any]) -> Verdict:
    """Make a change in one session and compare what was said with what had to be said."""
    verdict = Verdict()
    before = forms()
    with recorded(verdict):
        change()
    after = forms()
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
    with webhook_signal_session():
        yield
    verdict.said = [
        (each.resource, each.object_key, each.type.rpartition(".")[2], each.data)
        for each in Event.objects.filter(held_until=None).exclude(pk__in=known)
    ]


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
