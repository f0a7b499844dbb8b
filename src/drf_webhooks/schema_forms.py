"""Take a JSON Schema apart: its references, what it demands together, what it lets be chosen."""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = [
    "NOTES",
    "UNIONS",
    "Flat",
    "Schema",
    "alternatives",
    "conjuncts",
    "listed",
    "resolved",
    "text",
]

Schema = Any
Flat = dict[str, Any]
#: Keywords that say something to people, and nothing of values.
NOTES = frozenset(
    {
        "$comment",
        "$defs",
        "$id",
        "$schema",
        "default",
        "deprecated",
        "description",
        "discriminator",
        "example",
        "examples",
        "externalDocs",
        "readOnly",
        "title",
        "writeOnly",
        "xml",
    }
)
UNIONS = ("anyOf", "oneOf")
_TYPES = ("null", "boolean", "number", "string", "array", "object")
#: More combinations of alternatives than these are not looked at, but taken as "anything".
_MOST = 512
_DEEPEST = 64


def resolved(reference: str, root: Any) -> Any:
    """Return what a reference within a document points at.

    Raises:
        ValueError: it leads nowhere, or out of the document.

    """
    first, *parts = reference.split("/")
    found: Any = root if first == "#" else None
    try:
        for part in parts:
            name = part.replace("~1", "/").replace("~0", "~")
            found = found[int(name)] if isinstance(found, list) else found[name]
    except (KeyError, IndexError, TypeError, ValueError):
        found = None
    if found is None:
        msg = f"The reference {reference!r} leads to nothing in its document."
        raise ValueError(msg)
    return found


def conjuncts(schema: Schema, root: Any, met: tuple[str, ...] = ()) -> Iterator[Schema]:
    """Give the schemas that a value must be valid for, all of them, without references."""
    if isinstance(schema, bool):
        yield schema
        return
    reference = schema.get("$ref")
    if reference is not None and reference not in met:
        yield from conjuncts(resolved(reference, root), root, (*met, reference))
    for part in schema.get("allOf", ()):
        yield from conjuncts(part, root, met)
    rest = {name: value for name, value in schema.items() if name not in {"$ref", "allOf"}}
    if rest.keys() - NOTES or (reference is None and "allOf" not in schema):
        yield rest


def alternatives(schema: Schema, root: Any) -> list[Flat]:
    """Return schemas of one type each, whose values together are at least those of a schema."""
    return [each for some in _unfolded(schema, root, 0) for each in _typed(some)]


def _unfolded(schema: Schema, root: Any, depth: int) -> list[Flat]:
    if depth > _DEEPEST:
        return [{}]
    flat: list[Flat] = [{}]
    unions: list[list[Schema]] = []
    for part in conjuncts(schema, root):
        if part is True:
            continue
        if part is False:
            return []
        unions += [part[name] for name in UNIONS if name in part]
        rest = {name: value for name, value in part.items() if name not in UNIONS}
        flat = _merged(flat, [rest])
    for branches in unions:
        unfolded = [each for branch in branches for each in _unfolded(branch, root, depth + 1)]
        if len(flat) * len(unfolded) <= _MOST:
            flat = _merged(flat, unfolded)
    return flat


def _merged(some: Iterable[Flat], others: Iterable[Flat]) -> list[Flat]:
    pairs = itertools.product(some, others)
    return [found for one, other in pairs if (found := _both(one, other)) is not None]


def _both(one: Flat, other: Flat) -> Flat | None:
    """Return a schema for what is valid for both, or for more; ``None`` if nothing is."""
    result = {**other, **one}
    if "type" in one and "type" in other:
        types = _common(listed(one["type"]), listed(other["type"]))
        if not types:
            return None
        result["type"] = types
    if "enum" in one and "enum" in other:
        texts = {text(each) for each in other["enum"]}
        result["enum"] = [each for each in one["enum"] if text(each) in texts]
    if "required" in one and "required" in other:
        result["required"] = [*dict.fromkeys([*one["required"], *other["required"]])]
    if "properties" in one and "properties" in other:
        result["properties"] = {
            name: _joined(one["properties"].get(name), other["properties"].get(name))
            for name in [*one["properties"], *other["properties"]]
        }
    if "items" in one and "items" in other:
        result["items"] = _joined(one["items"], other["items"])
    if "prefixItems" in one and "prefixItems" in other:
        # "items" reaches from the end of this on, and must not reach further than it did.
        result["prefixItems"] = max(one["prefixItems"], other["prefixItems"], key=len)
    # Of the rest the first is taken: what is valid for both is valid for it.
    return result


def _joined(one: Schema | None, other: Schema | None) -> Schema:
    if one is None or other is None or text(one) == text(other):
        return other if one is None else one
    parts = [*_parts(one), *(each for each in _parts(other) if each not in _parts(one))]
    return {"allOf": parts}


def _parts(schema: Schema) -> list[Schema]:
    is_list = isinstance(schema, Mapping) and set(schema) == {"allOf"}
    return list(schema["allOf"]) if is_list else [schema]


def _common(some: list[str], others: list[str]) -> list[str]:
    types = [each for each in some if each in others or (each == "integer" and "number" in others)]
    return types + [
        each for each in others if each == "integer" and "number" in some and each not in types
    ]


def _typed(flat: Flat) -> list[Flat]:
    types = listed(flat.get("type", list(_TYPES)))
    if "const" in flat or "enum" in flat:
        values = flat.get("enum", [flat.get("const")])
        if "const" in flat:
            values = [each for each in values if text(each) == text(flat["const"])]
        rest = {name: value for name, value in flat.items() if name != "enum"}
        return [
            {**rest, "type": kind, "const": value}
            for value in values
            if (kind := _type_of(value)) in types or (kind == "integer" and "number" in types)
        ]
    return [{**flat, "type": each} for each in types]


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def listed(types: str | list[str]) -> list[str]:
    return [types] if isinstance(types, str) else list(types)


def text(value: Any) -> str:
    """Return a text that is the same for what is the same in JSON, where 1 is no true."""
    return json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)
