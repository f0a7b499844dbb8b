"""Write the ``webhooks`` section of an OpenAPI 3.1 document from the declared resources."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from django.conf import settings
from django.utils import translation
from drf_spectacular.drainage import warn
from drf_spectacular.plumbing import build_root_object, normalize_result_object
from drf_spectacular.settings import spectacular_settings

from drf_webhooks.conf import config
from drf_webhooks.contrib.spectacular.requests import (
    HEADERS,
    RESPONSES,
    SECURITY,
    SECURITY_NAME,
    cloud_event,
    content_types,
    header,
    header_names,
    responses,
)
from drf_webhooks.delivery.formats import CloudEvents, Json
from drf_webhooks.document_changes import described
from drf_webhooks.event_schemas import (
    Form,
    exemplary,
    message_schemas,
    read,
    titled,
)
from drf_webhooks.event_shapes import Part, Shape, Variant, shapes
from drf_webhooks.schema_changes import differences
from drf_webhooks.schema_forms import text

__all__ = ["add_webhooks", "webhooks_document"]

Schema = dict[str, Any]
Schemas = dict[str, Schema]

#: The component that is one of all messages.
_ANY = "WebhookEvent"
_PREFIX = "#/components/schemas/"
_OLDEST = (3, 1)
_normalized: Callable[[Any], Any] = normalize_result_object


def add_webhooks(result: Schema, generator: Any, **kwargs: Any) -> Schema:
    """Add the webhooks to a document; an entry of drf-spectacular's ``POSTPROCESSING_HOOKS``.

    To be the last of them: the others would alter what is sent only in the document.
    What the project's own ``WEBHOOKS`` setting describes stays as it is.
    """
    del generator, kwargs
    if not _is_modern():
        warn(
            f"Webhooks need OpenAPI 3.1, and OAS_VERSION is {spectacular_settings.OAS_VERSION!r}. "
            "The document has none."
        )
        return result
    _Section(result).fill()
    return result


def webhooks_document(version: str | None = None) -> Schema:
    """Return an OpenAPI document of the webhooks alone, whatever ``OAS_VERSION`` is.

    Args:
        version: What an endpoint is pinned to; ``None`` for all versions.

    """
    root: Schema = build_root_object(paths={}, components={}, webhooks={}, version=None)
    if not _is_modern():
        root["openapi"] = "3.1.0"
    root["info"]["title"] = root["info"]["title"] or "Webhooks"
    # It may be left out if there are webhooks, and is but noise.
    del root["paths"]
    root.pop("servers", None)
    _Section(root, version).fill()
    document: Schema = _normalized(root)
    return document


def _is_modern() -> bool:
    version = tuple(int(each) for each in spectacular_settings.OAS_VERSION.split(".")[:2])
    return version >= _OLDEST


class _Section:
    """Fills a document's webhooks and the components that they need."""

    def __init__(self, document: Schema, version: str | None = None) -> None:
        self._document = document
        self._version = version
        components = document.setdefault("components", {})
        self._schemas: Schemas = components.setdefault("schemas", {})
        self._components = components
        self._media = content_types(config())

    def fill(self) -> None:
        webhooks = self._document.setdefault("webhooks", {})
        messages: dict[str, list[str]] = {}
        with translation.override(settings.LANGUAGE_CODE):
            for each in shapes():
                shape = each if self._version is None else each.pinned(self._version)
                if shape.event_type not in webhooks:
                    names = self._add_messages(shape)
                    webhooks[shape.event_type] = {"post": self._operation(shape, names)}
                    messages[shape.event_type] = names
        self._add_union(messages)
        names = header_names()
        self._place("parameters", {name: HEADERS[name] for name in names})
        self._place("responses", RESPONSES)
        self._place("securitySchemes", {SECURITY_NAME: SECURITY})

    def _place(self, kind: str, some: Mapping[str, Schema]) -> None:
        self._components.setdefault(kind, {}).update(some)

    def _add_messages(self, shape: Shape) -> list[str]:
        """Add a component for each variant of a message, and what data refers to; name them."""
        form = read(shape.parts)
        for note in form.notes:
            warn(f"{shape.event_type}: {note}")
        known = self._add_components(shape, form)
        named: dict[str, str] = {}
        schemas = [
            self._named(_renamed(schema, known), part, shape, named)
            for part, schema in zip(shape.parts, form.schemas, strict=True)
        ]
        found = []
        for at, variant in enumerate(shape.variants):
            schema = message_schemas(shape, schemas)[at]
            example = exemplary(message_schemas(shape, form.schemas)[at], form.components)
            if example is not None and at == 0 and form.example is not None:
                example["data"] = form.example
            name = self._free(f"{_camel(shape.event_type)}{_suffix(shape, variant)}Event")
            self._schemas[name] = {**schema, **({} if example is None else {"examples": [example]})}
            found.append(name)
        return found

    def _named(self, data: Schema, part: Part, shape: Shape, named: dict[str, str]) -> Schema:
        """Give an object a component, so that generators have a name for it."""
        if "properties" not in data:
            return data
        key = text(data)
        if key not in named:
            front = f"{_camel(shape.event_type)}{'Thin' if part.of == 'thin' else ''}"
            named[key] = self._free(f"{front}Data")
            self._schemas[named[key]] = data
        return {"$ref": _PREFIX + named[key]}

    def _add_components(self, shape: Shape, form: Form) -> dict[str, str]:
        """Add components that are not there; return the names of all in the document.

        One that the REST API has is taken, unless it says what is not true of messages.
        """
        mine = {"components": {"schemas": form.components}}
        theirs = {"components": {"schemas": _normalized(self._schemas)}}
        names: dict[str, str] = {}
        added: Schemas = {}
        for name, schema in form.components.items():
            names[name] = name
            if name not in self._schemas:
                added[name] = schema
                continue
            wrong = _wrong(name, mine, name, theirs)
            if wrong:
                names[name] = self._other(name, mine)
                if names[name] not in self._schemas:
                    added[names[name]] = schema
                    why = "; ".join(wrong[:3])
                    warn(
                        f"{shape.event_type}: the component {name} is not how messages look "
                        f"({why}). They have {names[name]}."
                    )
        for name, schema in added.items():
            self._schemas[name] = _renamed(schema, names)
        return names

    def _other(self, name: str, mine: Schema) -> str:
        """Return the name that a component has in messages: one that is free, or the same."""
        number, free = 2, f"{name}Message"
        theirs = {"components": {"schemas": self._schemas}}
        while free in self._schemas and _wrong(name, mine, free, theirs):
            free = f"{name}Message{number}"
            number += 1
        return free

    def _free(self, name: str) -> str:
        number, free = 2, name
        while free in self._schemas:
            free = f"{name}{number}"
            number += 1
        return free

    def _operation(self, shape: Shape, names: Sequence[str]) -> Schema:
        ours = [{"$ref": f"#/components/parameters/{each}"} for each in header_names()]
        theirs = [
            header(name, {"type": "string"}, text, is_required=False)
            for name, text in shape.headers.items()
        ]
        return {
            "operationId": f"webhook_{shape.event_type.replace('.', '_')}",
            "summary": shape.title,
            "description": shape.description,
            "tags": ["webhooks"],
            "parameters": [*ours, *theirs],
            "requestBody": {"required": True, "content": self._content(shape, names)},
            "security": [{SECURITY_NAME: []}],
            "responses": responses(),
        }

    def _content(self, shape: Shape, names: Sequence[str]) -> Schema:
        """Say how the message is written in each format."""
        found: Schema = {}
        for kind, media in self._media.items():
            if isinstance(media, Json):
                found[kind] = self._described(shape, names)
            elif isinstance(media, CloudEvents):
                found[kind] = self._described(shape, self._add_cloud_events(shape, names))
            else:
                # No JSON, and so nothing that a schema could be of.
                found[kind] = {}
        return found

    def _add_cloud_events(self, shape: Shape, names: Sequence[str]) -> list[str]:
        found = []
        for variant, name in zip(shape.variants, names, strict=True):
            front = f"{_camel(shape.event_type)}{_suffix(shape, variant)}"
            other = self._free(f"{front}CloudEvent")
            self._schemas[other] = cloud_event(shape, self._schemas[name], config())
            found.append(other)
        return found

    def _described(self, shape: Shape, names: Sequence[str]) -> Schema:
        titles = (titled(shape, each) for each in shape.variants)
        given = [
            {"summary": title, "value": each}
            for title, name in zip(titles, names, strict=True)
            for each in self._schemas[name].get("examples", ())
        ]
        return {
            "schema": _any_of(names),
            # Where people look for them; generators read those of the schema.
            "examples": {f"example{number}": each for number, each in enumerate(given, 1)},
        }

    def _add_union(self, messages: Mapping[str, Sequence[str]]) -> None:
        name = self._free(_ANY)
        self._schemas[name] = {
            "title": "Any event",
            "description": "What an endpoint is sent that subscribes to everything.",
            # Without a discriminator, which has no more than one schema for a type.
            "anyOf": [{"$ref": _PREFIX + each} for some in messages.values() for each in some],
        }


def _any_of(names: Sequence[str]) -> Schema:
    schemas = [{"$ref": _PREFIX + each} for each in names]
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _suffix(shape: Shape, variant: Variant) -> str:
    """Return what tells the component of a variant from that of the first one."""
    if variant == shape.variants[0]:
        return ""
    version = "".join(each for each in variant.version if each.isalnum())
    is_other = variant.version != shape.variants[0].version
    return f"{f'V{version}' if is_other else ''}{'Thin' if variant.is_thin else ''}"


def _wrong(name: str, mine: Schema, there: str, theirs: Schema) -> list[str]:
    """Say why a component cannot stand for one of messages: it is not true, or says less."""
    new, old = {"$ref": _PREFIX + name}, {"$ref": _PREFIX + there}
    untrue = differences(new, old, new_root=mine, old_root=theirs)
    missing = [
        each
        for each in differences(old, new, new_root=theirs, old_root=mine)
        if each.kind == "removed"
    ]
    return described(untrue) + [f"{each.where} is not in it" for each in missing]


def _camel(event_type: str) -> str:
    words: Iterable[str] = event_type.replace(".", "_").split("_")
    return "".join(each[:1].upper() + each[1:] for each in words)


def _renamed(what: Any, names: Mapping[str, str]) -> Any:
    """Point references at the names that components have in the document."""
    if isinstance(what, dict):
        return {key: _renamed(value, names) for key, value in what.items()}
    if isinstance(what, list):
        return [_renamed(each, names) for each in what]
    if isinstance(what, str) and what.startswith(_PREFIX):
        name = what.removeprefix(_PREFIX)
        return _PREFIX + names.get(name, name)
    return what
