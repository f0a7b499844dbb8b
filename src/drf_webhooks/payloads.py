"""Load base objects afresh and serialize them, once for each audience."""

import json
import logging
import threading
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from django.db import DatabaseError
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.utils.encoders import JSONEncoder

from drf_webhooks.changes import Found, Key, object_key
from drf_webhooks.conf import config
from drf_webhooks.exceptions import PayloadError
from drf_webhooks.registry import registry
from drf_webhooks.scoping import owner_key
from drf_webhooks.tracing.index import index
from drf_webhooks.tracing.learnt import learnt
from drf_webhooks.tracing.paths import Resource
from drf_webhooks.tracing.reads import Read
from drf_webhooks.tracing.tree import Opaque, read
from drf_webhooks.tracing.watching import Watch

__all__ = [
    "Loaded",
    "data_of",
    "encode",
    "forms",
    "found",
    "key_data",
    "load",
    "message",
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


def load(resource: Resource, pks: Sequence[Any], using: str) -> dict[Key, Loaded]:
    """Read base objects by primary key, with the relations that the serializer reads."""
    trace = index().trace_of(resource)
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


def data_of(resource: Resource, instance: Any, owner: Any = None) -> bytes:
    """Return the serialized form of a base object as JSON.

    Raises:
        PayloadError: the serializer failed, or its result is no JSON.
        DatabaseError: a query of the serializer failed. Not a matter of the payload alone:
            PostgreSQL refuses everything that follows in the transaction.

    """
    watch: Watch | None = None
    try:
        serializer, watch = _serializer(resource, owner)
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
        _, watch = _serializer(resource, owner)
        data_of(resource, loaded.instance, owner)
        found |= watch.last
        unknown += watch.unknown
    return found, unknown


def key_data(resource: Resource, pk: Any) -> bytes:
    """Return the fields of the serialized form that hold the primary key, as JSON."""
    name = resource.model._meta.pk.name
    serializer, _ = _serializer(resource, None)
    for each in serializer.fields.values():
        if not each.write_only and each.source in {name, "pk"}:
            return encode({each.field_name: each.to_representation(pk)})
    return encode({name: pk})


def found(resource: Resource, loaded: Loaded) -> tuple[Found, ...]:
    """Keep what a deleted object's event will need: its owners, and its form if asked for."""
    is_whole = resource.deleted_payload == "full"
    return tuple(
        Found(
            (owner_key(owner),),
            data_of(resource, loaded.instance, owner) if is_whole else None,
        )
        for owner in loaded.owners
    )


def forms(resource: Resource, loaded: Loaded) -> dict[Any, bytes]:
    """Return the serialized form of a base object for each of its owners.

    Raises:
        PayloadError: it cannot be serialized.

    """
    return {owner_key(owner): data_of(resource, loaded.instance, owner) for owner in loaded.owners}


def encode(data: Any) -> bytes:
    """Return compact UTF-8 JSON, of everything that DRF's renderer takes."""
    text = json.dumps(
        data, cls=JSONEncoder, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )
    return text.encode()


def message(
    event_type: str,
    *,
    data: bytes,
    sequence: int,
    at: datetime,
    object_key: Key = "",
    is_replay: bool = False,
) -> bytes:
    """Return the body that is sent (Standard Webhooks 1.0.0, payload structure)."""
    members = {"type": event_type, "timestamp": at, "sequence": sequence}
    front = encode({**members, "replay": True} if is_replay else members)
    body = front[:-1] + b',"data":' + data + b"}"
    if len(body) > config().PAYLOAD_WARN_BYTES:
        logger.warning(
            "%s %s has a message of %d bytes. Receivers expect less than %d.",
            event_type,
            object_key,
            len(body),
            config().PAYLOAD_WARN_BYTES,
        )
    return body


def _serializer(resource: Resource, owner: Any) -> tuple[Any, Watch]:
    """Return a serializer, kept for each thread: to make one costs more than to use it.

    Used for one object after the other, like the child of a ``ListSerializer``. What its code
    reads meanwhile is watched.
    """
    kept: dict[Any, tuple[int, dict[str, Any], tuple[Any, Watch]]] = (
        _serializers.__dict__.setdefault("kept", {})
    )
    context = {"request": _request(config().BASE_URL), **resource.get_serializer_context(owner)}
    known = kept.get(resource)
    if known is not None and known[0] == registry.generation and _is_same(known[1], context):
        return known[2]
    serializer = resource.serializer_class(context=context)
    annotations = resource.get_queryset().query.annotations
    watched = serializer, Watch(read(serializer, resource.model, annotations, is_used=True))
    kept[resource] = registry.generation, context, watched
    return watched


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


class _BaseRequest(HttpRequest):
    """A request that nobody made, for the URLs that serializers build from one."""

    def __init__(self, base_url: str) -> None:
        super().__init__()
        self._parts = urlsplit(base_url)
        self.method = "GET"

    def get_host(self) -> str:
        # The project's own setting: not to be checked against ALLOWED_HOSTS.
        return self._parts.netloc

    def _get_scheme(self) -> str:
        return self._parts.scheme


_requests: dict[str, Request] = {}


def _request(base_url: str | None) -> Request | None:
    """Return a request that makes absolute URLs, or ``None`` for relative ones."""
    if base_url is None:
        return None
    if base_url not in _requests:
        _requests[base_url] = Request(_BaseRequest(base_url))
    return _requests[base_url]


def primary_key(model: type[Model], key: Key) -> Any:
    """Return the primary key that canonical JSON text stands for."""
    value = json.loads(key)
    return tuple(value) if isinstance(value, list) else model._meta.pk.to_python(value)
