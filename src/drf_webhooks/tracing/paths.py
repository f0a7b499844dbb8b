"""From what resources serialize: which rows of which models concern which base objects.

Compiled from the declarations alone, without a query, once for each state of the registry.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.db.models import Model
from django.db.models.query import QuerySet

from drf_webhooks.registry import registry
from drf_webhooks.resources import Getter, ModelSerializerWebhook
from drf_webhooks.tracing.tree import Node, is_many_to_many, is_reverse, read, relation_or_column

__all__ = ["Index", "Link", "Path", "Trace", "index", "trace"]

Resource = type[ModelSerializerWebhook]


@dataclass(frozen=True)
class Path:
    """How rows of one model lead to the base objects of one resource.

    By an ORM lookup from the base model, by a table between two models (``through``, whose
    column ``near`` holds the key of the row on the base's side), or by a declared getter.
    """

    resource: Resource
    model: type[Model]
    lookup: str
    #: The attribute names of the columns that are read; ``None`` for all, and more.
    columns: frozenset[str] | None
    #: Columns that say under which row of the base's side this one hangs.
    link_columns: frozenset[str] = frozenset()
    through: type[Model] | None = None
    near: str = ""
    getter: Getter | None = None

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
        rows: Any = list(pks)
        if self.through is not None:
            rows = self.through._base_manager.using(using).filter(pk__in=rows).values(self.near)
            target = self.through._meta.get_field(self.near).target_field.name  # type: ignore[union-attr]  # a foreign key
            name = f"{self.lookup}__{target}__in" if self.lookup else f"{target}__in"
        else:
            name = f"{self.lookup}__pk__in" if self.lookup else "pk__in"
        bases: QuerySet[Any] = self.resource.model._base_manager.using(using)
        return list(bases.filter(**{name: rows}).values_list("pk", flat=True).distinct())

    def _got(self, pks: Iterable[Any], using: str) -> list[Any]:
        found = []
        for instance in self.model._base_manager.using(using).filter(pk__in=list(pks)):
            try:
                found += [base.pk for base in self.getter(instance)]  # type: ignore[misc]  # asked by base_keys
            except ObjectDoesNotExist:
                continue
        return found


@dataclass(frozen=True)
class Link:
    """A many-to-many relation in a tree: rows of its table come and go by ``m2m_changed``."""

    near: Path
    far: Path
    #: Whether the row on the base's side is the one that defines the field.
    is_near_source: bool
    is_symmetrical: bool


@dataclass
class Trace:
    """What is known of one resource."""

    resource: Resource
    tree: Node
    paths: list[Path] = field(default_factory=list)
    links: list[tuple[type[Model], Link]] = field(default_factory=list)
    #: Names in ``depends_on`` that lead nowhere.
    mistakes: list[str] = field(default_factory=list)
    #: Raised when the serializer was made or read.
    error: Exception | None = None

    @cached_property
    def select_related(self) -> list[str]:
        """The relations that one row is joined with."""
        return [node.accessor for node in self._read() if not _is_behind_many(node)]

    @cached_property
    def prefetch_related(self) -> list[str]:
        """The relations that are read for all objects at once."""
        return [node.accessor for node in self._read() if _is_behind_many(node)]

    def _read(self) -> list[Node]:
        return [
            node
            for node in self.tree
            if node.parent
            and (not node.is_key_only or node.is_many or is_reverse(node.relation))
            and _is_serialized(node)
        ]


def trace(resource: Resource) -> Trace:
    """Find the paths of one resource. Asks the database nothing."""
    found = Trace(resource, Node(resource.model))
    context = {"request": None, **resource.get_serializer_context()}
    try:
        tree = found.tree = read(resource.serializer_class(context=context), resource.model)
    except Exception as error:  # noqa: BLE001  # a project's own code, reported by a check
        found.error = error
        found.paths.append(Path(resource, resource.model, "", None))
        return found
    for name in resource.depends_on:
        _declare(name, found)
    declared = resource.signal_model_instance_base_getters
    known = {model._meta.concrete_model for model in declared}
    by_node: dict[int, Path] = {}
    for node in tree:
        if node.model._meta.concrete_model in known and node.parent:
            continue
        by_node[id(node)] = path = _path(resource, node)
        found.paths.append(path)
    for node in tree:
        if node.parent and is_many_to_many(node.relation):
            _trace_many_to_many(found, node, by_node)
    found.paths += [
        Path(resource, model, "", None, getter=getter)
        for model, getter in declared.items()
        if getter is not None
    ]
    return found


def _path(resource: Resource, node: Node) -> Path:
    columns: frozenset[str] | None = frozenset(node.columns)
    if node.opaque or node.unreachable:
        columns = None
    link_columns: frozenset[str] = frozenset()
    if node.parent and is_reverse(node.relation):
        link_columns = frozenset(each.attname for each in node.relation.field.local_related_fields)
    elif hasattr(node.relation, "object_id_field_name"):
        # A GenericRelation, not imported: the contenttypes app may be absent.
        kind: Any = node.model._meta.get_field(node.relation.content_type_field_name)
        link_columns = frozenset({node.relation.object_id_field_name, kind.attname})
    return Path(resource, node.model, node.lookup, columns, link_columns)


def _declare(name: str, found: Trace) -> None:
    """Add an ORM path that the serializer reads unseen, up to a relation or a column."""
    node = found.tree
    for part in name.split("__"):
        relation = relation_or_column(node.model, part)
        if relation is None:
            relation = next(
                (each for each in node.model._meta.related_objects if each.name == part), None
            )
        if relation is None:
            found.mistakes.append(
                f"{name!r}: {node.model.__name__} has no relation or column {part!r}"
            )
            return
        if isinstance(relation, str):
            node.columns.add(relation)
            node.is_key_only = False
            return
        accessor = getattr(relation, "get_accessor_name", None)
        node = node.child(relation, accessor=(accessor() if accessor else part) or part)
    node.columns.update(column.attname for column in node.model._meta.concrete_fields)
    node.is_key_only = False


def _trace_many_to_many(found: Trace, node: Node, by_node: dict[int, Path]) -> None:
    near, far = by_node.get(id(node.parent)), by_node.get(id(node))
    if near is None or far is None:
        return
    relation = node.relation
    is_source = not relation.auto_created
    definition = relation if is_source else relation.field
    through = definition.remote_field.through
    names = (definition.m2m_field_name(), definition.m2m_reverse_field_name())
    near_name, far_name = names if is_source else names[::-1]
    is_symmetrical = bool(definition.remote_field.symmetrical)
    found.links.append((through, Link(near, far, is_source, is_symmetrical)))
    if through._meta.auto_created:
        # Its rows send no signals, and a receiver would make Django load them to delete them.
        return
    # Rows of the table that are saved and deleted by hand.
    ends = {
        each.attname for each in through._meta.concrete_fields if each.name in {near_name, far_name}
    }
    found.paths.append(
        Path(
            found.resource,
            through,
            near.lookup,
            frozenset(ends),
            frozenset(ends),
            through=through,
            near=near_name,
        )
    )


def _is_behind_many(node: Node) -> bool:
    return node.is_many or (node.parent is not None and _is_behind_many(node.parent))


def _is_serialized(node: Node) -> bool:
    """Tell whether Python's attributes lead to a node: hidden relations have none."""
    parts = node.accessor.split("__")
    return all(part and not part.endswith("+") for part in parts)


class Index:
    """Every path of every resource, by the model class that sends the signal."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        self.traces = [trace(each) for each in resources if hasattr(each, "model")]
        self.bases: dict[type[Model], list[Resource]] = defaultdict(list)
        self.nested: dict[type[Model], list[Path]] = defaultdict(list)
        self.links: dict[type[Model], list[Link]] = defaultdict(list)
        for found in self.traces:
            for path in found.paths:
                if path.lookup or path.getter or path.through:
                    self.nested[_concrete(path.model)].append(path)
                else:
                    self.bases[_concrete(path.model)].append(found.resource)
            for through, link in found.links:
                self.links[through].append(link)
        self._base_paths = {
            found.resource: path
            for found in self.traces
            for path in found.paths
            if not (path.lookup or path.getter or path.through)
        }
        self._by_resource = {found.resource: found for found in self.traces}

    def trace_of(self, resource: Resource) -> Trace:
        """Return what is known of a resource."""
        return self._by_resource[resource]

    def base_path(self, resource: Resource) -> Path:
        """Return the path of a resource's own base objects, whose lookup is empty."""
        return self._base_paths[resource]

    @cached_property
    def senders(self) -> set[type[Model]]:
        """The classes whose signals matter: models, their proxies, parents and children."""
        models = {*self.bases, *self.nested}
        related: set[type[Model]] = set()
        for model in models:
            family = [
                model,
                *(_concrete(parent) for parent in model._meta.all_parents),
                *_below(model),
            ]
            for member in family:
                related |= {member, *_proxies(member)}
        return related


_index: tuple[int, Index] | None = None


def index() -> Index:
    """Return the paths of everything that is declared now."""
    global _index  # noqa: PLW0603  # compiled once for each state of the registry
    kept = _index
    if kept is None or kept[0] != registry.generation:
        generation = registry.generation
        kept = _index = generation, Index(registry)
    return kept[1]


def _concrete(model: type[Model]) -> type[Model]:
    concrete: type[Model] = model._meta.concrete_model  # type: ignore[assignment]  # abstract models have no rows
    return concrete


def _below(model: type[Model]) -> list[type[Model]]:
    found = []
    for child in model.__subclasses__():
        if not child._meta.abstract and not child._meta.proxy:
            found.append(child)
        found += _below(child)
    return found


def _proxies(model: type[Model]) -> list[type[Model]]:
    found = []
    for child in model.__subclasses__():
        if child._meta.proxy:
            found += [child, *_proxies(child)]
    return found
