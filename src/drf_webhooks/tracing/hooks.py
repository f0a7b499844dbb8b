"""Let readers see what the ORM does: relations that are followed, queries that are executed.

Installed when the first reader is needed, so that a project whose serializers run no code of
its own has nothing of it. While nobody reads, each hook costs one look at a list.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

from django.apps import apps
from django.db.models.fields.related_descriptors import (
    ForwardManyToOneDescriptor,
    ReverseManyToOneDescriptor,
    ReverseOneToOneDescriptor,
)
from django.db.models.query import ModelIterable
from django.db.models.sql.compiler import SQLCompiler
from django.db.models.sql.subqueries import DeleteQuery, InsertQuery, UpdateQuery

from drf_webhooks.tracing.queries import analyse
from drf_webhooks.tracing.reads import Read, Reader, current, readers

__all__ = ["install"]

_lock = threading.Lock()

_WRITES = (DeleteQuery, InsertQuery, UpdateQuery)


def install() -> None:
    """Wrap Django's descriptors, its compiler, and what makes instances; once in a process."""
    with _lock:
        if not hasattr(SQLCompiler.execute_sql, "_drf_webhooks_original"):
            _install()


def _install() -> None:
    _wrap_descriptor(ForwardManyToOneDescriptor, lambda each: each.field)
    _wrap_descriptor(ReverseOneToOneDescriptor, lambda each: each.related)
    _wrap_descriptor(ReverseManyToOneDescriptor, _many)
    if apps.is_installed("django.contrib.contenttypes"):  # pragma: no branch  # nearly always
        _wrap_generic()
    _replace(SQLCompiler, "execute_sql", _execute_sql)
    _replace(ModelIterable, "__iter__", _iterate)


def _many(descriptor: Any) -> Any:
    """Return the relation behind a manager, from the side that it hangs on."""
    if hasattr(descriptor, "through"):
        return descriptor.rel if descriptor.reverse else descriptor.field
    # A generic relation is found by its field; of a reverse one that is on the other side.
    generic = hasattr(descriptor.field, "object_id_field_name")
    return descriptor.field if generic else descriptor.rel


def _wrap_descriptor(owner: Any, relation_of: Callable[[Any], Any]) -> None:
    def get(original: Any, descriptor: Any, instance: Any, cls: Any = None) -> Any:
        reader = current()
        if reader is None or instance is None:
            return original(descriptor, instance, cls)
        return _followed(
            reader,
            lambda: original(descriptor, instance, cls),
            lambda result: reader.followed(instance, relation_of(descriptor), result),
        )

    _replace(owner, "__get__", get)


def _wrap_generic() -> None:
    # Its models need the app; the descriptor is a class of its own from Django 6.1 on.
    from django.contrib.contenttypes import fields  # noqa: PLC0415  # see the line above

    owner: Any = getattr(fields, "GenericForeignKeyDescriptor", fields.GenericForeignKey)

    def get(original: Any, descriptor: Any, instance: Any, cls: Any = None) -> Any:
        reader = current()
        if reader is None or instance is None:
            return original(descriptor, instance, cls)
        key = getattr(descriptor, "field", descriptor)
        return _followed(
            reader,
            lambda: original(descriptor, instance, cls),
            lambda result: reader.pointed(instance, key, result),
        )

    _replace(owner, "__get__", get)


def _followed(reader: Reader, get: Callable[[], Any], note: Callable[[Any], None]) -> Any:
    """Get what a relation leads to; the query for it says nothing new."""
    was_quiet, reader.is_quiet = reader.is_quiet, True
    result = None
    try:
        result = get()
    finally:
        reader.is_quiet = was_quiet
        try:
            # What is not there may come.
            note(result)
        except Exception as error:  # noqa: BLE001  # the project's code must not fail of it
            reader.unknown.append(f"a relation: {type(error).__name__}: {error}")
    return result


def _execute_sql(original: Any, compiler: Any, *args: Any, **kwargs: Any) -> Any:
    reader = current()
    if reader is None:
        return original(compiler, *args, **kwargs)
    for each in readers():
        each.statements += 1
    query = compiler.query
    before = dict(query.alias_refcount)
    result = original(compiler, *args, **kwargs)
    if not reader.is_quiet and not isinstance(query, _WRITES):
        query._drf_webhooks_spots = _analysed(query, reader, before)
    return result


def _analysed(query: Any, reader: Reader, before: dict[str, int]) -> list[Read]:
    try:
        return analyse(query, reader, before)
    except Exception as error:  # noqa: BLE001  # the project's code must not fail of it
        reader.unknown.append(f"a query of {query.model}: {type(error).__name__}: {error}")
        return []


def _iterate(original: Any, iterable: Any) -> Iterator[Any]:
    reader = current()
    if reader is None:
        return iter(original(iterable))
    return _known(original(iterable), iterable.queryset.query, reader)


def _known(instances: Iterator[Any], query: Any, reader: Reader) -> Iterator[Any]:
    for each in instances:
        spots: list[Read] = getattr(query, "_drf_webhooks_spots", [])
        if spots:
            reader.know(each, spots)
        yield each


def _replace(owner: Any, name: str, hook: Callable[..., Any]) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return hook(original, self, *args, **kwargs)

    method._drf_webhooks_original = original  # type: ignore[attr-defined]  # how install() knows it
    setattr(owner, name, method)
