"""Read a serializer as a tree of models: which columns and relations its fields read."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model
from django.db.models.fields.related import ForeignObject, ManyToManyField
from django.db.models.fields.reverse_related import (
    ForeignObjectRel,
    ManyToManyRel,
    ManyToOneRel,
)
from rest_framework import relations, serializers

from drf_webhooks.dependencies import declared
from drf_webhooks.tracing.fields import declared_fields, plain_names

__all__ = ["Node", "Opaque", "Unreachable", "add", "read"]


@dataclass(frozen=True)
class Opaque:
    """A place where code runs that may read what the tree cannot show."""

    name: str
    kind: str
    #: The serializer or field whose methods run.
    code: Any = field(default=None, compare=False, repr=False)
    #: The lookup of the instance that the code gets.
    given: str = ""
    #: Whether ``to_representation()`` gets the instance, not what ``get_attribute()`` returned.
    is_given_value: bool = False
    #: Whether the code gets the row itself, or only the value of a column that is read anyway.
    sees_row: bool = True
    #: Whether it is worth a word: what is said of a nested model may say it better.
    is_named: bool = True


@dataclass(frozen=True)
class Unreachable:
    """A nested serializer's model that no relation leads to."""

    name: str
    model: type[Model]


@dataclass
class Node:
    """One model in the tree, reached by one chain of relations.

    ``lookup`` is the chain in the ORM's spelling, from the base model; ``accessor`` the same
    in Python's. ``relation`` is its last link, as the model before it knows it.
    """

    model: type[Model]
    name: str = ""
    lookup: str = ""
    accessor: str = ""
    relation: Any = None
    parent: "Node | None" = None
    is_many: bool = False
    #: Only the key is read, so that saving the row alters nothing.
    is_key_only: bool = True
    #: Whether it is the same object as the node before it, in a parent's table.
    is_parent_row: bool = False
    #: Whether any column may be read, as by an annotation.
    reads_all: bool = False
    #: Whether Python's attributes lead to it: of a join or a hidden relation they need not.
    is_serialized: bool = True
    #: Why it is monitored, for people; empty if a field of the serializer shows it.
    rule: str = ""
    columns: set[str] = field(default_factory=set)
    #: Names that the queryset adds to its rows.
    annotations: frozenset[str] = frozenset()
    opaque: list[Opaque] = field(default_factory=list)
    #: What code that runs on the row declares that it reads.
    declared: list[str] = field(default_factory=list)
    unreachable: list[Unreachable] = field(default_factory=list)
    children: dict[str, "Node"] = field(default_factory=dict)

    def __iter__(self) -> Iterator["Node"]:
        yield self
        for child in self.children.values():
            yield from child

    def child(self, relation: Any, *, accessor: str) -> "Node":
        """Return the node behind a relation of this one's model."""
        name: str = relation.name
        if name not in self.children:
            self.children[name] = Node(
                model=relation.related_model,
                name=accessor,
                lookup="__".join(filter(None, (self.lookup, name))),
                accessor="__".join(filter(None, (self.accessor, accessor))),
                relation=relation,
                parent=self,
                is_many=bool(relation.one_to_many or relation.many_to_many),
                is_parent_row=not accessor,
            )
            if self.children[name].is_many:
                _read_ordering(self.children[name])
        if isinstance(relation, ForeignObject):
            self.columns.update(column.attname for column in relation.local_related_fields)
        elif is_reverse(relation):
            # What the other rows hold, if it is not the primary key, may change here.
            held = relation.field.foreign_related_fields
            self.columns.update(each.attname for each in held if not each.primary_key)
        return self.children[name]

    def holder(self, model: Any) -> "Node":
        """Return the node of the table that holds what a model of this one's family defines.

        A row of a child in multi-table inheritance has its parents' columns in their tables.
        """
        node = self
        concrete = model._meta.concrete_model
        while node.model._meta.concrete_model is not concrete:
            own: Any = node.model._meta.concrete_model
            node = node.child(own._meta.get_ancestor_link(concrete), accessor="")
            node.is_key_only = False
        return node

    def read_row(self) -> None:
        """Note that every column may be read, those in parents' tables too."""
        self.is_key_only = False
        self.reads_all = True
        for parent in self.model._meta.all_parents:
            if parent._meta.concrete_model is not self.model._meta.concrete_model:
                self.holder(parent).reads_all = True

    def draw(self, indent: str = "") -> str:
        """Return the tree as text, a line for each model."""
        label = f"{self.name}: {self.model.__name__}" if self.name else self.model.__name__
        lines = [indent + label]
        lines += [child.draw(indent + "    ") for child in self.children.values()]
        lines += [
            f"{indent}    {each.name}: {each.model.__name__}  <- nothing leads back"
            for each in self.unreachable
        ]
        return "\n".join(lines)


def read(
    serializer: serializers.BaseSerializer[Any],
    model: type[Model],
    annotations: Iterable[str] = (),
    *,
    is_used: bool = False,
) -> Node:
    """Return the tree of a serializer instance. Asks the database nothing.

    Args:
        serializer: Any instance: its fields may depend on how it was made.
        model: What it serializes.
        annotations: Names that the queryset adds to each row.
        is_used: Whether the fields themselves are wanted, since the serializer will be used.

    """
    root = Node(model, annotations=frozenset(annotations))
    _read_serializer(serializer, root, is_used=is_used)
    return root


def add(serializer: serializers.BaseSerializer[Any], tree: Node) -> None:
    """Add to a tree what another serializer of the same model reads."""
    _read_serializer(serializer, tree, is_used=False)
    for node in tree:
        node.opaque = list(dict.fromkeys(node.opaque))
        node.unreachable = list(dict.fromkeys(node.unreachable))


def _read_ordering(node: Node) -> None:
    """Read what several rows are sorted by, unless it is their key."""
    for each in node.model._meta.ordering or ():
        names = str(each).removeprefix("-").split("__") if isinstance(each, str) else []
        if names in (["pk"], [node.model._meta.pk.attname]):
            continue
        place = node
        found: Any = None
        for name in names:
            if isinstance(found, str):
                # A transform of a column.
                break
            found, place = resolve_name(place, name)
            if found is None:
                break
            if isinstance(found, str):
                place.columns.add(found)
            else:
                place = place.child(found, accessor=name)
        if found is None:
            # An expression, or a name that only the ORM knows.
            node.read_row()
        elif not isinstance(found, str):
            # Sorted by a relation: by the ordering of what it leads to.
            place.read_row()


def _read_serializer(serializer: Any, node: Node, *, is_used: bool) -> None:
    node.is_key_only = False
    if not isinstance(serializer, serializers.Serializer):
        _note_value(node, serializer, "serializer")
        return
    if type(serializer).to_representation not in _PLAIN:
        _note_value(node, serializer, "to_representation")
    names = None if is_used else plain_names(serializer, node.model)
    fields = serializer.fields.values() if names is None else declared_fields(serializer)
    for each in fields:
        if not each.write_only:
            _read_field(each, node, is_used=is_used)
    for name in names or ():
        _follow_names([name], node, None, name)


_PLAIN = (
    serializers.Serializer.to_representation,
    serializers.ModelSerializer.to_representation,
)


def _note(node: Node, opaque: Opaque, *functions: Any) -> None:
    """Note code, unless the functions of it declare what they read."""
    known = [declared(each) for each in functions]
    if opaque.sees_row:
        node.read_row()
    if any(each is not None for each in known):
        node.declared += [path for each in known if each is not None for path in each]
    else:
        node.opaque.append(opaque)


def _note_value(node: Node, code: Any, kind: str, *functions: Any) -> None:
    """Note code whose ``to_representation()`` gets an instance of a node's model."""
    opaque = Opaque(type(code).__name__, kind, code, node.lookup, is_given_value=True)
    _note(node, opaque, type(code).to_representation, *functions)


def _read_field(each: Any, node: Node, *, is_used: bool) -> None:
    name = str(each.field_name)
    if isinstance(each, serializers.SerializerMethodField):
        method = getattr(each.parent, each.method_name or "", None)
        _note(node, Opaque(name, "method", each, node.lookup), method)
        return
    reached = _follow(each, node)
    inner = getattr(each, "child_relation", getattr(each, "child", each))
    if isinstance(inner, serializers.BaseSerializer):
        if reached is not None:
            _read_serializer(inner, reached, is_used=is_used)
        else:
            _read_lost(name, inner, node)
    elif isinstance(inner, relations.RelatedField):
        if reached is not None:
            _read_relation(inner, reached)
    elif each.source != "*":
        _read_code(each, name, node)


def _read_code(each: Any, name: str, node: Node) -> None:
    """Note a field class of the project's own, whose code may do more than print a value."""
    if not _is_own(type(each).to_representation) and not _is_own(type(each).get_attribute):
        return
    # In get_attribute() it gets the row, in to_representation() a value.
    sees_row = _is_own(type(each).get_attribute)
    opaque = Opaque(name, type(each).__name__, each, node.lookup, sees_row=sees_row)
    _note(node, opaque, type(each).to_representation, type(each).get_attribute)


def _is_own(method: Any) -> bool:
    return not str(method.__module__).startswith("rest_framework.")


def _read_lost(name: str, serializer: Any, node: Node) -> None:
    """Keep a nested serializer in mind whose source is no relation."""
    model = getattr(getattr(serializer, "Meta", None), "model", None)
    if model is not None:
        node.unreachable.append(Unreachable(name, model))
        for above in node:
            # What is said of the nested model says it better.
            above.opaque = [
                replace(each, is_named=each.is_named and each.name != name) for each in above.opaque
            ]
    for each in getattr(serializer, "fields", {}).values():
        inner = getattr(each, "child", each)
        if isinstance(inner, serializers.BaseSerializer) and not each.write_only:
            _read_lost(f"{name}.{each.field_name}", inner, node)


def _read_relation(inner: Any, node: Node) -> None:
    name = str(inner.field_name or type(inner).__name__)
    if isinstance(inner, relations.SlugRelatedField):
        _follow_names(inner.slug_field.split("__"), node, inner, name or inner.slug_field)
        node.is_key_only = False
    elif isinstance(inner, relations.HyperlinkedRelatedField):
        if inner.lookup_field != "pk":
            _follow_names(inner.lookup_field.split("__"), node, inner, inner.lookup_field)
            node.is_key_only = False
    elif not isinstance(inner, relations.PrimaryKeyRelatedField) or _is_own(
        type(inner).to_representation
    ):
        text = (node.model.__str__,) if isinstance(inner, relations.StringRelatedField) else ()
        _note_value(node, inner, "related field", *text)


def _follow(each: Any, node: Node) -> Node | None:
    """Follow a field's source from a node; ``None`` if it leads to no model."""
    if each.source == "*":
        if not isinstance(
            each, serializers.BaseSerializer | relations.RelatedField | serializers.HiddenField
        ):
            opaque = Opaque(each.field_name, type(each).__name__, each, node.lookup)
            _note(node, opaque, type(each).to_representation)
        return node
    return _follow_names(each.source_attrs, node, each, each.field_name)


def _follow_names(names: list[str], node: Node, code: Any, field_name: str) -> Node | None:
    given = node.lookup
    for name in names:
        found, node = resolve_name(node, name)
        if isinstance(found, str):
            node.columns.add(found)
            node.is_key_only = False
            return None
        if found is None:
            if name not in node.annotations:
                is_value = isinstance(code, relations.RelatedField)
                opaque = Opaque(field_name, name, code, given, is_given_value=is_value)
                _note(node, opaque, getattr(node.model, name, None))
            return None
        node = node.child(found, accessor=name)
    return node


def resolve_name(node: Node, name: str) -> tuple[Any, Node]:
    """Return what an attribute of a row is, and the node of the table that holds it.

    A relation, a column's attribute name, or ``None`` for anything else.
    """
    model = node.model
    for relation in model._meta.related_objects:
        if relation.get_accessor_name() == name:
            return relation, node.holder(relation.model)
    found: Any
    try:
        found = model._meta.pk if name == "pk" else model._meta.get_field(name)
    except FieldDoesNotExist:
        return None, node
    if found is None or isinstance(found, ForeignObjectRel):
        # Found by its query name, which is no attribute of an instance.
        return None, node
    holder = node.holder(found.model)
    if getattr(found, "field_names", None) and name in {"pk", found.name}:
        # A CompositePrimaryKey, of Django 5.2: it is no column itself.
        fields: list[Any] = [holder.model._meta.get_field(each) for each in found.field_names]
        holder.columns.update(each.attname for each in fields)
        holder.is_key_only = False
        return "pk", holder
    is_column = name == "pk" or name != found.name
    if found.is_relation and found.related_model is not None and not is_column:
        return found, holder
    if hasattr(found, "fk_field") and hasattr(found, "ct_field"):
        # A GenericForeignKey, not imported: the contenttypes app may be absent.
        kind: Any = holder.model._meta.get_field(found.ct_field)
        holder.columns.update({found.fk_field, kind.attname})
        return None, node
    column: str | None = getattr(found, "attname", None)
    return column, holder


def of_join(join_field: Any) -> Any:
    """Return the relation that a join follows, in the direction of the join.

    Django names the joins of a generic relation the other way round.
    """
    generic = getattr(join_field, "field", None)
    if hasattr(generic, "object_id_field_name"):
        return generic
    if hasattr(join_field, "object_id_field_name"):
        return join_field.remote_field
    return join_field


def is_reverse(relation: Any) -> bool:
    """Tell whether the row behind a relation holds the key of the row before it."""
    return isinstance(relation, ManyToOneRel)


def is_many_to_many(relation: Any) -> bool:
    """Tell whether rows of a table between the two make the relation."""
    return isinstance(relation, ManyToManyField | ManyToManyRel)
