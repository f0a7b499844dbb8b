"""How the message of each event type is written: by which serializers, with which members."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from drf_webhooks import event_types, versions
from drf_webhooks.changes import Operation
from drf_webhooks.models import Endpoint
from drf_webhooks.registry import registry
from drf_webhooks.tracing.paths import Resource

__all__ = [
    "Member",
    "Part",
    "Shape",
    "Variant",
    "shape_of",
    "shape_of_resource",
    "shapes",
]

Schema = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """One of the forms that ``data`` may have.

    ``of`` is ``"form"`` for the serialized form of a resource's object, ``"key"`` for the field
    that holds its key, ``"thin"`` for what a thin message keeps of the form, and ``"schema"``
    for what is written down here.
    """

    of: Literal["form", "key", "thin", "schema"]
    resource: Any = None
    schema: Schema = field(default_factory=dict)
    #: What is said, if it is a custom event.
    name: str = Operation.UPDATED
    #: One of the resource's.
    version: str = ""


@dataclass(frozen=True)
class Member:
    """A member of the message beside ``data``."""

    name: str
    schema: Schema
    is_required: bool = True


@dataclass(frozen=True)
class Variant:
    """One of the ways in which an event is written, for those who listen so."""

    #: ``data`` is one of these.
    parts: tuple[Part, ...]
    members: tuple[Member, ...]
    version: str = ""
    is_thin: bool = False


@dataclass(frozen=True)
class Shape:
    """How the message of an event type is written; ``messages.message()`` writes it so."""

    event_type: str
    title: str
    description: str
    #: The whole ones first, the newest first of all.
    variants: tuple[Variant, ...]
    #: What headers say that may be sent beside the message, by their names.
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[Part, ...]:
        """All that ``data`` may be, variant by variant."""
        return tuple(part for each in self.variants for part in each.parts)

    def pinned(self, version: str) -> "Shape":
        """Return what an endpoint gets that is pinned to a version."""
        resource = self.parts[0].resource
        if resource is None or not resource.versions:
            return self
        wanted = resource.version_for(version)
        kept = tuple(each for each in self.variants if each.version == wanted)
        return replace(self, variants=kept)


def shapes() -> list[Shape]:
    """Return how the message of each event type is written, the project's own types first."""
    return [*_of_resources(), *_operational()]


def shape_of(event_type: str) -> Shape | None:
    """Return how the message of an event type is written; ``None`` if nobody declares it."""
    return next((each for each in shapes() if each.event_type == event_type), None)


def _of_resources() -> Iterator[Shape]:
    seen: set[str] = set()
    for resource in registry:
        if not hasattr(resource, "model"):
            continue
        for kind in resource.event_types():
            if kind not in seen:
                seen.add(kind)
                yield shape_of_resource(resource, kind.removeprefix(f"{resource.base_name}."))


def shape_of_resource(resource: Resource, name: str) -> Shape:
    """Return how a resource's message is written: of an operation, or of a custom event."""
    noun = str(resource.model._meta.verbose_name)
    sentences = [f"{noun[:1].upper()}{noun[1:]} {name.replace('_', ' ')}."]
    if name == Operation.DELETED and not resource.thin:
        sentences.append(
            "Has the object as it was, or its key alone if it was gone before."
            if resource.deleted_payload == "full"
            else "Has the key of the object that is gone."
        )
    if resource.thin:
        sentences.append("Says only which object it is of.")
    doc = inspect.cleandoc(resource.__doc__) if resource.__doc__ else ""
    text = "\n\n".join(filter(None, [doc, " ".join(sentences)]))
    kind = resource.event_type(name)
    declared = sorted(resource.versions, key=versions.order, reverse=True) or [""]
    # Any message may be too large, and then it is thin.
    ways = [(is_thin, version) for is_thin in (False, True) for version in declared]
    variants = [
        _variant(resource, name, version, is_thin=is_thin)
        for is_thin, version in ways
        if is_thin or not resource.thin
    ]
    title, headers = sentences[0].removesuffix("."), resource.header_descriptions
    return Shape(kind, title, text, tuple(variants), headers)


def _variant(resource: Resource, name: str, version: str, *, is_thin: bool) -> Variant:
    own: dict[str, Any] = {"resource": resource, "version": version}
    kind: Literal["form", "thin"] = "thin" if is_thin else "form"
    if name in resource.events:
        # Its members may mean something else, so that a thin message has the key alone.
        # So has a whole one of an object that is gone.
        form = [] if is_thin else [Part("form", name=name, **own)]
        parts = [*form, Part("key", **own)]
    elif name != Operation.DELETED:
        parts = [Part(kind, **own)]
    elif resource.deleted_payload == "full":
        # What is found gone already has nothing but its key.
        parts = [Part(kind, **own), Part("key", **own)]
    else:
        parts = [Part("key", **own)]
    members = list(_members(resource.event_type(name)))
    if version:
        members.append(Member("version", {"type": "string", "const": version}))
    if is_thin:
        members.append(Member("thin", _THIN))
    elif resource.previous_attributes and name == Operation.UPDATED:
        members.append(Member("previous_attributes", _PREVIOUS, is_required=False))
    return Variant(tuple(parts), tuple(members), version, is_thin)


_THIN: Schema = {
    "type": "boolean",
    "const": True,
    "description": "Says only which object it is of: fetch the rest. Else it is not there.",
}
_PREVIOUS: Schema = {
    "type": "object",
    "description": "What the members that have changed were, as far as that is known.",
}


def _members(event_type: str) -> tuple[Member, ...]:
    return (
        Member("type", {"type": "string", "const": event_type}),
        Member(
            "timestamp",
            {
                "type": "string",
                "format": "date-time",
                "description": "When the event was stored.",
            },
        ),
        Member(
            "sequence",
            {
                "type": "integer",
                "minimum": 1,
                "description": (
                    "Counts what was said of this object. The greater number is the later state."
                ),
            },
        ),
        Member(
            "replay",
            {
                "type": "boolean",
                "const": True,
                "description": "Said again, of the object as it is now. Else it is not there.",
            },
            is_required=False,
        ),
    )


def _operational() -> Iterator[Shape]:
    endpoint: Schema = {
        "id": {"type": "string", "format": "uuid"},
        "url": {"type": "string", "description": "Without its query."},
        "description": {"type": "string"},
        "state": {"type": "string", "enum": [str(each) for each in Endpoint.State.values]},
    }
    told: Schema = {
        "reason": {"type": "string"},
        "event_type": {
            "type": ["string", "null"],
            "description": "The event type that fails, if it is one alone.",
        },
        "failing_since": {"type": ["string", "null"], "format": "date-time"},
    }
    for kind, title, text in _OPERATIONAL:
        more = _CHALLENGE if kind == event_types.ENDPOINT_VERIFY else told
        properties = endpoint if kind == event_types.ENDPOINT_TEST else {**endpoint, **more}
        # A project's own verifier may ask something else.
        required = [each for each in properties if each not in _CHALLENGE]
        schema = {"type": "object", "properties": properties, "required": required}
        variant = Variant((Part("schema", schema=schema),), _members(kind))
        yield Shape(kind, title, text, (variant,))


_CHALLENGE: Schema = {
    "challenge": {
        "type": "string",
        "description": (
            'To be answered with a status 2xx and {"challenge": "…"}, or with the text alone.'
        ),
    }
}
_OPERATIONAL = (
    (
        event_types.ENDPOINT_FAILING,
        "Endpoint failing",
        "Another endpoint of the same owner has failed for some time. It will be disabled.",
    ),
    (
        event_types.ENDPOINT_TYPE_FAILING,
        "Endpoint failing for one event type",
        "Another endpoint of the same owner takes everything but one event type.",
    ),
    (
        event_types.ENDPOINT_DISABLED,
        "Endpoint disabled",
        "Another endpoint of the same owner is sent nothing any more.",
    ),
    (
        event_types.ENDPOINT_ENABLED,
        "Endpoint enabled",
        "Another endpoint of the same owner is sent to again.",
    ),
    (
        event_types.ENDPOINT_TEST,
        "Endpoint tested",
        "Somebody tests this endpoint. Nothing has happened.",
    ),
    (
        event_types.ENDPOINT_VERIFY,
        "Endpoint asked",
        "Asks whether this endpoint wants webhooks. It hears nothing else before it has answered.",
    ),
)
