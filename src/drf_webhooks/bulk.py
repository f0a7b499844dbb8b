"""Capture writes that send no signal, whatever manager they come from.

Django's queryset methods for many rows, and the rows that a deletion alters or removes by the
fast path. They are wrapped once on Django's own classes, so that no project has to change a
manager; for a model that nobody monitors the cost is one look into a dictionary.
``docs/explanation/tracing.md`` says why here, and what it costs.
"""

import functools
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db.models import F, Model, Value
from django.db.models.expressions import Col
from django.db.models.lookups import Exact, In
from django.db.models.query import QuerySet
from django.db.models.sql import DeleteQuery, UpdateQuery

from drf_webhooks import noticing
from drf_webhooks.inserts import bulk_create
from drf_webhooks.tracing.index import concrete, index
from drf_webhooks.transactions import unit

__all__ = ["install", "save_base_of_link"]

logger = logging.getLogger(__name__)

_NEW_KEY = "_drf_webhooks_new_key"
_NEW = "_drf_webhooks_new_"


def install() -> None:
    """Wrap Django's methods, once in a process."""
    for owner, name, wrapper in (
        (QuerySet, "update", _update),
        (QuerySet, "bulk_create", bulk_create),
        (QuerySet, "_raw_delete", _raw_delete),
        (UpdateQuery, "update_batch", _update_batch),
        (DeleteQuery, "delete_batch", _delete_batch),
    ):
        original = getattr(owner, name)
        if not hasattr(original, "_drf_webhooks_original"):
            setattr(owner, name, _wrapped(original, wrapper))


def _wrapped(original: Callable[..., Any], wrapper: Callable[..., Any]) -> Callable[..., Any]:
    # Copies what Django notes on its methods too, like ``alters_data``.
    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return wrapper(original, self, *args, **kwargs)

    method._drf_webhooks_original = original  # type: ignore[attr-defined]  # how install() knows it
    return method


def _update(original: Any, queryset: QuerySet[Any], **values: Any) -> Any:
    tables = noticing.tables(queryset.model)
    query = queryset.query
    is_refused = query.is_sliced or query.combinator
    if not tables or not values or is_refused:
        return original(queryset, **values)
    queryset._for_write = True  # type: ignore[attr-defined]  # as Django's own update() does
    using = queryset.db
    by_table = _by_table(queryset.model, values)
    concerned = [
        table
        for table in tables
        if noticing.is_captured()
        and table in by_table
        and noticing.is_concerned(table, _columns(table, by_table), using)
    ]
    if not concerned:
        columns = frozenset(name for names in by_table.values() for name in names)
        write = partial(original, queryset, **values)
        return noticing.silently(write, queryset.model, using, columns)
    with unit(using):
        writes = [_Write(table, queryset, by_table[table], using) for table in concerned]
        for each in writes:
            each.before()
        rows = original(queryset, **values)
        for each in writes:
            each.after()
    return rows


def _columns(table: type[Model], by_table: dict[type[Model], dict[str, Any]]) -> noticing.Columns:
    """Return the columns that are written; under another key each of them is."""
    names = frozenset(by_table[table])
    key: Any = table._meta.pk
    return None if key.attname in names else names


class _Write:
    """One table's part of an update; after it the filter may find other rows."""

    def __init__(
        self, table: type[Model], queryset: QuerySet[Any], values: dict[str, Any], using: str
    ) -> None:
        self._table = table
        self._using = using
        self._values = values
        self._columns = frozenset(values)
        key: Any = table._meta.pk
        self._moves_key = key.attname in values
        self._links = index().links.get(table, []) if table._meta.auto_created else []
        self._pks: list[Any] = []
        self._moved: list[tuple[Any, Any]] = []
        self._places = [noticing.plain(values)]
        rows = queryset.order_by()
        if self._moves_key:
            value = values[key.attname]
            new = value if hasattr(value, "resolve_expression") else Value(value, output_field=key)
            self._moved = list(rows.annotate(**{_NEW_KEY: new}).values_list("pk", _NEW_KEY))
        elif self._links:
            columns = [each.near_column for each in self._links]
            self._linked = list(rows.values_list("pk", *columns))
            self._pks = [each[0] for each in self._linked]
        else:
            self._pks = _keys(rows, table)
            self._place(rows)

    def _place(self, rows: QuerySet[Any]) -> None:
        """Ask where rows will hang if the values alone do not tell.

        An expression tells it for each row, and so does half of a generic key.
        """
        (known,) = self._places
        names = sorted(noticing.placing(self._table, self._columns, self._using) - set(known))
        if not names:
            return
        new = {f"{_NEW}{name}": self._values.get(name, F(name)) for name in names}
        found = rows.annotate(**new).values_list(*new).distinct()
        self._places = [{**known, **dict(zip(names, row, strict=True))} for row in found]

    def before(self) -> None:
        if self._moved:
            # The old rows are gone, and their like stand under other keys.
            noticing.deleting(self._table, [old for old, _ in self._moved], self._using)
            return
        for number, link in enumerate(self._links, start=1):
            # Where they were, and where they will be.
            near = {row[number] for row in self._linked}
            new = self._places[0].get(link.near_column)
            noticing.linking(link, {*near, new}, self._using)
        noticing.saving(
            self._table,
            self._pks,
            self._using,
            columns=self._columns,
            values=self._places,
        )

    def after(self) -> None:
        if self._moved:
            new = [key for _, key in self._moved]
            noticing.saved(self._table, new, self._using, created=True)
            return
        if self._links:
            rows = self._table._base_manager.using(self._using).filter(pk__in=self._pks)
            for link in self._links:
                near = rows.values_list(link.near_column, flat=True)
                noticing.linking(link, near.distinct(), self._using)
        noticing.saved(self._table, self._pks, self._using, columns=self._columns)


def _by_table(model: type[Model], values: dict[str, Any]) -> dict[type[Model], dict[str, Any]]:
    """Return the columns that an update writes, by attribute name, and their values."""
    found: dict[type[Model], dict[str, Any]] = {}
    for name, value in values.items():
        try:
            field: Any = model._meta.get_field(model._meta.pk.name if name == "pk" else name)
        except FieldDoesNotExist:
            # Django says so.
            continue
        if getattr(field, "column", None):
            found.setdefault(concrete(field.model), {})[field.attname] = _key_of(field, value)
    return found


def _key_of(field: Any, value: Any) -> Any:
    if isinstance(value, Model) and field.is_relation:
        return getattr(value, field.target_field.attname)
    return value


def _keys(rows: QuerySet[Any], table: type[Model]) -> list[Any]:
    """Return the keys of the rows of a table that a queryset finds."""
    if concrete(rows.model) is table:
        known = _named_keys(rows)
        return list(rows.values_list("pk", flat=True)) if known is None else known
    link: Any = None
    path: list[str] = []
    model: Any = concrete(rows.model)
    while model is not table:
        link = model._meta.get_ancestor_link(table)
        path.append(link.name)
        model = concrete(link.related_model)
    return list(rows.values_list("__".join(path), flat=True))


def _named_keys(rows: QuerySet[Any]) -> list[Any] | None:
    """Return the keys that a filter names itself, as in ``bulk_update()``."""
    where = rows.query.where
    if len(where.children) != 1 or where.negated:
        return None
    (lookup,) = where.children
    if not isinstance(lookup, Exact | In) or not isinstance(lookup.lhs, Col):
        return None
    if lookup.lhs.target is not rows.model._meta.pk or hasattr(lookup.rhs, "resolve_expression"):
        return None
    if isinstance(lookup, Exact):
        return [lookup.rhs]
    return list(lookup.rhs) if isinstance(lookup.rhs, list | tuple | set | frozenset) else None


def _raw_delete(original: Any, queryset: QuerySet[Any], using: str) -> Any:
    table = concrete(queryset.model)
    if table not in noticing.tables(table):
        return original(queryset, using)
    if not noticing.is_captured():
        return noticing.silently(partial(original, queryset, using), table, using)
    with unit(using):
        rows = queryset.using(using).order_by()
        if not table._meta.auto_created:
            noticing.deleting(table, _keys(rows, table), using)
        for link in index().links.get(table, ()) if table._meta.auto_created else ():
            near = set(rows.values_list(link.near_column, flat=True))
            noticing.linking(link, near, using)
        return original(queryset, using)


def _update_batch(
    original: Any, query: UpdateQuery, pk_list: list[Any], values: dict[str, Any], using: str
) -> Any:
    """The rows that a deletion sets to null or to another value, once they are loaded."""
    model: Any = query.get_meta().model
    by_table = _by_table(model, values)
    table = concrete(model)
    columns = by_table.get(table, {})
    if table not in noticing.tables(table) or not columns:
        return original(query, pk_list, values, using)
    if not noticing.is_captured():
        write = partial(original, query, pk_list, values, using)
        return noticing.silently(write, table, using, frozenset(columns))
    noticing.saving(
        table, pk_list, using, columns=frozenset(columns), values=[noticing.plain(columns)]
    )
    result = original(query, pk_list, values, using)
    noticing.saved(table, pk_list, using, columns=frozenset(columns))
    return result


def _delete_batch(original: Any, query: DeleteQuery, pk_list: list[Any], using: str) -> Any:
    """Rows of a many-to-many table that were deleted as instances: they send no signals."""
    model: Any = query.get_meta().model
    links = index().links.get(model, ()) if model._meta.auto_created else ()
    if not links or not noticing.is_captured():
        return noticing.silently(partial(original, query, pk_list, using), model, using)
    with unit(using):
        rows = model._base_manager.using(using).filter(pk__in=pk_list)
        for link in links:
            noticing.linking(link, set(rows.values_list(link.near_column, flat=True)), using)
        return original(query, pk_list, using)


def save_base_of_link(original: Callable[..., None], instance: Any, using: str) -> None:
    """Save a row of a many-to-many table that Django made: it sends no signals."""
    model = type(instance)
    links = index().links.get(model, ())
    if not links or not noticing.is_captured():
        noticing.silently(original, model, using)
        return
    with unit(using):
        rows = model._base_manager.using(using).filter(pk=instance.pk)
        for link in links:
            before = set(rows.values_list(link.near_column, flat=True)) if instance.pk else set()
            near = {*before, getattr(instance, link.near_column)}
            noticing.linking(link, near, using)
        original()
