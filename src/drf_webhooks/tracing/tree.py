"""Read a serializer as a tree of models: which columns and relations its fields read."""

from collections.abc import Iterator
from dataclasses import dataclass, field
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

__all__ = ["Node", "Opaque", "Unreachable", "read"]


@dataclass(frozen=True)
class Opaque:
    """A field whose code reads what the tree cannot show."""

    name: str
    kind: str


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
    columns: set[str] = field(default_factory=set)
    opaque: list[Opaque] = field(default_factory=list)
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
                lookup=f"{self.lookup}__{name}" if self.lookup else name,
                accessor=f"{self.accessor}__{accessor}" if self.accessor else accessor,
                relation=relation,
                parent=self,
                is_many=bool(relation.one_to_many or relation.many_to_many),
            )
        if isinstance(relation, ForeignObject):
            self.columns.update(column.attname for column in relation.local_related_fields)
        return self.children[name]

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


def read(serializer: serializers.BaseSerializer[Any], model: type[Model]) -> Node:
    """Return the tree of a serializer instance. Asks the database nothing."""
    root = Node(model)
    _read_serializer(serializer, root)
    return root


def _read_serializer(serializer: Any, node: Node) -> None:
    node.is_key_only = False
    if not isinstance(serializer, serializers.Serializer):
        node.opaque.append(Opaque(type(serializer).__name__, "serializer"))
        return
    plain = (
        serializers.Serializer.to_representation,
        serializers.ModelSerializer.to_representation,
    )
    if type(serializer).to_representation not in plain:
        node.opaque.append(Opaque(type(serializer).__name__, "to_representation"))
    for each in serializer.fields.values():
        if not each.write_only:
            _read_field(each, node)


def _read_field(each: Any, node: Node) -> None:
    if isinstance(each, serializers.SerializerMethodField):
        node.opaque.append(Opaque(str(each.field_name), "method"))
        return
    reached = _follow(each, node)
    inner = getattr(each, "child_relation", getattr(each, "child", each))
    if isinstance(inner, serializers.BaseSerializer):
        if reached is not None:
            _read_serializer(inner, reached)
        else:
            _read_lost(str(each.field_name), inner, node)
    elif isinstance(inner, relations.RelatedField) and reached is not None:
        _read_relation(inner, reached)


def _read_lost(name: str, serializer: Any, node: Node) -> None:
    """Keep a nested serializer in mind whose source is no relation."""
    model = getattr(getattr(serializer, "Meta", None), "model", None)
    if model is not None:
        node.unreachable.append(Unreachable(name, model))
        for above in node:
            # What is said of the nested model says it better.
            above.opaque = [each for each in above.opaque if each.name != name]
    for each in getattr(serializer, "fields", {}).values():
        inner = getattr(each, "child", each)
        if isinstance(inner, serializers.BaseSerializer) and not each.write_only:
            _read_lost(f"{name}.{each.field_name}", inner, node)


def _read_relation(inner: Any, node: Node) -> None:
    if isinstance(inner, relations.SlugRelatedField):
        _follow_names(inner.slug_field.split("__"), node, inner.field_name or inner.slug_field)
        node.is_key_only = False
    elif isinstance(inner, relations.HyperlinkedRelatedField):
        if inner.lookup_field != "pk":
            _follow_names(inner.lookup_field.split("__"), node, inner.lookup_field)
            node.is_key_only = False
    elif not isinstance(inner, relations.PrimaryKeyRelatedField):
        node.opaque.append(Opaque(type(inner).__name__, "related field"))
        node.is_key_only = False


def _follow(each: Any, node: Node) -> Node | None:
    """Follow a field's source from a node; ``None`` if it leads to no model."""
    if each.source == "*":
        if not isinstance(
            each, serializers.BaseSerializer | relations.RelatedField | serializers.HiddenField
        ):
            node.opaque.append(Opaque(each.field_name, type(each).__name__))
        return node
    return _follow_names(each.source_attrs, node, each.field_name)


def _follow_names(names: list[str], node: Node, field_name: str) -> Node | None:
    for name in names:
        found = relation_or_column(node.model, name)
        if isinstance(found, str):
            node.columns.add(found)
            node.is_key_only = False
            return None
        if found is None:
            node.opaque.append(Opaque(field_name, name))
            node.is_key_only = False
            return None
        node = node.child(found, accessor=name)
    return node


def relation_or_column(model: type[Model], name: str) -> Any:
    """Return a relation, a column's attribute name, or ``None`` for anything else."""
    for relation in model._meta.related_objects:
        if relation.get_accessor_name() == name:
            return relation
    try:
        found = model._meta.pk if name == "pk" else model._meta.get_field(name)
    except FieldDoesNotExist:
        by_column = {each.attname: each for each in model._meta.concrete_fields}
        return by_column[name].attname if name in by_column else None
    if isinstance(found, ForeignObjectRel):
        # Found by its query name, which is no attribute of an instance.
        return None
    if found is not None and found.is_relation and found.related_model is not None and name != "pk":
        return found
    return getattr(found, "attname", None)


def is_reverse(relation: Any) -> bool:
    """Tell whether the row behind a relation holds the key of the row before it."""
    return isinstance(relation, ManyToOneRel)


def is_many_to_many(relation: Any) -> bool:
    """Tell whether rows of a table between the two make the relation."""
    return isinstance(relation, ManyToManyField | ManyToManyRel)
