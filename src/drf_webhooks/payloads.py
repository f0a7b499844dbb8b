"""Load base objects afresh and serialize them, once for each audience."""

import json
import logging
import threading
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from django.db import DatabaseError
from django.db.models import Model, QuerySet
from rest_framework.relations import HyperlinkedIdentityField
from rest_framework.serializers import BaseSerializer

from drf_webhooks.changes import Found, Key, Operation, object_key
from drf_webhooks.conf import config
from drf_webhooks.contexts import context_of
from drf_webhooks.exceptions import PayloadError
from drf_webhooks.json_text import encode
from drf_webhooks.registry import registry
from drf_webhooks.scoping import owner_key
from drf_webhooks.tracing.index import index
from drf_webhooks.tracing.learnt import learnt
from drf_webhooks.tracing.paths import Resource
from drf_webhooks.tracing.reads import Read
from drf_webhooks.tracing.tree import Node, Opaque, read
from drf_webhooks.tracing.watching import Watch

__all__ = [
    "Loaded",
    "data_of",
    "forms",
    "found",
    "key_data",
    "key_fields",
    "key_names",
    "load",
    "owner_key",
    "primary_key",
    "watched",
]

logger = logging.getLogger(__name__)

_serializers = threading.local()
#: What is the same if it is equal.
_PLAIN = (str, bytes, int, float, Decimal, date, timedelta, uuid.UUID)


@dataclass(frozen=True)
class Loaded:
    """A base object as the database has it now, and who owns it.

    ``owners`` is ``(None,)`` for a resource without owners, and empty if nobody owns it.
    """

    instance: Any
    owners: tuple[Any, ...]


def load(
    resource: Resource,
    pks: Sequence[Any],
    using: str,
    *,
    writer: type[BaseSerializer[Any]] | None = None,
) -> dict[Key, Loaded]:
    """Read base objects by primary key, with the relations that the serializer reads.

    Args:
        resource: A declared resource.
        pks: Their keys.
        using: The database.
        writer: Another serializer than the resource's own.

    """
    trace = index().trace_of(resource, writer)
    queryset: QuerySet[Any] = resource.get_queryset().using(using)
    if trace.select_related:
        queryset = queryset.select_related(*trace.select_related)
    if trace.prefetch_related:
        queryset = queryset.prefetch_related(*trace.prefetch_related)
    chosen = queryset.filter(pk=pks[0]) if len(pks) == 1 else queryset.filter(pk__in=pks)
    return {
        object_key(instance.pk): Loaded(instance, _owners(resource, instance))
        for instance in chosen
    }


def _owners(resource: Resource, instance: Any) -> tuple[Any, ...]:
    if not resource.is_scoped():
        return (None,)
    owner = resource.get_owner(instance)
    if owner is None:
        return ()
    if isinstance(owner, Iterable) and not isinstance(owner, str | bytes | Model):
        return tuple(each for each in owner if each is not None)
    return (owner,)


def data_of(
    resource: Resource,
    instance: Any,
    owner: Any = None,
    *,
    version: str = "",
    name: str = Operation.UPDATED,
) -> bytes:
    """Return the serialized form of a base object as JSON.

    Args:
        resource: A declared resource.
        instance: The object.
        owner: Who is told.
        version: One that the resource declares.
        name: What is said: an operation, or a custom event.

    Raises:
        PayloadError: the serializer failed, or its result is no JSON.
        DatabaseError: a query of the serializer failed. Not a matter of the payload alone:
            PostgreSQL refuses everything that follows in the transaction.

    """
    watch: Watch | None = None
    try:
        serializer, watch = _serializer(resource, owner, version, name)
        return encode(serializer.to_representation(instance))
    except DatabaseError:
        raise
    except Exception as error:
        msg = (
            f"{resource.__name__} could not serialize {resource.model.__name__} "
            f"{object_key(instance.pk)}: {type(error).__name__}: {error}"
        )
        raise PayloadError(msg) from error
    finally:
        if watch:
            learnt.add(resource, watch.collect())


def watched(resource: Resource, loaded: Loaded) -> tuple[dict[Read, Opaque], list[str]]:
    """Serialize an object for each owner, and return what code read, and which code.

    What could not be analysed comes as texts.

    Raises:
        PayloadError: it cannot be serialized.

    """
    found: dict[Read, Opaque] = {}
    unknown: list[str] = []
    for owner in loaded.owners:
        for version in resource.versions or ("",):
            _, watch = _serializer(resource, owner, version)
            data_of(resource, loaded.instance, owner, version=version)
            found |= watch.last
            unknown += watch.unknown
    return found, unknown


def key_data(resource: Resource, pk: Any, version: str = "") -> bytes:
    """Return the fields of the serialized form that hold the primary key, as JSON."""
    name = resource.model._meta.pk.name
    for each in _key_fields(resource, version):
        return encode({each.field_name: each.to_representation(pk)})
    return encode({name: pk})


def key_names(resource: Resource, version: str = "") -> list[str]:
    """Return the members of the serialized form that say which object it is, and its URL."""
    serializer, _ = _serializer(resource, None, version)
    links = [
        each.field_name
        for each in getattr(serializer, "fields", {}).values()
        if isinstance(each, HyperlinkedIdentityField)
    ]
    return [*(each.field_name for each in _key_fields(resource, version)), *links]


def _key_fields(resource: Resource, version: str) -> list[Any]:
    serializer, _ = _serializer(resource, None, version)
    return key_fields(resource, serializer)


def key_fields(resource: Resource, serializer: Any) -> list[Any]:
    """Return the fields of a serializer that hold the primary key."""
    name = resource.model._meta.pk.name
    fields = getattr(serializer, "fields", {}).values()
    return [each for each in fields if not each.write_only and each.source in {name, "pk"}]


def found(resource: Resource, loaded: Loaded) -> tuple[Found, ...]:
    """Keep what a deleted object's event will need: its owners, and its form if asked for."""
    is_whole = resource.deleted_payload == "full"
    return tuple(
        Found(
            (owner_key(owner),),
            _forms_for(resource, loaded.instance, owner) if is_whole else None,
        )
        for owner in loaded.owners
    )


def forms(resource: Resource, loaded: Loaded) -> dict[Any, dict[str, bytes]]:
    """Return the serialized forms of a base object for each of its owners, by version.

    Raises:
        PayloadError: it cannot be serialized.

    """
    return {
        owner_key(owner): _forms_for(resource, loaded.instance, owner) for owner in loaded.owners
    }


def _forms_for(resource: Resource, instance: Any, owner: Any) -> dict[str, bytes]:
    return {
        version: data_of(resource, instance, owner, version=version)
        for version in resource.versions or ("",)
    }


def _serializer(
    resource: Resource, owner: Any, version: str = "", name: str = Operation.UPDATED
) -> tuple[Any, Watch]:
    """Return a serializer, kept for each thread: to make one costs more than to use it.

    Used for one object after the other, like the child of a ``ListSerializer``. What its code
    reads meanwhile is watched, unless it writes custom events only: what these tell of changes
    without being said.
    """
    kept: dict[Any, tuple[int, dict[str, Any], tuple[Any, Watch]]] = (
        _serializers.__dict__.setdefault("kept", {})
    )
    context = context_of(resource, owner, version=version, base_url=config().BASE_URL)
    writer = resource.serializer_for(name, version)
    place = resource, writer, version
    known = kept.get(place)
    if known is not None and known[0] == registry.generation and _is_same(known[1], context):
        return known[2]
    serializer = writer(context=context)
    annotations = resource.get_queryset().query.annotations
    node = read(serializer, resource.model, annotations, is_used=True)
    if resource.events.get(name):
        node = Node(resource.model)
    kept[place] = registry.generation, context, (serializer, Watch(node))
    return kept[place][2]


def _is_same(known: Any, given: Any) -> bool:
    """Tell whether a context may be taken for another.

    Models are equal by their key alone, but an owner may have lost a right since it was read: a
    serializer that was made for it then would still show what is not to be seen any more.
    """
    if known is given:
        return True
    if type(known) is not type(given):
        return False
    if isinstance(known, dict):
        return known.keys() == given.keys() and all(
            _is_same(value, given[key]) for key, value in known.items()
        )
    if isinstance(known, list | tuple):
        return len(known) == len(given) and all(map(_is_same, known, given))
    return isinstance(known, _PLAIN) and bool(known == given)


def primary_key(model: type[Model], key: Key) -> Any:
    """Return the primary key that canonical JSON text stands for."""
    value = json.loads(key)
    return tuple(value) if isinstance(value, list) else model._meta.pk.to_python(value)
