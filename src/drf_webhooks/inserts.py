"""Capture ``bulk_create()``: which rows it makes, which it updates, and which it passes over."""

import functools
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

from django.db import connections
from django.db.models import Model, Q, UniqueConstraint

from drf_webhooks import noticing
from drf_webhooks.questions import chunks
from drf_webhooks.tracing.index import concrete, index
from drf_webhooks.transactions import unit

__all__ = ["bulk_create", "unique_sets"]

logger = logging.getLogger(__name__)


def bulk_create(
    original: Any,
    queryset: Any,
    objs: Iterable[Any],
    batch_size: int | None = None,
    ignore_conflicts: bool = False,
    update_conflicts: bool = False,
    update_fields: Iterable[str] | None = None,
    unique_fields: Iterable[str] | None = None,
    **kwargs: Any,
) -> Any:
    table = concrete(queryset.model)
    objs = list(objs)

    def write() -> Any:
        return original(
            queryset,
            objs,
            batch_size=batch_size,
            ignore_conflicts=ignore_conflicts,
            update_conflicts=update_conflicts,
            update_fields=update_fields,
            unique_fields=unique_fields,
            **kwargs,
        )

    queryset._for_write = True
    using = queryset.db
    if not objs or table not in noticing.tables(table):
        return write()
    if not noticing.is_captured() or not noticing.is_concerned(table, None, using):
        return noticing.silently(write, table, using)
    with unit(using):
        for link in index().links.get(table, ()):
            near = {getattr(each, link.near_column) for each in objs}
            noticing.linking(link, near, using)
        if table._meta.auto_created:
            return write()
        values = [noticing.values_of(each) for each in objs]
        if update_conflicts:
            names = [_attname(table, each) for each in update_fields or ()]
            unique = [_attname(table, each) for each in unique_fields or ()]
            return _upsert(write, table, objs, values, names, [unique] if unique else [], using)
        noticing.saving(table, [], using, values=values)
        if not ignore_conflicts:
            result = write()
            _created(table, [each.pk for each in objs], using)
            return result
        with _Inserted(queryset, objs, using) as inserted:
            result = write()
        _created(table, inserted.pks, using)
        return result


def _attname(table: type[Model], name: str) -> str:
    field: Any = table._meta.pk if name == "pk" else table._meta.get_field(name)
    return str(field.attname)


def _created(table: type[Model], pks: list[Any], using: str) -> None:
    known = [each for each in pks if each is not None]
    if len(known) < len(pks):
        logger.warning(
            "%d new rows of %s have keys that %s does not tell. Nothing is said of them; "
            "call trigger() for them.",
            len(pks) - len(known),
            table._meta.label,
            connections[using].display_name,
        )
    noticing.saved(table, known, using, created=True)


class _Inserted:
    """Find out which rows an insert makes that passes over those that conflict."""

    def __init__(self, queryset: Any, objs: list[Any], using: str) -> None:
        self._queryset: Any = queryset
        self._using = using
        self._named = [each.pk for each in objs if each._is_pk_set()]
        self._returned: list[Any] = []
        self.pks: list[Any] = []

    def __enter__(self) -> Self:
        self._there = self._find()
        # The one way to have the database return the keys: Django asks for them only when
        # no row can be passed over.
        self._queryset._insert = self._insert
        return self

    def __exit__(self, *_: object) -> None:
        del self._queryset._insert
        self.pks = [*(self._find() - self._there), *self._returned]

    def _find(self) -> set[Any]:
        rows = self._queryset.model._base_manager.using(self._using)
        return {
            pk
            for chunk in chunks(self._named)
            for pk in rows.filter(pk__in=chunk).values_list("pk", flat=True)
        }

    def _insert(self, objs: list[Any], *args: Any, **kwargs: Any) -> Any:
        insert = type(self._queryset)._insert
        features = connections[self._using].features
        key = self._queryset.model._meta.pk
        if objs[0]._is_pk_set():
            return insert(self._queryset, objs, *args, **kwargs)
        if not features.can_return_rows_from_bulk_insert:
            self._returned += [None] * len(objs)
            return insert(self._queryset, objs, *args, **kwargs)
        rows = insert(self._queryset, objs, *args, **{**kwargs, "returning_fields": [key]})
        self._returned += [row[0] for row in rows if row is not None]
        return rows


def _upsert(
    write: Callable[[], Any],
    table: type[Model],
    objs: list[Any],
    values: list[noticing.Values],
    names: list[str],
    unique: list[list[str]],
    using: str,
) -> Any:
    """Insert rows, or update those that are there: which are there is asked before."""
    columns = frozenset(names)
    conditions = list(_conditions(values, unique or list(unique_sets(table))))
    there = _matching(table, conditions, using)
    noticing.saving(table, there, using, columns=columns, values=values)
    noticing.saving(table, [], using, values=values)
    result = write()
    found = _matching(table, conditions, using) | {each.pk for each in objs if each._is_pk_set()}
    noticing.saved(table, there, using, columns=columns)
    noticing.saved(table, found - there, using, created=True)
    return result


def unique_sets(table: type[Model]) -> Iterator[list[str]]:
    """Give each set of columns that no two rows share."""
    if len(table._meta.pk_fields) > 1:
        yield [each.attname for each in table._meta.pk_fields]
    for field in table._meta.concrete_fields:
        if field.unique:
            yield [field.attname]
    for names in table._meta.unique_together:
        yield [_attname(table, name) for name in names]
    for constraint in table._meta.constraints:
        if isinstance(constraint, UniqueConstraint) and constraint.fields:
            yield [_attname(table, name) for name in constraint.fields]


def _conditions(values: list[noticing.Values], unique: list[list[str]]) -> Iterator[Q]:
    for row in values:
        for names in unique:
            if all(row.get(name) is not None for name in names):
                yield Q(**{name: row[name] for name in names})


def _matching(table: type[Model], conditions: list[Q], using: str) -> set[Any]:
    rows = table._base_manager.using(using)
    found: set[Any] = set()
    for some in (conditions[start : start + 100] for start in range(0, len(conditions), 100)):
        found |= set(rows.filter(functools.reduce(Q.__or__, some)).values_list("pk", flat=True))
    return found
