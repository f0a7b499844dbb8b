"""Find out of a query that code executed which known rows its filter names."""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Model
from django.db.models.expressions import Col
from django.db.models.lookups import Exact, In
from django.db.models.sql import Query
from django.db.models.sql.where import AND

from drf_webhooks.tracing.reads import Read, Reader, is_family
from drf_webhooks.tracing.tree import of_join

__all__ = ["analyse"]

_IGNORED = {"contenttypes", "drf_webhooks"}


@dataclass(frozen=True)
class _Hit:
    """A table of a query whose rows are tied to a known spot.

    By ``step``, a relation from the spot to rows of the table, or as the spot's own rows.
    """

    alias: str
    spot: Read
    step: Any = None


def analyse(query: Query, reader: Reader, before: Mapping[str, int] | None = None) -> list[Read]:
    """Note what a query reads, and return where the rows of its model are found.

    Args:
        query: After it was compiled, which adds the joins of its ordering.
        reader: What is known so far.
        before: How often each alias was used before it was compiled. One that was trimmed
            from a filter is not, and those that came since are.

    """
    inner = getattr(query, "inner_query", None)
    if inner is not None:
        # An aggregate over a subquery.
        return analyse(inner, reader)
    if query.model is None or query.model._meta.app_label in _IGNORED:
        return []
    found: list[Read] = []
    for part in query.combined_queries:
        found += analyse(part, reader)
    if query.combined_queries:
        return found
    for each in _subqueries(query):
        analyse(each, reader)
    return _read(query, reader, query.alias_refcount if before is None else before)


def _read(query: Query, reader: Reader, used: Mapping[str, int]) -> list[Read]:
    joins: dict[str, Any] = {
        alias: join for alias, join in query.alias_map.items() if used.get(alias, 1)
    }
    base = next((alias for alias, join in joins.items() if not join.parent_alias), "")
    models = _models(query, joins)
    hits: list[_Hit | None] = list(_hits(query, models, reader))
    spots: list[Read] = []
    for hit in hits or [None]:
        for alias, model in models.items():
            if model._meta.auto_created or model._meta.app_label in _IGNORED:
                continue
            if hit is None:
                read = Read(_concrete(model), is_whole=True)
            else:
                read = _walk(hit, alias, joins)
            noted = reader.note([read])
            if alias == base:
                spots += noted
    return spots


def _models(query: Query, joins: dict[str, Any]) -> dict[str, type[Model]]:
    models: dict[str, Any] = {}
    for alias, join in joins.items():
        if not join.parent_alias:
            models[alias] = query.model
        else:
            models[alias] = of_join(join.join_field).related_model
    return models or {"": query.model}


def _walk(hit: _Hit, alias: str, joins: dict[str, Any]) -> Read:
    """Follow the joins of a query from a table that is tied to a spot to another one."""
    above, below = _chain(hit.alias, joins), _chain(alias, joins)
    while above and below and above[0] == below[0]:
        above, below = above[1:], below[1:]
    steps = [] if hit.step is None else [hit.step]
    # Up from the table of the hit, each join backwards, then down to the other one.
    steps += [_backwards(of_join(joins[each].join_field)) for each in reversed(above)]
    steps += [of_join(joins[each].join_field) for each in below]
    read = hit.spot
    waiting: Any = None
    for step in steps:
        if waiting is not None:
            read = _across(read, waiting, step)
            waiting = None
        elif step.related_model._meta.auto_created:
            waiting = step
        else:
            read = read.follow(step)
    return read


def _chain(alias: str, joins: dict[str, Any]) -> list[str]:
    names: list[str] = []
    while alias and joins[alias].parent_alias:
        names.insert(0, alias)
        alias = joins[alias].parent_alias
    return names


def _backwards(relation: Any) -> Any:
    is_reverse = relation.auto_created and not relation.concrete
    return relation.field if is_reverse else relation.remote_field


def _across(read: Read, first: Any, then: Any) -> Read:
    """Follow the many-to-many relation of two steps through a table of Django's making."""
    near: Any = first.model
    relations = (*near._meta.many_to_many, *near._meta.related_objects)
    return read.follow(
        next(
            each
            for each in relations
            if [info.join_field for info in getattr(each, "path_infos", ())] == [first, then]
        )
    )


def _hits(query: Query, models: dict[str, type[Model]], reader: Reader) -> Iterator[_Hit]:
    conditions = list(_conditions(query.where))
    for column, values in conditions:
        model = models[column.alias]
        places = [
            (instance, spot)
            for instance, spots in reader.known()
            for spot in spots
            if not spot.is_whole
        ]
        for instance, spot in places:
            yield from _tied(column, model, values, instance, spot)
        if len(conditions) > 1:
            yield from _generic(column, model, values, reader)


def _tied(
    column: Any, model: type[Model], values: set[Any], instance: Model, spot: Read
) -> Iterator[_Hit]:
    """Compare a column with the key of one known instance, and with the keys that it holds."""
    field: Any = column.target
    target: Any = field.target_field if field.is_relation else field
    owner: Any = field.related_model if field.is_relation else model
    step = field.remote_field if field.is_relation else None
    if not field.is_relation and not field.unique:
        return
    held = instance.__dict__
    if is_family(type(instance), owner) and held.get(target.attname) in values:
        yield _Hit(column.alias, spot, step)
    key: Any
    for key in instance._meta.concrete_fields:
        if (
            key.is_relation
            and held.get(key.attname) in values
            and key.target_field == target
            and is_family(key.related_model, owner)
        ):
            yield _Hit(column.alias, spot.follow(key), step)


def _generic(column: Any, model: type[Model], values: set[Any], reader: Reader) -> Iterator[_Hit]:
    """Compare the column of a generic foreign key with the keys of known instances."""
    keys = {getattr(each, "fk_field", None) for each in model._meta.private_fields}
    if column.target.name not in keys:
        return
    texts = {str(each) for each in values}
    for instance, spots in reader.known():
        relation: Any
        for relation in instance._meta.private_fields:
            if (
                getattr(relation, "object_id_field_name", None) == column.target.name
                and is_family(relation.related_model, model)
                and str(instance.pk) in texts
            ):
                for spot in spots:
                    yield _Hit(column.alias, spot, relation)


def _conditions(where: Any) -> Iterator[tuple[Any, set[Any]]]:
    """Give the columns that must equal one of some values."""
    if where.negated or (where.connector != AND and len(where.children) > 1):
        return
    for each in where.children:
        if hasattr(each, "children"):
            yield from _conditions(each)
        elif isinstance(each, Exact | In) and isinstance(each.lhs, Col):
            values = _values(each.rhs)
            if values:
                yield each.lhs, values


def _values(given: Any) -> set[Any]:
    if hasattr(given, "resolve_expression"):
        return set()
    several = given if isinstance(given, list | tuple | set | frozenset) else [given]
    return {each for each in several if isinstance(each, Hashable) and each is not None}


def _subqueries(query: Query) -> Iterator[Query]:
    waiting: list[Any] = [query.where, *query.annotations.values()]
    while waiting:
        each = waiting.pop()
        inner = each if isinstance(each, Query) else getattr(each, "query", None)
        if isinstance(inner, Query):
            yield inner
            continue
        children: Iterable[Any] = getattr(each, "children", ())
        if not children:
            sources = getattr(each, "get_source_expressions", None)
            children = sources() if sources else ()
        waiting += [child for child in children if child is not None]


def _concrete(model: type[Model]) -> type[Model]:
    found: type[Model] = model._meta.concrete_model  # type: ignore[assignment]  # it has a table
    return found
