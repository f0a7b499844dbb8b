"""Tell what of one JSON Schema another does not accept: how a message may break its receivers.

``differences(new, old)`` is empty only if each value that is valid for ``new`` is valid for
``old``. Where that cannot be told it says so, as a difference. See
``docs/explanation/compatibility.md``.
"""

from dataclasses import dataclass
from typing import Any

from drf_webhooks.schema_forms import (
    NOTES,
    UNIONS,
    Flat,
    Schema,
    alternatives,
    conjuncts,
    listed,
    text,
)

__all__ = ["Difference", "Kind", "differences"]

#: What a difference is of; ``old`` accepted less of it.
Kind = str
#: Keywords that are compared one by one; others must be the same.
_COMPARED = {
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "number": frozenset(
        {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "format"}
    ),
    "array": frozenset({"items", "prefixItems", "minItems", "maxItems", "uniqueItems"}),
    "object": frozenset(
        {
            "properties",
            "required",
            "additionalProperties",
            "patternProperties",
            "minProperties",
            "maxProperties",
        }
    ),
}
_OF_ANY = frozenset({"type", "const", "enum", *UNIONS})
_KEYWORDS = frozenset().union(*_COMPARED.values(), _OF_ANY)
#: Depend on what stands beside them, so that even the same may mean something else.
_IN_CONTEXT = frozenset({"unevaluatedProperties", "unevaluatedItems", "$dynamicRef"})
_DEEPEST = 64


@dataclass(frozen=True)
class Difference:
    """What ``new`` allows at a place, and ``old`` does not.

    ``kind`` is ``removed``, ``optional``, ``type``, ``null``, ``value``, ``format``, ``limit``,
    ``closed`` or ``unknown``. ``what`` and ``was`` say more, by kind.
    """

    where: str
    kind: Kind
    what: str = ""
    was: str = ""


def differences(
    new: Schema, old: Schema, *, new_root: Any = None, old_root: Any = None, where: str = ""
) -> list[Difference]:
    """Return what ``new`` allows and ``old`` does not.

    Args:
        new: What values are valid for now.
        old: What they were valid for.
        new_root: The document that references of ``new`` are of; by default ``new`` itself.
        old_root: The same of ``old``.
        where: The name of the place that is compared.

    ``oneOf`` counts as ``anyOf``, and ``format`` as something that is checked.

    Raises:
        ValueError: a reference leads nowhere, or out of its document.

    """
    comparison = _Comparison(
        new if new_root is None else new_root, old if old_root is None else old_root
    )
    return list(dict.fromkeys(comparison.compare(new, old, where)))


class _Comparison:
    def __init__(self, new_root: Any, old_root: Any) -> None:
        self._new_root = new_root
        self._old_root = old_root
        self._open: set[tuple[str, str]] = set()

    def compare(self, new: Schema, old: Schema, where: str) -> list[Difference]:
        pair = text(new), text(old)
        if pair in self._open:
            # A recursive schema: what is below was asked already.
            return []
        if pair[0] == pair[1] and "$ref" not in pair[0] and "$dynamicRef" not in pair[0]:
            return []
        if len(self._open) > _DEEPEST:
            return [_unknown(where, "its depth")]
        self._open.add(pair)
        try:
            return [
                each
                for alternative in alternatives(new, self._new_root)
                for each in self._check(alternative, old, where)
            ]
        finally:
            self._open.discard(pair)

    def _check(self, new: Flat, old: Schema, where: str) -> list[Difference]:
        """Compare one alternative, which has one type, with anything."""
        return [
            each
            for part in conjuncts(old, self._old_root)
            for each in self._check_part(new, part, where)
        ]

    def _check_part(self, new: Flat, old: Schema, where: str) -> list[Difference]:
        if old is True:
            return []
        if old is False:
            return [Difference(where, "type", new["type"], "nothing")]
        found = self._check_flat(new, old, where)
        for union in UNIONS:
            if union in old:
                found += self._check_union(new, old[union], where)
        return found

    def _check_union(self, new: Flat, branches: list[Schema], where: str) -> list[Difference]:
        tried = [self._check(new, branch, where) for branch in branches]
        if not all(tried):
            return []
        # Of the branches that are of the same type, one says best what is wrong.
        same = [some for some in tried if not any(_is_whole(each, where) for each in some)]
        if len(same) == 1:
            return same[0]
        if "const" in new:
            return [Difference(where, "value", text(new["const"]))]
        if same:
            return [_unknown(where, "its alternatives")]
        was = {each.was for some in tried for each in some if each.was and _is_whole(each, where)}
        return [_of_type(where, new["type"], ", ".join(sorted(was)))]

    def _check_flat(self, new: Flat, old: Flat, where: str) -> list[Difference]:
        kind = new["type"]
        if "type" in old:
            types = listed(old["type"])
            if kind not in types and not (kind == "integer" and "number" in types):
                return [_of_type(where, kind, " or ".join(types))]
        found = _check_values(new, old, where)
        own = "number" if kind == "integer" else kind
        for keyword in old.keys() - _KEYWORDS - NOTES:
            if keyword.startswith("x-"):
                continue
            is_same = text(old[keyword]) == text(new.get(keyword))
            if not is_same or keyword in _IN_CONTEXT or "$ref" in text(old[keyword]):
                found.append(_unknown(where, keyword))
        if own == "string":
            found += _check_string(new, old, where)
        elif own == "number":
            found += _check_number(new, old, where)
        elif "const" in new and own in {"array", "object"}:
            found += [_unknown(where, keyword) for keyword in old.keys() & _COMPARED[own]]
        elif own == "array":
            found += self._check_array(new, old, where)
        elif own == "object":
            found += self._check_object(new, old, where)
        return found

    def _check_array(self, new: Flat, old: Flat, where: str) -> list[Difference]:
        found = _check_bounds(new, old, where, ("minItems", "maxItems"))
        if old.get("uniqueItems") and not new.get("uniqueItems"):
            found.append(Difference(where, "limit", "uniqueItems"))
        place = f"{where}[]"
        first, was_first = new.get("prefixItems", []), old.get("prefixItems", [])
        for at, part in enumerate(was_first):
            one = first[at] if at < len(first) else new.get("items", True)
            found += self.compare(one, part, f"{where}[{at}]")
        rest = old.get("items", True)
        for at, part in list(enumerate(first))[len(was_first) :]:
            found += self.compare(part, rest, f"{where}[{at}]")
        return found + self.compare(new.get("items", True), rest, place)

    def _check_object(self, new: Flat, old: Flat, where: str) -> list[Difference]:
        found = _check_bounds(new, old, where, ("minProperties", "maxProperties"))
        known, was_known = new.get("properties", {}), old.get("properties", {})
        has, had = new.get("required", ()), old.get("required", ())
        for name, part in was_known.items():
            place = _below(where, name)
            if name not in known:
                found.append(Difference(place, "removed"))
                continue
            if name in had and name not in has:
                found.append(Difference(place, "optional"))
            found += self.compare(known[name], part, place)
        found += [
            Difference(_below(where, name), "removed" if name not in known else "optional")
            for name in had
            if name not in was_known and name not in has
        ]
        return found + self._check_others(new, old, where)

    def _check_others(self, new: Flat, old: Flat, where: str) -> list[Difference]:
        """Compare what may stand beside the properties that ``old`` names."""
        patterns, were = new.get("patternProperties", {}), old.get("patternProperties", {})
        if were:
            is_same = text(patterns) == text(were) and "$ref" not in text(were)
            return [] if is_same and _is_open(old) else [_unknown(where, "patternProperties")]
        if _is_open(old):
            return []
        rest = old["additionalProperties"]
        others = {
            name: part
            for name, part in new.get("properties", {}).items()
            if name not in old.get("properties", {})
        }
        found: list[Difference] = []
        for name, part in others.items():
            place = _below(where, name)
            if rest is False:
                found.append(Difference(place, "closed"))
            else:
                found += self.compare(part, rest, place)
        for part in [*patterns.values(), new.get("additionalProperties", True)]:
            if part is False:
                continue
            place = _below(where, "*")
            if rest is False:
                found.append(Difference(place, "closed"))
            else:
                found += self.compare(part, rest, place)
        return found


def _is_whole(found: Difference, where: str) -> bool:
    return found.where == where and found.kind in {"type", "null", "value"}


def _of_type(where: str, kind: str, was: str) -> Difference:
    if kind == "null":
        return Difference(where, "null", "null", was)
    return Difference(where, "type", kind, was)


def _unknown(where: str, what: str) -> Difference:
    return Difference(where, "unknown", what)


def _below(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _is_open(schema: Flat) -> bool:
    return schema.get("additionalProperties", True) in (True, {})


def _check_values(new: Flat, old: Flat, where: str) -> list[Difference]:
    if "const" not in old and "enum" not in old:
        return []
    allowed = {text(each) for each in old.get("enum", [old.get("const")])}
    if "const" in old:
        allowed &= {text(old["const"])}
    if "const" not in new:
        return [Difference(where, "value", "", ", ".join(sorted(allowed)))]
    value = text(new["const"])
    return [] if value in allowed else [Difference(where, "value", value)]


def _check_string(new: Flat, old: Flat, where: str) -> list[Difference]:
    value = new.get("const")
    if value is not None:
        new = {**new, "minLength": len(value), "maxLength": len(value)}
    found = _check_bounds(new, old, where, ("minLength", "maxLength"))
    if "pattern" in old and new.get("pattern") != old["pattern"]:
        found.append(Difference(where, "limit", "pattern", old["pattern"]))
    return found + _check_format(new, old, where)


def _check_format(new: Flat, old: Flat, where: str) -> list[Difference]:
    if "format" not in old or new.get("format") == old["format"]:
        return []
    return [Difference(where, "format", new.get("format", "none"), old["format"])]


def _check_number(new: Flat, old: Flat, where: str) -> list[Difference]:
    value = new.get("const")
    if value is not None:
        new = {**new, "minimum": value, "maximum": value}
    found = []
    for low, sign in (("minimum", 1), ("maximum", -1)):
        was = _bound(old, low, sign)
        if was is not None and not ((bound := _bound(new, low, sign)) is not None and bound >= was):
            found.append(Difference(where, "limit", low, str(old.get(low, "")) or "a limit"))
    step = old.get("multipleOf")
    if step is not None and new.get("multipleOf") != step:
        found.append(Difference(where, "limit", "multipleOf", str(step)))
    return found + _check_format(new, old, where)


def _bound(schema: Flat, name: str, sign: int) -> tuple[float, bool] | None:
    """Return the narrowest limit on one side, so that greater is narrower."""
    strict = schema.get(f"exclusive{name.title()}")
    limits = []
    if name in schema:
        # As OpenAPI 3.0 wrote it: a flag beside the limit.
        limits.append((sign * schema[name], strict is True))
    if strict is not None and not isinstance(strict, bool):
        limits.append((sign * strict, True))
    return max(limits) if limits else None


def _check_bounds(new: Flat, old: Flat, where: str, keywords: tuple[str, str]) -> list[Difference]:
    least, most = keywords
    found = []
    if new.get(least, 0) < old.get(least, 0):
        found.append(Difference(where, "limit", least, str(old[least])))
    if most in old and not new.get(most, old[most] + 1) <= old[most]:
        found.append(Difference(where, "limit", most, str(old[most])))
    return found
