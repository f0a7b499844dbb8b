"""What is sent: the members around a form, thin messages, and the ways to write one event."""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import DatabaseError

from drf_webhooks import custom_headers, payloads, versions
from drf_webhooks.changes import Key
from drf_webhooks.conf import config
from drf_webhooks.event_types import Way
from drf_webhooks.exceptions import PayloadError
from drf_webhooks.json_text import encode
from drf_webhooks.tracing.paths import Resource

__all__ = [
    "Text",
    "Variants",
    "headers_of",
    "message",
    "needed",
    "thin_name",
    "thinned",
    "thinner",
    "variants",
    "with_extra",
]

logger = logging.getLogger(__name__)


def message(
    event_type: str,
    *,
    data: bytes,
    sequence: int,
    at: datetime,
    object_key: Key = "",
    is_replay: bool = False,
    version: str = "",
    previous: bytes | None = None,
) -> bytes:
    """Return the body that is sent (Standard Webhooks 1.0.0, payload structure)."""
    members: dict[str, Any] = {"type": event_type, "timestamp": at, "sequence": sequence}
    if is_replay:
        members["replay"] = True
    if version:
        members["version"] = version
    body = encode(members)[:-1] + b',"data":' + data
    body += b"}" if previous is None else b',"previous_attributes":' + previous + b"}"
    if len(body) > config().PAYLOAD_WARN_BYTES:
        logger.warning(
            "%s %s has a message of %d bytes. Receivers expect less than %d.",
            event_type,
            object_key,
            len(body),
            config().PAYLOAD_WARN_BYTES,
        )
    return body


def thinner(body: bytes, names: Iterable[str], *, otherwise: bytes) -> bytes:
    """Return a message that only says which object it is of.

    Args:
        body: The whole message.
        names: The members of ``data`` that are kept.
        otherwise: What ``data`` is if it has none of them, as JSON.

    """
    content = json.loads(body)
    data = content.pop("data")
    content.pop("previous_attributes", None)
    is_form = isinstance(data, dict)
    kept = {name: data[name] for name in names if name in data} if is_form else {}
    front = encode({**content, "thin": True})
    return front[:-1] + b',"data":' + (encode(kept) if kept else otherwise) + b"}"


def with_extra(data: bytes, extra: bytes | None) -> bytes:
    """Return a form with members that somebody has added.

    Raises:
        PayloadError: the form is no object.

    """
    if extra is None:
        return data
    form = json.loads(data)
    if not isinstance(form, dict):
        msg = f"emit() has members to add, and the serialized form is no object: {data[:50]!r}."
        raise PayloadError(msg)
    return encode({**form, **json.loads(extra)})


@dataclass(frozen=True)
class Text:
    """A message in one version."""

    version: str
    body: bytes


@dataclass
class Variants:
    """How one event is written besides its own body, and who gets what."""

    #: By name, which a delivery has.
    bodies: dict[str, bytes] = field(default_factory=dict)
    #: Empty is the event's own body.
    by_way: dict[Way, str] = field(default_factory=dict)
    #: What an endpoint gets that nobody knew of.
    otherwise: str = ""

    def __bool__(self) -> bool:
        return bool(self.bodies)


def needed(resource: Resource, ways: Iterable[Way]) -> list[str]:
    """Return the versions in which a message has to be written, the oldest first; at least one."""
    found = {resource.version_for(each.version) for each in ways}
    if not found:
        found = {resource.version_for(versions.default())}
    return sorted(found, key=versions.order)


def variants(
    resource: Resource, pk: Any, texts: Sequence[Text], ways: Iterable[Way], *, name: str = ""
) -> Variants:
    """Return how an event is written for those who listen; nothing if its own body does for all.

    Args:
        resource: What the event is of.
        pk: The object.
        name: What is said, if it is a custom event.
        texts: The messages by version; the last is the event's own body.
        ways: How endpoints listen.

    """
    own = texts[-1]
    large = {each.version for each in texts if len(each.body) > config().PAYLOAD_MAX_BYTES}
    if large:
        logger.warning(
            "A message of %s %s has more than %d bytes (PAYLOAD_MAX_BYTES). It is sent thin.",
            resource.base_name,
            pk,
            config().PAYLOAD_MAX_BYTES,
        )
    ways = set(ways)
    if len(texts) == 1 and not (resource.thin or large or any(each.is_thin for each in ways)):
        return Variants()
    bodies = {each.version: each.body for each in texts}
    found = Variants()

    def written(version: str, *, is_thin: bool) -> str:
        if is_thin or resource.thin or version in large:
            variant = thin_name(version)
        else:
            variant = "" if version == own.version else version
        if variant and variant not in found.bodies:
            found.bodies[variant] = (
                bodies[version]
                if variant == version
                else thinned(resource, pk, bodies[version], version, name=name)
            )
        return variant

    found.otherwise = written(own.version, is_thin=False)
    for way in ways:
        found.by_way[way] = written(resource.version_for(way.version), is_thin=way.is_thin)
    return found


def thin_name(version: str) -> str:
    """Return the name of the variant that is thin."""
    return f"{version}/thin" if version else "thin"


def thinned(resource: Resource, pk: Any, body: bytes, version: str, *, name: str = "") -> bytes:
    """Return the thin form of an object's message."""
    return thinner(
        body,
        # Members of a custom event may mean something else.
        [] if name in resource.events else payloads.key_names(resource, version),
        otherwise=payloads.key_data(resource, pk, version),
    )


def headers_of(
    resource: Resource, event_type: str, instance: Any, owner: Any
) -> dict[str, str] | None:
    """Return the headers that a resource wants to be sent with a message.

    Raises:
        PayloadError: they cannot be sent, or the resource's code failed.

    """
    try:
        found = dict(resource.get_headers(event_type, instance, owner))
        custom_headers.validate(found)
    except ValidationError as error:
        msg = f"{resource.__name__}.get_headers(): {' '.join(error.messages)}"
        raise PayloadError(msg) from error
    except DatabaseError:
        raise
    except Exception as error:
        msg = f"{resource.__name__}.get_headers() failed: {type(error).__name__}: {error}"
        raise PayloadError(msg) from error
    return found or None
