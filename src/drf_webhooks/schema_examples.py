"""Make a value that a JSON Schema accepts, and that looks as if somebody had entered it."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from drf_webhooks.schema_forms import Flat, Schema, alternatives

__all__ = ["NoExampleError", "example"]


class NoExampleError(ValueError):
    """Nothing was found that the schema accepts."""


#: By format. What is not here is taken by name.
_FORMATS = {
    "binary": "",
    "byte": "d2ViaG9vaw==",
    "date": "2026-03-14",
    "date-time": "2026-03-14T09:26:53.589000Z",
    "duration": "P1D",
    "email": "ada@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.7",
    "ipv6": "2001:db8::7",
    "time": "09:26:53",
    "uri": "https://example.com/",
    "uri-reference": "/files/contract.pdf",
    "uuid": "018f3c6e-2f4a-7b1c-9d3e-5a6b7c8d9e0f",
}
_NUMBERS = ("100.00", "10.00", "1.50", "100", "10", "1", "0.5", "0")
#: By the last words of a property's name.
_NAMES = {
    "city": "Graz",
    "code": "AB12",
    "country": "AT",
    "currency": "EUR",
    "description": "Paid by transfer",
    "email": "ada@example.com",
    "event_type": "core.deposit.created",
    "first_name": "Ada",
    "language": "en",
    "last_name": "Lovelace",
    "name": "Ada Lovelace",
    "note": "Paid by transfer",
    "phone": "+43 316 123456",
    "postcode": "8010",
    "reason": "The receiver answered status 410.",
    "sequence": "0000000000000000007",
    "slug": "ada-lovelace",
    "street": "Hauptplatz 1",
    "title": "Rental contract",
    "url": "https://example.com/hooks",
    "username": "ada",
    "zip": "8010",
}
#: What is tried where a pattern is not met.
_GUESSES = (
    "ada",
    "Ada",
    "ADA",
    "abc",
    "ABC",
    "AB12",
    "a",
    "A",
    "1",
    "12",
    "123",
    "1234",
    "8010",
    "",
)
_INTEGERS = {"id": 42, "pk": 42, "sequence": 7, "year": 2026, "count": 3, "version": 2}
_ORDER = ("object", "string", "integer", "number", "boolean", "array", "null")
_DEEPEST = 6


def example(schema: Schema, root: Any = None, *, name: str = "") -> Any:
    """Return a value that a schema accepts.

    Args:
        schema: An ``examples`` or ``example`` in it is taken, wherever it stands.
        root: The document that its references are of; by default the schema.
        name: The name of the property that has it.

    Raises:
        NoExampleError: none was found, as for a pattern that only its author understands.
        ValueError: a reference leads nowhere.

    """
    return _example(schema, schema if root is None else root, name, 0)


def _example(schema: Schema, root: Any, name: str, depth: int) -> Any:
    order = _ORDER if depth <= _DEEPEST else tuple(reversed(_ORDER))
    found = alternatives(schema, root)
    # Of what has no type at all a text says most.
    is_any = len(found) == len(_ORDER) - 1 and all(set(each) == {"type"} for each in found)
    ranked = (
        [{"type": "string"}]
        if is_any
        else sorted(found, key=lambda each: order.index(each["type"]))
    )
    for each in ranked:
        try:
            return _of(each, root, name, depth)
        except NoExampleError:
            continue
    msg = f"No example was found for {name or 'the schema'}."
    raise NoExampleError(msg)


def _of(flat: Flat, root: Any, name: str, depth: int) -> Any:
    given = [*flat.get("examples", ()), *([flat["example"]] if "example" in flat else ())]
    if "const" in flat:
        return flat["const"]
    if given:
        return given[0]
    kind = flat["type"]
    if kind == "object":
        return _object(flat, root, depth)
    if kind == "array":
        return _array(flat, root, name, depth)
    if kind == "string":
        return _string(flat, name)
    if kind in {"integer", "number"}:
        return _number(flat, name, is_whole=kind == "integer")
    return True if kind == "boolean" else None


def _object(flat: Flat, root: Any, depth: int) -> dict[str, Any]:
    result = {}
    required = flat.get("required", ())
    for name, part in flat.get("properties", {}).items():
        if depth > _DEEPEST and name not in required:
            continue
        try:
            result[name] = _example(part, root, name, depth + 1)
        except NoExampleError:
            if name in required:
                raise
    for name in required:
        result.setdefault(name, "")
    return result


def _array(flat: Flat, root: Any, name: str, depth: int) -> list[Any]:
    first = [_example(each, root, name, depth + 1) for each in flat.get("prefixItems", ())]
    wanted = max(flat.get("minItems", 0), 1 if depth <= _DEEPEST else 0) - len(first)
    items = flat.get("items", True)
    if wanted <= 0 or items is False or flat.get("maxItems") == len(first):
        return first
    if wanted > 1 and flat.get("uniqueItems"):
        values = _several(items, root, name, depth)
        if len(values) < wanted:
            msg = f"{name} must have {wanted} different values."
            raise NoExampleError(msg)
        return first + values[:wanted]
    return first + [_example(items, root, _singular(name), depth + 1)] * wanted


def _singular(name: str) -> str:
    return f"{name[:-3]}y" if name.endswith("ies") else name.removesuffix("s")


def _several(schema: Schema, root: Any, name: str, depth: int) -> list[Any]:
    """Return the different values that are known of a schema."""
    values: list[Any] = []
    for each in alternatives(schema, root):
        value = _of(each, root, name, depth + 1)
        values += [value] if value not in values else []
    return values


def _string(flat: Flat, name: str) -> str:
    least, most = flat.get("minLength", 0), flat.get("maxLength")
    pattern = flat.get("pattern")
    for text in _texts(flat.get("format"), name):
        fitted = text if most is None or "format" in flat else text[:most]
        if "format" not in flat:
            fitted = fitted.ljust(least, "x")
        is_long_enough = least <= len(fitted) and (most is None or len(fitted) <= most)
        if is_long_enough and (pattern is None or _matches(pattern, fitted)):
            return fitted
    msg = f"No text was found for {name or 'the schema'}: pattern {pattern!r}."
    raise NoExampleError(msg)


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.search(pattern, value) is not None
    except re.error:
        # Another language's pattern.
        return False


def _texts(kind: str | None, name: str) -> Iterator[str]:
    if kind == "decimal":
        yield from _NUMBERS
    elif kind in _FORMATS:
        yield _FORMATS[kind]
    else:
        yield from _named(_NAMES, name)
        yield name.replace("_", " ").capitalize() or "text"
        yield from _GUESSES
        yield from _FORMATS.values()
        yield from _NUMBERS


def _named(table: dict[str, Any], name: str) -> Iterator[Any]:
    """Give what a table has for a name, or for its last words."""
    words = name.lower().split("_")
    for start in range(len(words)):
        key = "_".join(words[start:])
        if key in table:
            yield table[key]


def _number(flat: Flat, name: str, *, is_whole: bool) -> float:
    low = _limits(flat, "minimum", max)
    high = _limits(flat, "maximum", min)
    step = flat.get("multipleOf", 1)
    nearest = [each * step for each in (low, high) if each is not None and step != 1]
    tried = [*_named(_INTEGERS, name), 3, 1, 0, 100, low, high, *nearest]
    tried += [each + sign for each in (low, high) if each is not None for sign in (1, -1)]
    if low is not None and high is not None:
        tried.append((low + high) / 2)
    for value in tried:
        if value is None or (is_whole and value != int(value)):
            continue
        if _is_within(flat, value) and (step == 1 or not value % step):
            return int(value) if is_whole else value
    msg = f"No number was found for {name or 'the schema'}."
    raise NoExampleError(msg)


def _limits(flat: Flat, name: str, narrowest: Any) -> Any:
    given = [flat.get(name), flat.get(f"exclusive{name.title()}")]
    limits: Iterable[Any] = [
        each for each in given if each is not None and not isinstance(each, bool)
    ]
    return narrowest(limits, default=None)


def _is_within(flat: Flat, value: float) -> bool:
    is_allowed: bool = flat.get("minimum", value) <= value <= flat.get("maximum", value)
    low, high = flat.get("exclusiveMinimum", value - 1), flat.get("exclusiveMaximum", value + 1)
    return is_allowed and bool(low < value < high)
