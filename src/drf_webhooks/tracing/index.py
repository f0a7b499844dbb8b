"""From what resources serialize: which rows of which models concern which base objects.

Compiled from the declarations alone, without a query, once for each state of the registry.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from django.db.models import ForeignKey, Model
from rest_framework.serializers import BaseSerializer

from drf_webhooks.contexts import context_of
from drf_webhooks.registry import registry
from drf_webhooks.tracing.learnt import learnt
from drf_webhooks.tracing.paths import Hang, Link, Path, Resource
from drf_webhooks.tracing.querysets import Between, read_queryset
from drf_webhooks.tracing.reads import Read
from drf_webhooks.tracing.tree import Node, add, is_many_to_many, is_reverse, read, resolve_name

__all__ = ["Index", "Trace", "index", "trace"]


@dataclass
class Trace:
    """What is known of one resource."""

    resource: Resource
    tree: Node
    paths: list[Path] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    #: Names in ``depends_on`` that lead nowhere.
    mistakes: list[str] = field(default_factory=list)
    #: Raised when the serializer was made or read.
    error: Exception | None = None
    #: How many reads of its code were known when this was compiled.
    learnt: int = 0

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
            and not node.is_parent_row
            and node.is_serialized
            and (not node.is_key_only or node.is_many or is_reverse(node.relation))
        ]


def trace(resource: Resource, seen: Sequence[Read] = ()) -> Trace:
    """Find the paths of one resource. Asks the database nothing.

    Args:
        resource: Need not be declared.
        seen: What its code was seen to read.

    """
    found = Trace(resource, Node(resource.model))
    between: list[Between] = []
    try:
        queryset = resource.get_queryset()
        annotations = queryset.query.annotations
        writers = resource.versions or {"": resource.serializer_class}
        first, *others = [
            writer(context=context_of(resource, version=version))
            for version, writer in writers.items()
        ]
        found.tree = read(first, resource.model, annotations)
        for serializer in others:
            add(serializer, found.tree)
        for name in resource.depends_on:
            _declare(name, found.tree, found)
        for node in list(found.tree):
            for name in node.declared:
                _declare(name, node, found)
        between = read_queryset(queryset, found.tree)
    except Exception as error:  # noqa: BLE001  # a project's own code, reported by a check
        found.error = error
        found.tree = Node(resource.model)
        found.paths.append(Path(resource, resource.model, "", None))
        return found
    for each in seen:
        _learn(each, found)
    found.learnt = len(seen)
    declared = resource.signal_model_instance_base_getters
    known = {model._meta.concrete_model for model in declared}
    by_node: dict[int, Path] = {}
    for node in found.tree:
        if node.model._meta.concrete_model in known and node.parent:
            continue
        by_node[id(node)] = path = _path(resource, node, by_node)
        found.paths.append(path)
    for node in found.tree:
        if node.parent and is_many_to_many(node.relation):
            _trace_many_to_many(found, node, by_node)
    found.paths += [
        _between(resource, each) for each in between if each.model._meta.concrete_model not in known
    ]
    for each in seen:
        if not each.is_relation and each.model._meta.concrete_model not in known:
            path = _seen(resource, each)
            found.paths.append(path)
            found.links += _link_between(resource, path)
    found.paths += [
        Path(resource, model, "", None, getter=getter, rule="declared getter")
        for model, getter in declared.items()
        if getter is not None
    ]
    return found


def _path(resource: Resource, node: Node, by_node: dict[int, Path]) -> Path:
    columns = None if node.reads_all or node.unreachable else frozenset(node.columns)
    above = by_node.get(id(node.parent))
    hang: Hang | None = None
    link_columns: frozenset[str] = frozenset()
    relation = node.relation
    if node.parent and is_reverse(relation):
        key = relation.field
        link_columns = frozenset(each.attname for each in key.local_related_fields)
        if above is not None and len(link_columns) == 1:
            hang = Hang(above, key.attname, key.target_field.name)
    elif isinstance(relation, ForeignKey):
        # A key that is copied from another column than the primary key breaks off with it.
        target = relation.target_field
        link_columns = frozenset() if target.primary_key else frozenset({target.attname})
    elif hasattr(relation, "object_id_field_name"):
        # A GenericRelation, not imported: the contenttypes app may be absent.
        kind: Any = node.model._meta.get_field(relation.content_type_field_name)
        link_columns = frozenset({relation.object_id_field_name, kind.attname})
        if above is not None:
            hang = Hang(above, relation.object_id_field_name, "pk", kind.attname)
    return Path(
        resource,
        node.model,
        node.lookup,
        columns,
        link_columns,
        hang=hang,
        is_parent_row=node.is_parent_row
        and (above is None or above.is_base or above.is_parent_row),
        rule=node.rule,
    )


def _between(resource: Resource, found: Between) -> Path:
    if not found.near:
        return Path(resource, found.model, "", None, is_whole=True, rule="subquery without a key")
    path = Path(
        resource,
        found.model,
        found.node.lookup,
        None,
        # Any column may say which rows the subquery finds.
        _all_columns(found.model),
        via=found.via,
        near=found.near,
        entry=found.entry,
        rule="subquery",
    )
    return replace(path, hang=_hang_between(path))


def _all_columns(model: type[Model]) -> frozenset[str]:
    return frozenset(each.attname for each in concrete(model)._meta.concrete_fields)


def _hang_between(path: Path) -> Hang | None:
    """Return what a row in between says of the row above it, if its own column says it."""
    if path.generic or (path.entry and not path.near.startswith(f"{path.entry}__")):
        return None
    rest = path.near[len(path.entry) :].removeprefix("__")
    first, _, then = rest.partition("__")
    key: Any = path.model._meta.get_field(first)
    if not isinstance(key, ForeignKey):
        return None
    above: Any = key.related_model
    if then:
        found = Path(path.resource, above, path.lookup, None, via=above, near=then)
    else:
        found = Path(path.resource, above, path.lookup, None)
    return Hang(found, key.attname, key.target_field.name)


def _learn(read: Read, found: Trace) -> None:
    """Add relations that code was seen to follow."""
    if not read.is_relation:
        return
    node = found.tree
    for name in read.lookup.split("__") if read.lookup else ():
        is_known = name in node.children
        relation: Any = node.model._meta.get_field(name)
        accessor = getattr(relation, "get_accessor_name", lambda name=name: name)()
        if relation.model._meta.concrete_model is not node.model._meta.concrete_model:
            # Defined by a parent in multi-table inheritance.
            node = node.holder(relation.model)
            is_known = name in node.children
        node = node.child(relation, accessor=accessor or name)
        if not is_known:
            node.rule = "learnt"
            # Code that follows one row is spared a query; of many it may want only some.
            node.is_serialized = not node.is_many and bool(
                node.parent and node.parent.is_serialized
            )
    node.read_row()


def _link_between(resource: Resource, path: Path) -> Iterator[Link]:
    """Watch the table of a hidden many-to-many relation that leads back to known rows."""
    near: Any = path.via._meta.get_field(path.near) if path.via and path.near != "pk" else None
    if near is None or not near.many_to_many:
        return
    known = Path(resource, near.related_model, path.lookup, None)
    through = near.remote_field.through
    column: Any = through._meta.get_field(near.m2m_reverse_field_name())
    yield Link(through, known, path, column.attname, is_near_source=False, is_symmetrical=False)


def _seen(resource: Resource, read: Read) -> Path:
    path = Path(
        resource,
        read.model,
        read.lookup,
        None,
        # Any column may say which rows the code finds.
        _all_columns(read.model) if read.via else frozenset(),
        via=read.via,
        near=read.near,
        entry=read.entry,
        generic=read.generic,
        is_whole=read.is_whole,
        rule="learnt",
    )
    return replace(path, hang=_hang_between(path)) if path.via else path


def _declare(name: str, start: Node, found: Trace) -> None:
    """Add an ORM path that code reads unseen, up to a relation or a column."""
    node = start
    for part in name.split("__"):
        relation, holder = resolve_name(node, part)
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
            holder.columns.add(relation)
            holder.is_key_only = False
            return
        accessor = getattr(relation, "get_accessor_name", None)
        node = holder.child(relation, accessor=(accessor() if accessor else part) or part)
        node.rule = node.rule or "depends_on"
    node.read_row()


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
    near_key: Any = through._meta.get_field(near_name)
    is_symmetrical = bool(definition.remote_field.symmetrical)
    found.links.append(Link(through, near, far, near_key.attname, is_source, is_symmetrical))
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
            via=through,
            near=near_name,
            hang=Hang(near, near_key.attname, near_key.target_field.name),
            rule="many-to-many table",
        )
    )


def _is_behind_many(node: Node) -> bool:
    return node.is_many or (node.parent is not None and _is_behind_many(node.parent))


class Index:
    """Every path of every resource, by the model class that sends the signal."""

    def __init__(self, resources: Iterable[Resource], before: "Index | None" = None) -> None:
        kept: dict[Resource, Trace] = {}
        if before is not None:
            kept = {found.resource: found for found in before.traces}
        self.traces: list[Trace] = [
            kept[each]
            if each in kept and kept[each].learnt == len(learnt.of(each))
            else trace(each, learnt.of(each))
            for each in resources
            if hasattr(each, "model")
        ]
        self.bases: dict[type[Model], list[Resource]] = defaultdict(list)
        self.nested: dict[type[Model], list[Path]] = defaultdict(list)
        self.links: dict[type[Model], list[Link]] = defaultdict(list)
        self._base_paths: dict[Resource, Path] = {}
        for found in self.traces:
            for path in found.paths:
                if path.is_base:
                    self.bases[concrete(path.model)].append(found.resource)
                    self._base_paths[found.resource] = path
                else:
                    self.nested[concrete(path.model)].append(path)
            for link in found.links:
                self.links[link.through].append(link)
        #: Those whose form takes rows of more than one object.
        self.composed = {path.resource for paths in self.nested.values() for path in paths}
        self._by_resource = {found.resource: found for found in self.traces}
        self._by_writer: dict[tuple[Resource, type[BaseSerializer[Any]]], Trace] = {}

    def trace_of(
        self, resource: Resource, writer: type[BaseSerializer[Any]] | None = None
    ) -> Trace:
        """Return what is known of a resource, or of what another serializer reads of its objects.

        The latter is for joining and prefetching only: it has no paths.
        """
        if writer is None:
            return self._by_resource[resource]
        place = resource, writer
        if place not in self._by_writer:
            serializer = writer(context=context_of(resource))
            annotations = resource.get_queryset().query.annotations
            tree = read(serializer, resource.model, annotations)
            self._by_writer[place] = Trace(resource, tree)
        return self._by_writer[place]

    def base_path(self, resource: Resource) -> Path:
        """Return the path of a resource's own base objects, whose lookup is empty."""
        return self._base_paths[resource]

    @cached_property
    def senders(self) -> set[type[Model]]:
        """The classes whose signals matter: models, their children and proxies.

        Saving a child in multi-table inheritance writes its parents' rows without a signal
        for them.
        """
        related: set[type[Model]] = set()
        for model in {*self.bases, *self.nested}:
            related |= {model, *_below(model)}
        return related


_index: tuple[int, int, Index] | None = None


def index() -> Index:
    """Return the paths of everything that is declared now."""
    global _index  # noqa: PLW0603  # compiled once for each state of the registry
    kept = _index
    now = registry.generation, learnt.generation
    if kept is None or kept[0] != now[0]:
        kept = _index = *now, Index(registry)
    elif kept[1] != now[1]:
        kept = _index = *now, Index(registry, kept[2])
    return kept[2]


def concrete(model: type[Model]) -> type[Model]:
    """Return the model that has the table."""
    found: type[Model] = model._meta.concrete_model  # type: ignore[assignment]  # abstract models have no rows
    return found


def _below(model: type[Model]) -> set[type[Model]]:
    below = model.__subclasses__()
    found = {child for child in below if not child._meta.abstract}
    return found.union(*map(_below, below))
