"""Read a queryset: which relations its joins follow, and which rows its subqueries read."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import Model
from django.db.models.expressions import Col
from django.db.models.lookups import Exact, In
from django.db.models.query import QuerySet
from django.db.models.sql import Query
from django.db.models.sql.where import AND

from drf_webhooks.tracing.tree import Node, of_join

__all__ = ["Between", "read_queryset"]


@dataclass(frozen=True)
class Between:
    """Rows that a subquery reads: ``near`` leads from ``via`` to rows of a node.

    ``entry`` leads from ``via`` to the rows meant, which may be joined to it. Without ``near``
    the subquery depends on all rows of ``via``.
    """

    node: Node
    model: type[Model]
    via: type[Model]
    near: str
    entry: str = ""


def read_queryset(queryset: QuerySet[Any], node: Node) -> list[Between]:
    """Add the joins of a queryset of a node's model to the node, and return its subqueries.

    Filters count: what they read decides which objects there are. Asks the database nothing.
    """
    query = queryset.query
    nodes = _join(query, node)
    found: list[Between] = []
    for inner in _subqueries(query):
        found += _read_subquery(inner, nodes, node)
    return found


def _join(query: Query, root: Node) -> dict[str, Node]:
    """Return the node of each alias; aliases that only lead through a table have none."""
    base = query.base_table
    nodes = {base: root} if base else {}
    waiting: list[tuple[str, Any]] = [
        (alias, join) for alias, join in query.alias_map.items() if join.parent_alias
    ]
    for alias, join in waiting:
        parent = nodes.get(join.parent_alias)
        if parent is None:
            continue
        after = [each for each in waiting if each[1].parent_alias == alias]
        for relation in parent.model._meta.get_fields(include_hidden=True):
            steps = [each.join_field for each in getattr(relation, "path_infos", ())]
            if not steps or steps[0] != join.join_field or relation.name.endswith("+"):
                continue
            if not steps[1:]:
                nodes[alias] = _reached(parent, relation)
            for far, last in after:
                if steps[1:] == [last.join_field]:
                    nodes[far] = _reached(parent, relation)
    return nodes


def _reached(parent: Node, relation: Any) -> Node:
    is_known = relation.name in parent.children
    accessor = getattr(relation, "get_accessor_name", lambda: relation.name)()
    node = parent.child(relation, accessor=accessor or relation.name)
    if not is_known:
        node.is_serialized = False
        node.rule = "queryset"
    node.read_row()
    return node


def _subqueries(query: Query) -> Iterator[Query]:
    for each in (*query.annotations.values(), query.where):
        yield from _within(each)


def _within(expression: Any) -> Iterator[Query]:
    inner = expression if isinstance(expression, Query) else getattr(expression, "query", None)
    if isinstance(inner, Query):
        yield inner
        yield from _subqueries(inner)
        return
    children = getattr(expression, "children", None)
    if children is None:
        sources = getattr(expression, "get_source_expressions", None)
        children = sources() if sources else ()
    for each in children:
        yield from _within(each)


def _read_subquery(inner: Query, nodes: dict[str, Node], root: Node) -> list[Between]:
    names = {inner.base_table: ""} | {
        alias: "" for alias, join in inner.alias_map.items() if not join.parent_alias
    }
    models: dict[str, Any] = {str(inner.base_table): inner.model}
    join: Any
    for alias, join in inner.alias_map.items():
        if join.parent_alias in names and join.parent_alias:
            front = names[join.parent_alias]
            relation = of_join(join.join_field)
            names[alias] = "__".join(filter(None, (front, relation.name)))
            models[alias] = relation.related_model
    via: Any = inner.model
    ties = [
        (nodes[outer.alias], "__".join(filter(None, (names[near.alias], near.target.name))))
        for near, outer in _outer_keys(inner)
        if outer.alias in nodes and near.alias in names
    ]
    node, lookup = ties[0] if ties else (root, "")
    return [Between(node, model, via, lookup, names[alias]) for alias, model in models.items()]


def _outer_keys(inner: Query) -> Iterator[tuple[Any, Any]]:
    """Give the comparisons of a key in a subquery with a key of the query around it."""
    is_narrowing = inner.where.connector == AND and not inner.where.negated
    for lookup in inner.where.children if is_narrowing else ():
        if not isinstance(lookup, Exact | In):
            continue
        sides = (lookup.lhs, lookup.rhs)
        for near, outer in (sides, sides[::-1]):
            if not (isinstance(near, Col) and isinstance(outer, Col)):
                continue
            if near.alias not in inner.alias_map or outer.alias in inner.alias_map:
                continue
            field: Any = near.target
            target = field.target_field if field.is_relation else field
            if target == outer.target:
                yield near, outer
