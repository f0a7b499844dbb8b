"""Write schemas of drf-spectacular as JSON Schema 2020-12 has them."""

from typing import Any

__all__ = ["META", "modern", "nullable"]

Schema = dict[str, Any]

#: Keywords that say nothing of values.
META = ("title", "description", "readOnly", "deprecated")
_NULL: Schema = {"type": "null"}


def nullable(schema: Schema) -> Schema:
    """Return a schema that accepts null too."""
    if schema.get("nullable") or not schema.keys() - set(META):
        return schema
    types = schema.get("type")
    if types is not None and "enum" not in schema and "const" not in schema:
        listed = [types] if isinstance(types, str) else types
        return schema if "null" in listed else {**schema, "type": [*listed, "null"]}
    for union in ("anyOf", "oneOf"):
        if _NULL in schema.get(union, ()):
            return schema
    inner = {name: value for name, value in schema.items() if name not in META}
    if set(inner) == {"allOf"} and len(inner["allOf"]) == 1:
        inner = inner["allOf"][0]
    return {
        **{name: schema[name] for name in META if name in schema},
        "anyOf": [inner, _NULL],
    }


def modern(schema: Any) -> Any:
    """Write a schema of drf-spectacular as JSON Schema 2020-12 has it.

    ``oneOf`` becomes ``anyOf``: an empty text is valid for more than one of the alternatives
    of a text that may be empty.
    """
    if isinstance(schema, list):
        return [modern(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result = {name: modern(value) for name, value in schema.items() if name != "x-spec-enum-id"}
    if isinstance(result.get("oneOf"), list):
        result["anyOf"] = result.pop("oneOf")
    for limit in ("minimum", "maximum"):
        strict = f"exclusive{limit.title()}"
        if isinstance(result.get(strict), bool) and result.pop(strict) and limit in result:
            result[strict] = result.pop(limit)
    if isinstance(result.get("nullable"), bool) and result.pop("nullable"):
        if isinstance(result.get("enum"), list) and None not in result["enum"]:
            result["enum"] = [*result["enum"], None]
        kinds = result.get("type")
        if kinds is None and "enum" not in result:
            return nullable(result)
        if kinds is not None:
            listed = [kinds] if isinstance(kinds, str) else kinds
            result["type"] = listed if "null" in listed else [*listed, "null"]
    return result
