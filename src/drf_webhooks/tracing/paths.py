"""Paths: how rows of one model lead to the base objects of one resource."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.apps import apps
from django.core.exceptions import ObjectDoesNotExist
from django.db.models import Model
from django.db.models.query import QuerySet

from drf_webhooks.conf import config
from drf_webhooks.resources import Getter, ModelSerializerWebhook

__all__ = ["Hang", "Link", "Path", "Resource", "base_keys", "content_type"]

logger = logging.getLogger(__name__)

Resource = type[ModelSerializerWebhook]


@dataclass(frozen=True, eq=False)
class Hang:
    """What a row says of the row above it: its key, in a column of the row itself."""

    #: The path of the model above.
    above: "Path"
    #: The column that holds the key, by its attribute name.
    column: str
    #: The field above whose value is the key, by its name.
    target: str
    #: For a generic relation: the column that says of which model the row above is.
    kind: str = ""

    def keys(self, values: Iterable[Mapping[str, Any]], using: str) -> list[Any]:
        """Return the primary keys of the rows above rows with some column values."""
        kind = content_type(self.above.model, using).pk if self.kind else None
        held = {
            each[self.column]
            for each in values
            if self.column in each and (kind is None or each.get(self.kind) == kind)
        }
        held -= {None}
        if not held or self.target in {"pk", self.above.model._meta.pk.name}:
            return list(held)
        rows = self.above.model._base_manager.using(using)
        return list(rows.filter(**{f"{self.target}__in": held}).values_list("pk", flat=True))


# Compared by identity: a path is the key of what is noted, and made once.
@dataclass(frozen=True, eq=False)
class Path:
    """How rows of one model lead to the base objects of one resource.

    By an ORM lookup from the base model; by rows of another model in between (``via``), whose
    values at ``near`` are keys of what the lookup leads to; by a generic foreign key there; or
    by a declared getter.
    """

    resource: Resource
    model: type[Model]
    lookup: str
    #: The attribute names of the columns that are read; ``None`` for all, and more.
    columns: frozenset[str] | None
    #: Columns that say under which row of the base's side this one hangs.
    link_columns: frozenset[str] = frozenset()
    via: type[Model] | None = None
    near: str = ""
    #: The lookup from ``via`` to ``model``; empty if they are one.
    entry: str = ""
    #: A generic foreign key of what the lookup leads to.
    generic: str = ""
    #: Every base object depends on every row.
    is_whole: bool = False
    getter: Getter | None = None
    hang: Hang | None = None
    #: The same object as the base object, in a parent's table.
    is_parent_row: bool = False
    #: Why it is monitored, for people.
    rule: str = ""

    @property
    def is_base(self) -> bool:
        """Whether the rows are the base objects themselves."""
        return not (self.lookup or self.getter or self.via or self.generic or self.is_whole)

    def concerns(self, update_fields: frozenset[str] | None) -> bool:
        """Tell whether a save of some columns can alter a serialized form."""
        if update_fields is None:
            return self.columns is None or bool(self.columns or self.link_columns)
        read = self.columns is None or not update_fields.isdisjoint(self.columns)
        return read or self.moves(update_fields)

    def moves(self, update_fields: frozenset[str] | None) -> bool:
        """Tell whether a save of some columns can hang a row under another one."""
        if self.getter is not None:
            return True
        if update_fields is None:
            return bool(self.link_columns)
        return not update_fields.isdisjoint(self.link_columns)

    def base_keys(self, pks: Iterable[Any], using: str) -> list[Any]:
        """Return the primary keys of the base objects above some rows, as they are now."""
        if self.getter is not None:
            return self._got(pks, using)
        if self.is_whole:
            return self._all(using)
        return list(self._bases(pks, using).distinct())

    def _bases(self, pks: Iterable[Any], using: str) -> QuerySet[Any]:
        # Without the model's ordering, whose columns DISTINCT would have to look at.
        bases: QuerySet[Any] = self.resource.model._base_manager.using(using).order_by()
        return bases.filter(**self._condition(list(pks), using)).values_list("pk", flat=True)

    def _all(self, using: str) -> list[Any]:
        most = config().WHOLE_TABLE_LIMIT
        bases = self.resource.model._base_manager.using(using).order_by()
        found = list(bases.values_list("pk", flat=True)[: most + 1])
        if len(found) <= most:
            return found
        logger.warning(
            "%s reads all rows of %s. One changed, and there are more than %d objects: none is "
            "said to be updated. Name what the code reads with depends_on, or call trigger().",
            self.resource.__name__,
            self.model._meta.label,
            most,
        )
        return []

    def _condition(self, rows: Any, using: str) -> dict[str, Any]:
        if self.via is not None:
            between = self.via._base_manager.using(using).filter(**{_is_in(self.entry): rows})
            # A generic key may be text where the key itself is a number: no subquery.
            rows = (
                list(between.values_list("pk", flat=True))
                if self.generic
                else between.values(self.near)
            )
        if self.generic:
            holder = _model_at(self.resource.model, self.lookup)
            key: Any = holder._meta.get_field(self.generic)
            front = f"{self.lookup}__" if self.lookup else ""
            kind = content_type(self.via or self.model, using)
            return {f"{front}{key.ct_field}": kind.pk, f"{front}{key.fk_field}__in": rows}
        if self.via is None:
            return {_is_in(self.lookup): rows}
        target = _target(self.via, self.near)
        return {f"{self.lookup}__{target}__in" if self.lookup else f"{target}__in": rows}

    def _got(self, pks: Iterable[Any], using: str) -> list[Any]:
        found = []
        for instance in self.model._base_manager.using(using).filter(pk__in=list(pks)):
            try:
                found += [base.pk for base in self.getter(instance)]  # type: ignore[misc]  # asked by base_keys
            except ObjectDoesNotExist:
                continue
        return found


@dataclass(frozen=True, eq=False)
class Link:
    """A many-to-many relation in a tree: rows of its table come and go without a save."""

    through: type[Model]
    near: Path
    far: Path
    #: The column of ``through`` that holds keys of the rows on the base's side.
    near_column: str
    #: Whether the row on the base's side is the one that defines the field.
    is_near_source: bool
    is_symmetrical: bool


def base_keys(paths: Sequence[Path], pks: Sequence[Any], using: str) -> list[Any]:
    """Return the keys of the base objects above some rows, by several paths of one resource.

    One query, a UNION and not one condition over many joins, where the paths are lookups.
    """
    joined = [path for path in paths if path.getter is None and not path.is_whole]
    if len(joined) < 2 or joined[0].resource.model._meta.is_composite_pk:  # noqa: PLR2004  # one is no union
        return [key for path in paths for key in path.base_keys(pks, using)]
    first, *rest = [path._bases(pks, using) for path in joined]
    found = list(first.union(*rest).order_by())
    return found + [
        key for path in paths if path not in joined for key in path.base_keys(pks, using)
    ]


def content_type(model: type[Model], using: str) -> Any:
    """Return the content type of a model; the contenttypes app may be absent elsewhere."""
    kinds: Any = apps.get_model("contenttypes", "ContentType")._default_manager
    return kinds.db_manager(using).get_for_model(model)


def _is_in(lookup: str) -> str:
    return f"{lookup}__pk__in" if lookup else "pk__in"


@cache
def _model_at(model: type[Model], lookup: str) -> type[Model]:
    for name in filter(None, lookup.split("__")):
        model = model._meta.get_field(name).related_model  # type: ignore[assignment]  # a lookup of relations
    return model


@cache
def _target(model: type[Model], lookup: str) -> str:
    """Return the field whose values a foreign key at the end of a lookup holds."""
    *front, last = lookup.split("__")
    found: Any = _model_at(model, "__".join(front))._meta.get_field(last)
    return "pk" if found.many_to_many else str(found.target_field.name)
