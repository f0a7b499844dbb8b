"""What is to be said, in its order: of what changed, what somebody wants to hear."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache

from drf_webhooks import subscriptions
from drf_webhooks.changes import Changes, Form, Operation, Subject
from drf_webhooks.event_types import Interest
from drf_webhooks.recording import Entry
from drf_webhooks.tracing.paths import Resource
from drf_webhooks.tracing.resolver import CHUNK, resolve

__all__ = ["batches", "entries_of", "is_heard", "is_wanted", "ordered"]


def entries_of(
    changes: Changes, using: str, interest: Interest, forms: Mapping[Subject, Form]
) -> list[Entry]:
    """Return what is to be said and what somebody wants to hear, in order."""

    @cache
    def is_asked_for(resource: Resource) -> bool:
        return is_wanted(resource, using, interest)

    said = resolve(changes, using, is_wanted=is_asked_for)
    entries = [
        Entry(subject[0], noted.pk, noted.operation, noted.found, before=forms.get(subject))
        for subject, noted in said.items()
        if noted.operation is not None
    ]
    # What is compared may turn out to be created or deleted.
    entries = [each for each in entries if _may_turn(each) or each.resource.emits(each.operation)]
    entries += _customs(changes)
    wanted = {
        kind
        for kind, resource in {each.type: each.resource for each in entries}.items()
        if is_heard(resource, [kind], using, interest)
    }
    return ordered([each for each in entries if _may_turn(each) or each.type in wanted])


def _may_turn(entry: Entry) -> bool:
    return entry.before is not None and entry.resource.is_compared()


def _customs(changes: Changes) -> Iterator[Entry]:
    for each in changes.emitted:
        entry = Entry(each.resource, each.pk, Operation.UPDATED, custom=each.name, extra=each.extra)
        noted = changes.bases.get((each.resource, entry.key))
        # Of an object that is deleted: who owned it.
        yield entry if noted is None else replace(entry, found=noted.found)


def ordered(entries: list[Entry]) -> list[Entry]:
    """Put the custom events of an object after what else is said of it, but for its end."""
    if not any(each.custom for each in entries):
        return entries
    ends = [each for each in entries if each.is_deletion]
    customs = Counter((each.resource, each.key) for each in entries if each.custom)
    return [
        *(each for each in entries if not (each.custom or each.is_deletion)),
        *(each for each in entries if each.custom),
        *(replace(each, ahead=customs[each.resource, each.key]) for each in ends),
    ]


def is_wanted(resource: Resource, using: str, interest: Interest) -> bool:
    """Tell whether anybody subscribes to anything that a resource says."""
    return is_heard(resource, resource.event_types(), using, interest)


def is_heard(resource: Resource, types: list[str], using: str, interest: Interest) -> bool:
    return bool(subscriptions.wanted(types, using, interest, is_shared=not resource.is_scoped()))


def batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Cut entries into lots of bounded size in which each object is named once.

    What else is said of an object comes in a later lot, with that of all others.
    """
    rounds: dict[int, list[Entry]] = defaultdict(list)
    seen: Counter[Subject] = Counter()
    for entry in entries:
        subject = (entry.resource, entry.key)
        rounds[seen[subject]].append(entry)
        seen[subject] += 1
    for some in rounds.values():
        for start in range(0, len(some), CHUNK):
            yield some[start : start + CHUNK]
