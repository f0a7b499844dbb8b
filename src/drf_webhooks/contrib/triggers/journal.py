"""Take what the triggers wrote, and note what nobody has noted yet."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.db import connections, router, transaction
from django.db.models import Model

from drf_webhooks import payloads, pipeline, session
from drf_webhooks.changes import Changes, Form, Found, Operation, Subject, merge, object_key
from drf_webhooks.contrib.triggers import definitions, silence
from drf_webhooks.contrib.triggers.models import RowChange
from drf_webhooks.questions import chunks
from drf_webhooks.tracing.index import index
from drf_webhooks.tracing.paths import Path, Resource
from drf_webhooks.tracing.resolver import CHUNK
from drf_webhooks.transactions import Log, log_of

__all__ = ["Journal", "install", "monitored", "relay"]

Values = Mapping[str, Any]

# Of this transaction alone; one that has written nothing has no number.
_OWN = """
DELETE FROM {table} WHERE transaction = pg_current_xact_id_if_assigned()::text RETURNING *
"""

# A subquery with LIMIT might be run again for each row, a materialized one is not.
_COMMITTED = """
WITH taken AS MATERIALIZED (
  SELECT id FROM {table} ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
)
DELETE FROM {table} USING taken WHERE {table}.id = taken.id RETURNING {table}.*
"""


class Journal:
    """A source of changes, beside the signals."""

    def complete(self, noted: Mapping[Hashable, Changes], log: Log) -> None:
        """Add what the open transaction did and nobody noted.

        Args:
            noted: What is about to be recorded, by session.
            log: What else the transaction has noted.

        """
        rows = _taken(_OWN, log.using) if _is_used(log.using) else []
        if not rows:
            return
        mine = session.current_session()
        chosen = mine if mine in noted else next(iter(noted))
        forms = log.forms
        if isinstance(chosen, session.WebhookSignalSession):
            forms = chosen.forms(log.using)
        known = [*log.noted(), *noted.values()]
        _Notes(noted[chosen], known, forms, log.using).add(rows)

    def relay(self, using: str) -> int:
        """Record what was committed and nobody has taken; return how many rows that were."""
        return relay(using)


def install() -> None:
    """Take the journal into account whenever events are recorded or released."""
    if not any(isinstance(each, Journal) for each in pipeline.sources):
        pipeline.sources.append(Journal())


def relay(using: str = "default") -> int:
    """Record what raw SQL and other programs have committed; return how many rows that were.

    Each lot of rows is taken in the transaction that stores its events. Several processes may
    do it at once: what one of them holds, the others leave alone.
    """
    count = 0
    while _is_used(using):
        with transaction.atomic(using=using):
            rows = _taken(_COMMITTED, using, CHUNK)
            changes = Changes()
            _Notes(changes, [changes], {}, using).add(rows)
            if changes:
                # Nobody waits for an exception here, and the row would come again for ever.
                pipeline.Pipeline().record(changes, log_of(using), {}, is_last_resort=True)
        count += len(rows)
        if len(rows) < CHUNK:
            break
    return count


def monitored() -> set[type[Model]]:
    """Return the models whose rows matter, those of many-to-many tables included."""
    found = index()
    links = {each for each in found.links if each._meta.auto_created}
    return {*found.bases, *found.nested, *links}


def _is_used(using: str) -> bool:
    is_postgresql = connections[using].vendor == "postgresql"
    return is_postgresql and bool(router.allow_migrate_model(using, RowChange))


def _taken(sql: str, using: str, *params: Any) -> list[RowChange]:
    table = connections[using].ops.quote_name(RowChange._meta.db_table)
    rows = RowChange.objects.using(using).raw(sql.format(table=table), params)
    return sorted(rows, key=lambda each: each.pk)


def _models() -> dict[str, list[type[Model]]]:
    found = defaultdict(list)
    for model in monitored():
        found[definitions.table_of(model)].append(model)
    return found


@dataclass
class _Row:
    """A journaled row in the terms of one model."""

    model: type[Model]
    pk: Any
    operation: str
    #: By attribute name: what hung the row under others. Empty if it was not there.
    before: Values
    after: Values
    #: The attribute names of the columns that changed; ``None`` for all of them.
    columns: frozenset[str] | None
    silent: set[str]

    def is_silent(self, resource: Resource) -> bool:
        return resource.base_name in self.silent


@dataclass
class _Base:
    """What became of a base object, as far as its own rows tell."""

    pk: Any
    was_there: bool
    is_there: bool = True
    before: Values = field(default_factory=dict)


class _Notes:
    """What rows of the journal say that nobody has noted."""

    def __init__(
        self,
        into: Changes,
        known: Sequence[Changes],
        forms: MutableMapping[Subject, Form],
        using: str,
    ) -> None:
        self._into = into
        self._known = known
        self._forms = forms
        self._using = using
        self._bases: dict[Subject, _Base] = {}
        self._nested: dict[Path, dict[Any, None]] = defaultdict(dict)
        #: What rows held that were moved away or deleted.
        self._left: dict[Path, list[Values]] = defaultdict(list)

    def add(self, rows: Iterable[RowChange]) -> None:
        """Note them."""
        models = _models()
        for row in rows:
            for model in models.get(row.table, ()):
                self._gather(_row(row, model))
        for subject, base in self._bases.items():
            self._note_base(subject, base)
        for path, pks in self._nested.items():
            self._note_nested(path, pks)
        for path, values in self._left.items():
            self._note_above(path, values)

    def _gather(self, row: _Row) -> None:
        found = index()
        is_gone = row.operation == RowChange.Operation.DELETE
        for resource in found.bases.get(row.model, ()):
            if not row.is_silent(resource) and found.base_path(resource).concerns(row.columns):
                is_new = row.operation == RowChange.Operation.INSERT
                subject = (resource, object_key(row.pk))
                base = self._bases.setdefault(subject, _Base(row.pk, was_there=not is_new))
                base.is_there = not is_gone
                base.before = row.before
        for path in found.nested.get(row.model, ()):
            if row.is_silent(path.resource) or not path.concerns(row.columns):
                continue
            if not is_gone:
                self._nested[path][row.pk] = None
            if row.before and path.hang is not None and path.moves(row.columns):
                self._left[path].append(row.before)
        for link in found.links.get(row.model, ()) if row.model._meta.auto_created else ():
            if not row.is_silent(link.near.resource):
                near = {row.before.get(link.near_column), row.after.get(link.near_column)}
                self._nested[link.near].update(dict.fromkeys(near - {None}))

    def _note_base(self, subject: Subject, base: _Base) -> None:
        resource = subject[0]
        holders = [each.bases[subject] for each in self._known if subject in each.bases]
        if not holders:
            operation = _operation(was_there=base.was_there, is_there=base.is_there)
            if operation is None:
                return
            noted = self._into.note_base(resource, base.pk, operation)
            self._forget_forms([subject])
        else:
            said: Operation | None = None
            for each in holders:
                said = said if each.operation is None else merge(said, each.operation)
            # What was noted knows how it began; the journal may have been taken meanwhile.
            was_there = base.was_there and said in {Operation.UPDATED, Operation.DELETED}
            operation = _operation(was_there=was_there, is_there=base.is_there)
            if operation is said:
                return
            noted = holders[-1]
            noted.operation = operation
        if operation is Operation.DELETED and noted.found is None and resource.is_scoped():
            noted.found = self._found(resource, base)

    def _found(self, resource: Resource, base: _Base) -> tuple[Found, ...] | None:
        """Return who owned a row that is gone, if its keys are enough to tell."""
        names, values = list(base.before), list(base.before.values())
        instance = resource.model.from_db(self._using, names, values)
        try:
            owners = payloads._owners(resource, instance)
        except ObjectDoesNotExist:
            return None
        return tuple(Found((owner,)) for owner in owners)

    def _note_nested(self, path: Path, pks: Iterable[Any]) -> None:
        new = [
            pk
            for pk in pks
            if not any(pk in each.nested.get(path, ()) for each in self._known)
            # A row of a parent's table was written together with the base object's own.
            and not (path.is_parent_row and self._has_base(path.resource, pk))
        ]
        if not new:
            return
        self._into.note_nested(path, new)
        if path.resource.keeps_forms() and self._forms:
            for chunk in chunks(new):
                keys = path.base_keys(chunk, self._using)
                self._forget_forms((path.resource, object_key(key)) for key in keys)

    def _note_above(self, path: Path, values: list[Values]) -> None:
        above: Any = path.hang
        for chunk in chunks(above.keys(values, self._using)):
            for key in above.above.base_keys(chunk, self._using):
                subject = (path.resource, object_key(key))
                if not any(subject in each.above or subject in each.bases for each in self._known):
                    self._into.note_above(path.resource, [key])
                    self._forget_forms([subject])

    def _has_base(self, resource: Resource, pk: Any) -> bool:
        return any(each.has_base(resource, pk) for each in self._known)

    def _forget_forms(self, subjects: Iterable[Subject]) -> None:
        """Let those count as changed whose form was taken after a write that nobody saw."""
        for subject in subjects:
            if subject in self._forms:
                self._forms[subject] = Form({})


def _row(row: RowChange, model: type[Model]) -> _Row:
    fields: dict[str, Any] = {str(each.column): each for each in model._meta.local_concrete_fields}
    columns = None
    if row.operation == RowChange.Operation.UPDATE:
        columns = frozenset(fields[name].attname for name in row.columns if name in fields)
    key = [
        each.to_python(value)
        for each, value in zip(definitions.key_fields(model), row.key, strict=True)
    ]

    def values(held: dict[str, Any] | None) -> Values:
        return {
            fields[name].attname: fields[name].to_python(value)
            for name, value in (held or {}).items()
            if name in fields
        }

    return _Row(
        model=model,
        pk=key[0] if len(key) == 1 else tuple(key),
        operation=row.operation,
        before=values(row.before),
        after=values(row.after),
        columns=columns,
        silent=silence.names(row.silent),
    )


def _operation(*, was_there: bool, is_there: bool) -> Operation | None:
    if was_there:
        return Operation.UPDATED if is_there else Operation.DELETED
    return Operation.CREATED if is_there else None
