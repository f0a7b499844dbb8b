"""Second looks at objects: what was missed when two transactions did not see each other's part."""

from collections import defaultdict
from dataclasses import replace
from typing import Any, cast

from drf_webhooks import history, payloads, waiting
from drf_webhooks.changes import Changes, Form, Key, Operation
from drf_webhooks.entries import is_heard
from drf_webhooks.event_types import Interest
from drf_webhooks.json_text import encode
from drf_webhooks.models import Event
from drf_webhooks.recording import Entry
from drf_webhooks.registry import registry
from drf_webhooks.tracing.paths import Path
from drf_webhooks.tracing.resolver import CHUNK, resolve

__all__ = ["differing", "withdraw"]


def differing(events: list[Event], using: str, interest: Interest) -> list[Entry]:
    """Return what would have to be said if objects differ from what was last said of them."""
    last: dict[tuple[str, str], dict[Any, Event]] = {}
    for event in sorted(events, key=lambda each: each.sequence or 0):
        said = last.setdefault((event.resource, event.object_key), {})
        if any(each.sequence != event.sequence for each in said.values()):
            said.clear()
        if event.body is not None:
            said[event.owner_id] = event
    kept = history.forms_of([each for said in last.values() for each in said.values()], using)
    entries = []
    for (name, key), said in last.items():
        resource = registry.get(name)
        if resource is None or not said or not resource.emits(Operation.UPDATED):
            continue
        if not is_heard(resource, [resource.event_type(Operation.UPDATED)], using, interest):
            continue
        form = Form(
            {
                owner: {version: encode(data) for version, data in kept[each].items()}
                for owner, each in said.items()
            },
            next(iter(said.values())).sequence,
        )
        pk = payloads.primary_key(resource.model, key)
        # The same chain goes on, though nobody's own change does.
        depth = max(each.depth for each in said.values())
        entries.append(
            Entry(
                resource,
                pk,
                Operation.UPDATED,
                before=form,
                is_recheck=True,
                origin={"depth": depth},
            )
        )
    since = history.customs_since(
        {(each.resource, each.key): each.before.sequence or 0 for each in entries if each.before},
        using,
    )
    return [replace(each, ahead=since.get((each.resource, each.key), 0)) for each in entries]


def withdraw(changes: Changes, using: str) -> None:
    """Leave out second looks at objects that changed and are not to be said."""
    nested = cast("dict[Path, Any]", changes.nested)
    resources = {path.resource for path in nested} | changes.whole
    resources |= {resource for resource, _ in changes.bases}
    names = waiting.rechecked([each.base_name for each in resources], using)
    whole = [each.base_name for each in changes.whole if each.base_name in names]
    waiting.withdraw(whole, None, using)
    left = names - set(whole)
    keys: dict[str, list[Key]] = defaultdict(list)
    for resource, key in resolve(changes, using, is_wanted=lambda each: each.base_name in left):
        keys[resource.base_name].append(key)
    for name, found in keys.items():
        for start in range(0, len(found), CHUNK):
            waiting.withdraw([name], found[start : start + CHUNK], using)
