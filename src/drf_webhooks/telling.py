"""Decide what is said of objects to which audience: load, compare, and ask conditions."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

from django.db import DatabaseError

from drf_webhooks import history, payloads, subscriptions, versions
from drf_webhooks.changes import Form, Found, Key, Operation, Subject, object_key
from drf_webhooks.differences import FormChange, differs, previous
from drf_webhooks.event_types import Interest, Way
from drf_webhooks.exceptions import PayloadError
from drf_webhooks.json_text import encode
from drf_webhooks.messages import needed, with_extra
from drf_webhooks.tracing.paths import Resource

__all__ = ["Entry", "Told", "told"]


# Compared by identity: forms are no keys.
@dataclass(frozen=True, eq=False)
class Entry:
    """One thing to say: of which object, what, and what was kept for saying it."""

    resource: Resource
    pk: Any
    #: What happened to the object; of a custom event it says nothing.
    operation: Operation
    found: tuple[Found, ...] | None = None
    event: Any = None
    session: Any = None
    #: How it looked before, if that is compared.
    before: Form | None = None
    #: The trace of the change, if it is not that of what is done now.
    traceparent: str = ""
    #: Where the change comes from, if it was stored before: the columns of the event.
    origin: Mapping[str, Any] | None = None
    #: Whether it is only said if the object differs from what was last said of it.
    is_recheck: bool = False
    #: The name of a custom event, and what is said in it besides the form.
    custom: str = ""
    extra: bytes | None = None
    #: How many custom events of its object have got a number since ``before``.
    ahead: int = 0

    @cached_property
    def key(self) -> Key:
        """The primary key as text."""
        return object_key(self.pk)

    @property
    def name(self) -> str:
        """The last part of the event's type."""
        return self.custom or self.operation

    @cached_property
    def type(self) -> str:
        """The event's type."""
        return self.resource.event_type(self.name)

    @property
    def is_deletion(self) -> bool:
        """Whether it says that the object is gone."""
        return self.operation is Operation.DELETED and not self.custom

    @property
    def is_deferred(self) -> bool:
        """Whether the worker serializes it."""
        return self.resource.serialize == "deferred" and not self.is_deletion

    @property
    def may_be_silent(self) -> bool:
        """Whether it may turn out that nothing is said, and no number used."""
        return bool(self.before or self.custom or self.resource.has_condition())


#: Writes a form in one version.
Writer = Callable[[str], bytes]


@dataclass(frozen=True)
class Told:
    """What is said to one audience.

    ``write`` raises ``PayloadError`` if that cannot be said.
    """

    entry: Entry
    owner: Any
    instance: Any
    write: Writer
    ways: set[Way]
    #: The form before, by version, as far as it is known.
    before: Mapping[str, Any] = field(default_factory=dict)

    @property
    def versions(self) -> list[str]:
        """The versions in which it has to be written, the oldest first."""
        return needed(self.entry.resource, self.ways)

    def previous(self, version: str) -> bytes | None:
        """Return ``previous_attributes`` as JSON, or ``None`` if there are none to tell."""
        if version not in self.before:
            return None
        return encode(previous(self.before[version], json.loads(self.write(version))))


@dataclass
class _Rows:
    """Base objects as they are now, by who writes them."""

    loaded: dict[tuple[Subject, Any], payloads.Loaded] = field(default_factory=dict)
    #: Of which there is no row at all, as far as that was asked.
    gone: set[Subject] = field(default_factory=set)

    def of(self, entry: Entry) -> payloads.Loaded | None:
        return self.loaded.get(((entry.resource, entry.key), _writer(entry)))


def told(entries: list[Entry], using: str, interest: Interest) -> Iterator[Told]:
    """Give each entry once for each audience that is to hear of it."""
    rows = _load(entries, using)
    settled = [_settled(each, rows.of(each)) for each in entries]
    entries = [each for each in settled if each is not None]
    heard = _heard(entries, rows, using)
    said = history.last_said(
        {
            (each.resource, each.key)
            for each in entries
            if each.resource.previous_attributes and each.name == Operation.UPDATED
        },
        using,
    )

    @cache
    def shared_ways(event_type: str) -> set[Way]:
        return subscriptions.ways(event_type, using, interest)

    for entry in entries:
        row = rows.of(entry)
        shared: Writer | None = None
        for found in _audiences(entry, rows):
            owner = found.owners[0]
            key = payloads.owner_key(owner)
            if not entry.resource.is_scoped():
                ways = shared_ways(entry.type)
            elif key in heard[entry.resource]:
                ways = heard[entry.resource][key]
            else:
                continue
            if shared is None or found.data is not None or entry.resource.is_addressed():
                shared = _maker(entry, row, found)
            one = Told(entry, owner, row and row.instance, shared, ways)
            if _is_news(one, key):
                write = _asked(one, key)
                if write is not None:
                    yield replace(one, write=write, before=_before(one, key, said))
        if _is_orphan(entry, rows):
            # To nobody: it has no message.
            yield Told(entry, None, None, _without_owner, set())


def _without_owner(version: str) -> bytes:
    del version
    msg = "The object is gone, and who owned it is not known."
    raise PayloadError(msg)


def _load(entries: Iterable[Entry], using: str) -> _Rows:
    rows = _Rows()
    groups: dict[tuple[Resource, Any], list[Entry]] = defaultdict(list)
    for entry in entries:
        if _needs_row(entry):
            groups[entry.resource, _writer(entry)].append(entry)
    for (resource, writer), some in groups.items():
        loaded = payloads.load(resource, [each.pk for each in some], using, writer=writer)
        rows.loaded |= {((resource, key), writer): row for key, row in loaded.items()}
        lost = {each.key: each.pk for each in some if each.custom and each.key not in loaded}
        if lost:
            objects = resource.model._base_manager.using(using)
            there = objects.filter(pk__in=list(lost.values())).values_list("pk", flat=True)
            rows.gone |= {(resource, key) for key in lost.keys() - set(map(object_key, there))}
    return rows


def _writer(entry: Entry) -> Any:
    """Return the serializer of a custom event, if it is not the resource's own."""
    return entry.resource.events.get(entry.custom)


def _needs_row(entry: Entry) -> bool:
    if not entry.is_deletion:
        return True
    asks = entry.resource.is_scoped() or entry.resource.deleted_payload == "full"
    return entry.found is None and asks


def _settled(entry: Entry, row: payloads.Loaded | None) -> Entry | None:
    """Let an object that was not there before be created, and one that is gone deleted."""
    is_compared = entry.resource.is_compared() or entry.is_recheck
    if entry.before is None or entry.custom or not is_compared:
        return entry if entry.custom or entry.resource.emits(entry.operation) else None
    was_there = entry.before.data is not None
    if entry.operation is Operation.DELETED:
        return entry if was_there else None
    if row is None:
        if entry.before.data is None or entry.is_recheck:
            return None
        is_whole = entry.resource.deleted_payload == "full"
        found = tuple(
            Found((owner,), data if is_whole else None) for owner, data in entry.before.data.items()
        )
        entry = replace(entry, operation=Operation.DELETED, found=found)
    elif not was_there:
        entry = replace(entry, operation=Operation.CREATED)
    return entry if entry.resource.emits(entry.operation) else None


def _audiences(entry: Entry, rows: _Rows) -> tuple[Found, ...]:
    row = rows.of(entry)
    if entry.is_deletion and entry.found is not None:
        return entry.found
    if row is not None:
        return tuple(Found((owner,)) for owner in row.owners)
    if entry.custom and (entry.resource, entry.key) in rows.gone and entry.found is not None:
        return entry.found
    is_gone = entry.is_deletion or (entry.resource, entry.key) in rows.gone
    if is_gone and not entry.resource.is_scoped():
        return (Found((None,)),)
    # Gone meanwhile, left out by get_queryset(), or deleted unseen with its owner unknown.
    return ()


def _is_orphan(entry: Entry, rows: _Rows) -> bool:
    """Tell whether a custom event can be told to nobody, because its object is gone."""
    is_gone = bool(entry.custom) and (entry.resource, entry.key) in rows.gone
    return is_gone and entry.found is None and entry.resource.is_scoped()


def _maker(entry: Entry, row: payloads.Loaded | None, found: Found) -> Writer:
    @cache
    def write(version: str) -> bytes:
        return with_extra(_form(entry, row, found, version), entry.extra)

    return write


def _form(entry: Entry, row: payloads.Loaded | None, found: Found, version: str) -> bytes:
    if found.data is not None and version in found.data:
        return found.data[version]
    if row is None or (entry.is_deletion and entry.resource.deleted_payload == "key"):
        return payloads.key_data(entry.resource, entry.pk, version)
    return payloads.data_of(
        entry.resource, row.instance, found.owners[0], version=version, name=entry.name
    )


def _is_news(one: Told, owner: Any) -> bool:
    """Tell whether an object looks otherwise than before, as far as that matters.

    One that cannot be serialized does.
    """
    entry = one.entry
    if entry.name != Operation.UPDATED or entry.before is None or entry.before.data is None:
        return True
    if not (entry.is_recheck or entry.resource.is_compared()):
        return True
    known = entry.before.data.get(owner)
    if known is None:
        # Who was told nothing was told nothing that could be wrong.
        return not entry.is_recheck
    compared = [each for each in entry.resource.versions or ("",) if each in known]
    wanted = [each for each in compared if each in one.versions] or compared
    try:
        return any(_differs(entry.resource, known[each], one.write(each)) for each in wanted)
    except PayloadError:
        return True


def _differs(resource: Resource, before: bytes, after: bytes) -> bool:
    if before == after:
        return False
    names = tuple(resource.only_fields)
    return not names or differs(json.loads(before), json.loads(after), names)


def _asked(one: Told, owner: Any) -> Writer | None:
    """Ask the condition; return what writes the form, or ``None`` if nothing is to be said."""
    entry = one.entry
    if entry.custom or not entry.resource.has_condition():
        return one.write
    version = versions.newest(entry.resource.versions)
    try:
        after = None if entry.is_deletion else json.loads(one.write(version))
    except PayloadError:
        return one.write
    known = ((entry.before and entry.before.data) or {}).get(owner, {}).get(version)
    before = None if known is None else json.loads(known)
    change = FormChange(str(entry.operation), one.instance, one.owner, before, after)
    try:
        return one.write if entry.resource.condition(change) else None
    except DatabaseError:
        raise
    except Exception as error:  # noqa: BLE001  # a project's own code; said with the event
        reason = error

    def refused(version: str) -> bytes:
        del version
        msg = (
            f"{entry.resource.__name__}.condition() failed for {entry.key}: "
            f"{type(reason).__name__}: {reason}"
        )
        raise PayloadError(msg) from reason

    return refused


def _before(one: Told, owner: Any, said: Mapping[Subject, history.Said]) -> dict[str, Any]:
    """Return the forms before, by version: those last said, or else those before the session."""
    entry = one.entry
    if not entry.resource.previous_attributes or entry.name != Operation.UPDATED:
        return {}
    found: dict[str, Any] = {}
    if entry.before is not None and entry.before.data is not None:
        known = entry.before.data.get(owner, {})
        found = {version: json.loads(data) for version, data in known.items()}
    return found | said.get((entry.resource, entry.key), {}).get(owner, {})


def _heard(entries: list[Entry], rows: _Rows, using: str) -> dict[Resource, dict[Any, set[Way]]]:
    """Return, for each resource with owners, who of them has endpoints for it, and which."""
    owners: dict[Resource, set[Any]] = defaultdict(set)
    types: dict[Resource, set[str]] = defaultdict(set)
    for entry in entries:
        if entry.resource.is_scoped():
            types[entry.resource].add(entry.type)
            owners[entry.resource] |= {
                payloads.owner_key(found.owners[0]) for found in _audiences(entry, rows)
            }
    return {
        resource: subscriptions.listeners(types[resource], some, using) if some else {}
        for resource, some in owners.items()
    }
