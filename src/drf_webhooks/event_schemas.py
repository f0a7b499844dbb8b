"""What each event type's message looks like: its members, a JSON Schema, an example, a text.

What serializers say is asked of drf-spectacular, if it is installed; everything else is here.
"""

import copy
import importlib.util
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils import translation
from django.utils.module_loading import import_string

from drf_webhooks import versions
from drf_webhooks.conf import config
from drf_webhooks.event_shapes import Member, Part, Shape, Variant, shape_of, shapes
from drf_webhooks.registry import registry
from drf_webhooks.schema_examples import NoExampleError, example

__all__ = [
    "Form",
    "description_of",
    "example_of",
    "exemplary",
    "exemplified",
    "is_possible",
    "message_schemas",
    "one_of",
    "read",
    "schema_of",
    "self_contained",
    "shapes",
    "titled",
]

Schema = dict[str, Any]

#: Asked by name, for it imports an optional package.
_READER = "drf_webhooks.contrib.spectacular.reading.read"
_COMPONENTS = "#/components/schemas/"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True)
class Form:
    """What is known of some parts of ``data``, in their order.

    ``components`` are what the schemas' references point at, below ``#/components/schemas/``.
    ``notes`` name what could not be told, and is therefore left open.
    """

    schemas: Sequence[Schema]
    components: dict[str, Schema]
    notes: list[str]
    #: Of the first part; written by the project's developers, on the serializer.
    example: Any = None


def message_schema(shape: Shape, variant: Variant, schemas: Sequence[Schema]) -> Schema:
    """Return the schema of a message in one variant, given those of its parts."""
    members = [*variant.members, Member("data", one_of(schemas))]
    return {
        "type": "object",
        "title": titled(shape, variant),
        "description": shape.description,
        "properties": {each.name: each.schema for each in members},
        "required": [each.name for each in members if each.is_required],
    }


def message_schemas(shape: Shape, schemas: Sequence[Schema]) -> list[Schema]:
    """Return the schemas of a message, one for each variant, given those of all parts."""
    rest = iter(schemas)
    return [
        message_schema(shape, each, [*itertools.islice(rest, len(each.parts))])
        for each in shape.variants
    ]


def titled(shape: Shape, variant: Variant) -> str:
    """Return a variant's title; the first one has the shape's."""
    if variant == shape.variants[0]:
        return shape.title
    version = f", version {variant.version}" if variant.version else ""
    return f"{shape.title}{version}{', thin' if variant.is_thin else ''}"


def one_of(schemas: Sequence[Schema]) -> Schema:
    """Return a schema for what some schemas accept, each of them once."""
    flat = [
        part for each in schemas for part in (each["anyOf"] if each.keys() == {"anyOf"} else [each])
    ]
    different = [each for at, each in enumerate(flat) if each not in flat[:at]]
    return different[0] if len(different) == 1 else {"anyOf": different}


def schema_of(event_type: str, version: str | None = None) -> Schema | None:
    """Return a JSON Schema (2020-12) of the whole message, with all that it refers to.

    ``None`` if drf-spectacular is not installed or nobody declares the type. What it cannot
    tell of a serializer, as of a method without a type hint, is left open.

    Args:
        event_type: One that is declared.
        version: What an endpoint is pinned to; ``None`` for all versions.

    """
    known = _known(event_type, version)
    return None if known is None else copy.deepcopy(known[0])


def example_of(event_type: str, version: str | None = None) -> dict[str, Any] | None:
    """Return a whole message that might be sent. It is valid for its schema.

    ``None`` as for :func:`schema_of`, and if none can be made, as for a pattern that only a
    person understands: then ``@extend_schema_serializer(examples=…)`` says one.

    Args:
        event_type: One that is declared.
        version: What an endpoint is pinned to; ``None`` for the newest.

    """
    known = _known(event_type, version)
    return None if known is None else copy.deepcopy(known[1])


def description_of(event_type: str) -> str:
    """Return what an event type is about; an empty text if nobody declares it."""
    shape = shape_of(event_type)
    return "" if shape is None else shape.description


def is_possible() -> bool:
    """Tell whether drf-spectacular is installed, which reads serializers."""
    return importlib.util.find_spec("drf_spectacular") is not None


def read(parts: Sequence[Part]) -> Form:
    """Ask drf-spectacular what ``data`` looks like."""
    reader: Callable[[Sequence[Part]], Form] = import_string(_READER)
    return reader(parts)


_kept: tuple[Any, dict[tuple[str, str | None], tuple[Schema, Any] | None]] = (None, {})


def _known(event_type: str, version: str | None) -> tuple[Schema, Any] | None:
    """Return schema and example, kept for as long as declarations and settings stay."""
    global _kept  # noqa: PLW0603  # for the whole process
    if not is_possible():
        return None
    state = registry.generation, config()
    if _kept[0] != state:
        _kept = state, {}
    found, key = _kept[1], (event_type, version)
    if key in found:
        return found[key]
    # Kept, and so not in the language of whoever asks first.
    with translation.override(settings.LANGUAGE_CODE):
        shape = shape_of(event_type)
        made = None if shape is None else _made(shape, version)
    # Of versions that nobody knows there is no end.
    if version is None or version in versions.known():
        found[key] = made
    return made


def _made(shape: Shape, version: str | None) -> tuple[Schema, Any]:
    if version is not None:
        shape = shape.pinned(version)
    form = read(shape.parts)
    return self_contained(shape, form), exemplified(shape, form)


def self_contained(shape: Shape, form: Form) -> Schema:
    """Return the schema of a message, in each of its variants, with all that it refers to."""
    schemas = message_schemas(shape, form.schemas)
    schema = {"$schema": _DIALECT, **(schemas[0] if len(schemas) == 1 else _joined(schemas))}
    whole: Schema = _renamed({**schema, **({"$defs": form.components} if form.components else {})})
    return whole


def _joined(schemas: Sequence[Schema]) -> Schema:
    """Return one schema for a message that has several variants.

    What the members may be stands in one place, and then, in ``anyOf``, which go together.
    """
    required = set.intersection(*(set(each["required"]) for each in schemas))
    together: dict[str, list[Schema]] = {}
    for each in schemas:
        for name, schema in each["properties"].items():
            together.setdefault(name, []).append(schema)
    # Where it is written.
    last = ("data", "previous_attributes")
    ordered = sorted(together, key=lambda each: last.index(each) if each in last else -1)
    properties = {name: _either(together[name]) for name in ordered}
    return {
        **{name: schemas[0][name] for name in ("type", "title", "description")},
        "properties": properties,
        "required": [name for name in properties if name in required],
        "anyOf": [
            {
                "properties": {
                    **{
                        name: schema
                        for name, schema in each["properties"].items()
                        if schema != properties[name]
                    },
                    **({} if "thin" in each["properties"] else {"thin": False}),
                },
                "required": [*each["required"]],
            }
            for each in schemas
        ],
    }


def _either(schemas: Sequence[Schema]) -> Schema:
    found = one_of(schemas)
    values = [each["const"] for each in found.get("anyOf", ()) if "const" in each]
    return {"type": "string", "enum": values} if values else found


def exemplified(shape: Shape, form: Form) -> Any:
    """Return a message that might be sent, in the first of its variants, or ``None``."""
    schema = message_schemas(shape, form.schemas)[0]
    found = exemplary(schema, form.components)
    return found if found is None or form.example is None else {**found, "data": form.example}


def exemplary(schema: Schema, components: dict[str, Schema]) -> Any:
    """Return a message that a schema of one variant accepts, or ``None``."""
    try:
        found = example(schema, {"components": {"schemas": components}})
    except NoExampleError:
        return None
    # An example is no replay; and what was before would be what is now.
    for name in ("replay", "previous_attributes"):
        found.pop(name, None)
    return found


def _renamed(what: Any) -> Any:
    """Point all references to where a schema that stands alone has them."""
    if isinstance(what, dict):
        return {key: _renamed(value) for key, value in what.items()}
    if isinstance(what, list):
        return [_renamed(each) for each in what]
    if isinstance(what, str) and what.startswith(_COMPONENTS):
        return "#/$defs/" + what.removeprefix(_COMPONENTS)
    return what
