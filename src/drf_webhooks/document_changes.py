"""Compare the webhooks of two OpenAPI documents, and say what breaks their receivers."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from drf_webhooks.schema_changes import Difference, differences
from drf_webhooks.schema_forms import NOTES, resolved
from drf_webhooks.versions import order

__all__ = ["Changes", "changes", "described"]

Document = Mapping[str, Any]

_METHODS = ("post", "put", "patch")


@dataclass(frozen=True)
class Changes:
    """What a receiver of the old document's messages meets with those of the new one."""

    breaking: list[str] = field(default_factory=list)
    compatible: list[str] = field(default_factory=list)


def changes(new: Document, old: Document) -> Changes:
    """Compare the webhooks of two documents.

    Raises:
        ValueError: one of them is no OpenAPI document of version 3.1 or later, or has a
            reference that leads nowhere.

    """
    _check(new)
    _check(old)
    result = Changes()
    now, before = new.get("webhooks", {}), old.get("webhooks", {})
    for name in sorted({*now, *before}):
        if name not in now:
            result.breaking.append(f"{name}: is not sent any more")
        elif name not in before:
            result.compatible.append(f"{name}: is new")
        else:
            _compare(name, _Webhook(now[name], new), _Webhook(before[name], old), result)
    return result


def _check(document: Document) -> None:
    version = document.get("openapi") if isinstance(document, Mapping) else None
    if not isinstance(version, str) or version.startswith("3.0"):
        msg = f"This is no OpenAPI document of version 3.1 or later: openapi is {version!r}."
        raise ValueError(msg)


class _Webhook:
    """One event type's request, with what its references point at."""

    def __init__(self, item: Any, document: Document) -> None:
        self.document = document
        item = self.followed(item)
        operation: Any = next((item[each] for each in _METHODS if each in item), {})
        body = self.followed(operation.get("requestBody", {}))
        #: Schemas by content type.
        self.bodies: dict[str, Any] = {
            kind: media.get("schema", True) for kind, media in body.get("content", {}).items()
        }
        parameters = [self.followed(each) for each in operation.get("parameters", ())]
        self.headers: dict[str, Any] = {
            each["name"].lower(): each for each in parameters if each.get("in") == "header"
        }

    def followed(self, what: Any) -> Any:
        while "$ref" in what:
            what = resolved(what["$ref"], self.document)
        return what


def _compare(name: str, now: _Webhook, before: _Webhook, result: Changes) -> None:
    said: set[str] = set()
    for kind, old in before.bodies.items():
        if kind not in now.bodies:
            result.breaking.append(f"{name}: has no {kind} any more")
            continue
        found = Changes()
        _compare_bodies(now, before, now.bodies[kind], old, found)
        # Each way that a message may be written has the same parts.
        for lines, into in (
            (found.breaking, result.breaking),
            (found.compatible, result.compatible),
        ):
            into.extend([f"{name}: {each}" for each in dict.fromkeys(lines) if each not in said])
            said.update(lines)
    result.compatible.extend(
        [f"{name}: has {each} too" for each in now.bodies.keys() - before.bodies]
    )
    result.breaking.extend([f"{name}: {each}" for each in _of_headers(now, before)])
    result.compatible.extend(
        [f"{name}: has the header {each}" for each in now.headers.keys() - before.headers]
    )


def _compare_bodies(now: _Webhook, before: _Webhook, new: Any, old: Any, result: Changes) -> None:
    """Compare each variant of a message with the one that was in its place."""
    new_ones, old_ones = _variants(new, now), _variants(old, before)
    for way, schema in old_ones.items():
        place = way if way in new_ones else _heir(way, new_ones)
        if place is not None:
            front = f"version {way.version}: " if way.version else ""
            _compare_variants(now, before, new_ones[place], schema, front, result)
        elif not way.is_thin:
            is_thin = way._replace(is_thin=True) in new_ones
            what = "is only sent thin" if is_thin else "is not sent any more"
            result.breaking.append(f"version {way.version} {what}" if way.version else what)
        else:
            result.compatible.append("is never thin any more")
    heirs = {_heir(each, new_ones) for each in old_ones if each not in new_ones}
    known = heirs.union(old_ones)
    for way in sorted(way for way in new_ones if way not in known):
        other = way._replace(is_thin=not way.is_thin)
        if other in known:
            front = f"version {way.version} " if way.version else ""
            result.breaking.append(f"{front}may be {'thin' if way.is_thin else 'whole'}")
        else:
            # Said once of what is whole and thin.
            result.compatible.append(f"version {way.version} is new")


class _Way(NamedTuple):
    """Which variant of a message a schema is of."""

    version: str = ""
    is_thin: bool = False


_UNVERSIONED = _Way()


def _heir(way: _Way, new_ones: Mapping[_Way, Any]) -> _Way | None:
    """Return what is sent to who got a variant before there were versions, or while there were."""
    others = [each for each in new_ones if each.is_thin == way.is_thin]
    if not way.version:
        # Who is pinned to nothing gets the oldest.
        return min(others, key=lambda each: order(each.version), default=None)
    return next((each for each in others if not each.version), None)


def _variants(schema: Any, webhook: _Webhook) -> dict[_Way, Any]:
    """Return the schemas of a message's variants: those of a union that say which they are."""
    whole = webhook.followed(schema) if isinstance(schema, Mapping) else schema
    if not isinstance(whole, Mapping) or whole.keys() - NOTES != {"anyOf"}:
        return {_way(whole): schema}
    found = {_way(webhook.followed(each)): each for each in whole["anyOf"]}
    # Two of one way are no variants.
    return found if len(found) == len(whole["anyOf"]) else {_UNVERSIONED: schema}


def _way(schema: Any) -> _Way:
    known = schema.get("properties", {}) if isinstance(schema, Mapping) else {}
    versions = [known[each].get("const") for each in ("version", "payloadversion") if each in known]
    is_thin = known.get("thin", {}).get("const") is True
    return _Way(next((each for each in versions if isinstance(each, str)), ""), is_thin)


def _compare_variants(
    now: _Webhook, before: _Webhook, new: Any, old: Any, front: str, result: Changes
) -> None:
    found = _differ(now, before, new, old)
    breaking = described(found)
    result.breaking.extend([f"{front}{each}" for each in breaking])
    back = _differ(before, now, old, new)
    broken = {each.where for each in found}
    fine = described((each for each in back if each.where not in broken), _FINE)
    result.compatible.extend([f"{front}{each}" for each in fine])


def _differ(now: _Webhook, before: _Webhook, new: Any, old: Any) -> list[Difference]:
    return differences(new, old, new_root=now.document, old_root=before.document)


def _of_headers(now: _Webhook, before: _Webhook) -> Iterator[str]:
    for header, old in before.headers.items():
        new = now.headers.get(header)
        if new is None:
            yield f"has no header {header} any more"
            continue
        if old.get("required") and not new.get("required"):
            yield f"may be without the header {header}"
        found = _differ(now, before, new.get("schema", True), old.get("schema", True))
        for each in described(found):
            yield f"the header {header} {each}"


_BREAKS = {
    "removed": "is not there any more",
    "optional": "may be missing",
    "type": "may be of the type {what}, and was {was}",
    "null": "may be null",
    "value": "may be {what}",
    "values": "may be anything, and was one of {was}",
    "format": "has the format {what}, and had {was}",
    "limit": "has not the limit {what} {was} any more",
    "closed": "is there, where nothing else was to be",
    "unknown": "cannot be compared: {what}",
}
#: What the same difference means the other way round.
_FINE = {
    "removed": "is new",
    "optional": "is always there",
    "type": "is never of the type {what} any more",
    "null": "is never null any more",
    "value": "is never {what} any more",
    "values": "is one of {was}",
    "format": "has the format {was}",
    "limit": "has the limit {what} {was}",
    "closed": "is not there, as nothing else is",
    "unknown": "is another schema: {what}",
}


def described(found: Iterable[Difference], words: Mapping[str, str] = _BREAKS) -> list[str]:
    """Write differences down, those of one place and kind in one line."""
    lines: dict[tuple[str, str, str], list[str]] = {}
    for each in found:
        kind = "values" if each.kind == "value" and not each.what else each.kind
        lines.setdefault((each.where, kind, each.was), []).append(each.what)
    return [
        f"{where} {words[kind].format(what=' or '.join(what), was=was)}".strip()
        for (where, kind, was), what in lines.items()
    ]
