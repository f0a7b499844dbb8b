"""System checks of what a resource may have besides: members, custom events, versions."""

import difflib
import inspect
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from types import FunctionType
from typing import Any

from django.core import checks
from django.core.exceptions import ValidationError
from django.db import DatabaseError, router, transaction
from rest_framework import serializers

from drf_webhooks import custom_headers, versions
from drf_webhooks.changes import Operation
from drf_webhooks.conf import config, given, mistakes
from drf_webhooks.contexts import context_of
from drf_webhooks.event_types import OPERATIONAL, is_event_type
from drf_webhooks.models import Endpoint
from drf_webhooks.registry import registry
from drf_webhooks.tracing.paths import Resource

__all__ = ["check_features", "check_pinned"]

#: An age that can be taken from every moment.
_LONGEST = timedelta(days=36500)

#: What is asked of the class: nobody makes an instance of a resource.
_METHODS = ("condition", "get_headers", "get_owner", "get_queryset", "get_serializer_context")

#: Stands for members that only the code of a field knows.
_ANY = None

_Members = dict[str, Any] | None


def check_features(**_: Any) -> list[checks.CheckMessage]:
    """Declarations of resources that cannot mean what they say."""
    found: list[checks.CheckMessage] = [*_check_types(), *_check_default()]
    for resource in registry:
        if not hasattr(resource, "model"):
            continue
        found += [
            *_check_methods(resource),
            *_check_headers(resource),
            *_check_compared(resource),
            *_check_only_fields(resource),
            *_check_events(resource),
            *_check_versions(resource),
            *_check_retention(resource),
            *_check_previous(resource),
        ]
    return found


def check_pinned(*, databases: Sequence[str] | None = None, **_: Any) -> list[checks.CheckMessage]:
    """Endpoints on versions that are no more, asked of the databases."""
    known = set(versions.known())
    found: list[checks.CheckMessage] = []
    for alias in databases or ():
        if router.allow_migrate_model(alias, Endpoint):
            lost = sorted(_pinned(alias) - known - {""})
            found += [
                checks.Warning(
                    f"Endpoints in the database {alias!r} are pinned to the version {each!r}, "
                    "which no resource declares. They get the newest that is older, or the "
                    "oldest.",
                    hint="Pin them to another version, or bring its serializers back.",
                    id="drf_webhooks.W340",
                )
                for each in lost
            ]
    return found


def _pinned(alias: str) -> set[str]:
    try:
        with transaction.atomic(using=alias):
            rows = Endpoint.objects.using(alias).order_by("version").distinct()
            return set(rows.values_list("version", flat=True))
    except DatabaseError:
        # Before the migration that brings the column.
        return set()


def _check_methods(resource: Resource) -> Iterator[checks.CheckMessage]:
    for name in _METHODS:
        if isinstance(inspect.getattr_static(resource, name), FunctionType):
            yield checks.Error(
                f"{resource.__name__}.{name}() is a method of instances, and there are none.",
                hint=f"Write @classmethod above it, and def {name}(cls, ...); or @staticmethod.",
                obj=resource,
                id="drf_webhooks.E346",
            )


def _check_headers(resource: Resource) -> Iterator[checks.CheckMessage]:
    described: Any = resource.header_descriptions
    hint = "Write a dict of names and descriptions, like {'X-Region': 'Where the object is.'}."
    if not isinstance(described, Mapping) or not all(
        isinstance(each, str) for each in described.values()
    ):
        wrong = [f"It is {described!r}."]
    else:
        wrong = _wrong_headers(described)
        if described and not resource.has_headers():
            yield checks.Warning(
                f"{resource.__name__}.header_descriptions describes {', '.join(described)}, and "
                "get_headers() is not overridden: none is sent.",
                hint="Return them from get_headers(), or leave the descriptions out.",
                obj=resource,
                id="drf_webhooks.W343",
            )
    for each in wrong:
        yield checks.Error(
            f"{resource.__name__}.header_descriptions cannot be used. {each}",
            hint=hint,
            obj=resource,
            id="drf_webhooks.E347",
        )


def _wrong_headers(described: Mapping[str, str]) -> list[str]:
    """Say which names no header of a message can have."""
    try:
        custom_headers.validate(dict.fromkeys(described, "x"))
    except ValidationError as error:
        return [*error.messages]
    return []


def _check_compared(resource: Resource) -> Iterator[checks.CheckMessage]:
    if resource.is_compared() and resource.serialize == "deferred":
        name = "skip_unchanged" if resource.skip_unchanged else "only_fields"
        yield checks.Error(
            f"{resource.__name__} has {name} and serialize = 'deferred'. The worker cannot tell "
            "how an object looked before.",
            hint="Choose one of them.",
            obj=resource,
            id="drf_webhooks.E010",
        )


def _check_only_fields(resource: Resource) -> Iterator[checks.CheckMessage]:
    names: Any = resource.only_fields
    hint = "Write a list of dotted names of the serialized form, like 'tenant.address.city'."
    if isinstance(names, str) or not all(isinstance(each, str) for each in names):
        yield checks.Error(
            f"{resource.__name__}.only_fields is {names!r}.",
            hint=hint,
            obj=resource,
            id="drf_webhooks.E340",
        )
        return
    forms = list(_forms(resource))
    if names:
        yield from _check_each_version(resource, dict(zip(resource.versions, forms, strict=False)))
    if _ANY in forms:
        return
    for name in names:
        if not any(_has(form, name.split(".")) for form in forms):
            known = sorted({each for form in forms for each in _spelled(form)})
            near = difflib.get_close_matches(name, known, n=1)
            yield checks.Error(
                f"{resource.__name__}.only_fields has {name!r}, which its serialized form has not.",
                hint=f"Did you mean {near[0]!r}?" if near else hint,
                obj=resource,
                id="drf_webhooks.E340",
            )


def _check_each_version(
    resource: Resource, forms: dict[str, _Members]
) -> Iterator[checks.CheckMessage]:
    for version, form in forms.items():
        if not any(_has(form, name.split(".")) for name in resource.only_fields):
            yield checks.Warning(
                f"{resource.__name__}.only_fields has nothing that is in the version {version!r}: "
                "endpoints that get it are told of no updates.",
                hint="Name members of each version.",
                obj=resource,
                id="drf_webhooks.W342",
            )


def _forms(resource: Resource) -> Iterator[_Members]:
    writers = resource.versions or {"": resource.serializer_class}
    for version, writer in writers.items():
        try:
            yield _members(writer(context=context_of(resource, version=version)))
        except Exception:  # noqa: BLE001  # a project's own code; check E006 says it
            yield _ANY


def _members(field: Any) -> _Members:
    """Return the members of what a field writes, by name; ``None`` if only its code knows."""
    inner = getattr(field, "child", field)
    plain = {
        serializers.Serializer.to_representation,
        serializers.ModelSerializer.to_representation,
    }
    if isinstance(inner, serializers.Serializer):
        if type(inner).to_representation not in plain:
            return _ANY
        return {
            str(name): _members(each) for name, each in inner.fields.items() if not each.write_only
        }
    # Of DRF's own fields it is known what they write: one value, or several.
    is_open = type(inner) in _OPEN or not type(inner).__module__.startswith("rest_framework.")
    return _ANY if is_open else {}


#: Fields that write whatever they are given.
_OPEN = {
    serializers.SerializerMethodField,
    serializers.ReadOnlyField,
    serializers.ModelField,
    serializers.JSONField,
    serializers.DictField,
    serializers.HStoreField,
    serializers.Field,
}


def _has(form: _Members, parts: list[str]) -> bool:
    if not parts or form is _ANY:
        return True
    return parts[0] in form and _has(form[parts[0]], parts[1:])


def _spelled(form: _Members, front: str = "") -> Iterator[str]:
    for name, inner in (form or {}).items():
        yield f"{front}{name}"
        yield from _spelled(inner, f"{front}{name}.")


def _check_events(resource: Resource) -> Iterator[checks.CheckMessage]:
    for name, writer in resource.events.items():
        what = ""
        if not isinstance(name, str) or not is_event_type(name) or "." in name:
            what = "Name it with letters, digits and underscores."
        elif name in set(Operation):
            what = "That is said by itself. Give it another name."
        elif writer is not None and not _is_writer(writer, resource):
            what = (
                f"Map it to a serializer of {resource.model.__name__}, or to None for the "
                "resource's own."
            )
        if what:
            yield checks.Error(
                f"{resource.__name__}.events has {name!r}: {writer!r}.",
                hint=what,
                obj=resource,
                id="drf_webhooks.E341",
            )


def _is_writer(writer: Any, resource: Resource) -> bool:
    if not (isinstance(writer, type) and issubclass(writer, serializers.BaseSerializer)):
        return False
    model = getattr(getattr(writer, "Meta", None), "model", None)
    return model is None or model._meta.concrete_model is resource.model._meta.concrete_model


def _check_types() -> Iterator[checks.CheckMessage]:
    by_type: dict[str, list[str]] = defaultdict(list)
    for kind in OPERATIONAL:
        by_type[kind].append("the library itself")
    # Resources of one base_name are named by another check.
    for resource in {each.base_name: each for each in registry}.values():
        for kind in dict.fromkeys(resource.event_types()):
            by_type[kind].append(resource.__name__)
    for kind, names in by_type.items():
        if len(names) > 1:
            yield checks.Error(
                f"{' and '.join(names)} have one event type, {kind!r}. A receiver could not tell "
                "their events apart.",
                hint="Give a custom event, or a base_name, another name.",
                id="drf_webhooks.E342",
            )


def _check_versions(resource: Resource) -> Iterator[checks.CheckMessage]:
    if not resource.versions:
        return
    for name, writer in resource.versions.items():
        what = ""
        if not versions.is_version(name):
            what = (
                f"Name a version with letters, digits, '.', '-' and '_', at most "
                f"{versions.LONGEST} characters: '2026-01'."
            )
        elif not _is_writer(writer, resource):
            what = f"Map it to a serializer of {resource.model.__name__}."
        if what:
            yield checks.Error(
                f"{resource.__name__}.versions has {name!r}: {writer!r}.",
                hint=what,
                obj=resource,
                id="drf_webhooks.E343",
            )
            return
    last = versions.newest(resource.versions)
    if resource.versions[last] is not resource.serializer_class:
        yield checks.Error(
            f"{resource.__name__}.serializer_class is {resource.serializer_class.__name__}, and "
            f"its newest version, {last!r}, has {resource.versions[last].__name__}.",
            hint="Leave serializer_class out, or give it a version.",
            obj=resource,
            id="drf_webhooks.E343",
        )


def _check_default() -> Iterator[checks.CheckMessage]:
    if mistakes(given()):
        return
    chosen, known = config().DEFAULT_VERSION, versions.known()
    if chosen is not None and chosen not in known:
        yield checks.Error(
            f"DRF_WEBHOOKS['DEFAULT_VERSION'] is {chosen!r}, which no resource declares.",
            hint=f"Known versions: {', '.join(known) or 'none'}.",
            id="drf_webhooks.E344",
        )


def _check_retention(resource: Resource) -> Iterator[checks.CheckMessage]:
    chosen: Any = resource.retention
    is_length = isinstance(chosen, timedelta) and timedelta(0) < chosen <= _LONGEST
    if chosen is not None and not is_length:
        yield checks.Error(
            f"{resource.__name__}.retention is {chosen!r}.",
            hint=(
                f"Write a timedelta of at most {_LONGEST.days} days, or None for what the settings "
                "say."
            ),
            obj=resource,
            id="drf_webhooks.E345",
        )


def _check_previous(resource: Resource) -> Iterator[checks.CheckMessage]:
    if resource.previous_attributes and (resource.thin or not resource.update):
        why = "is thin" if resource.thin else "says no updates"
        yield checks.Warning(
            f"{resource.__name__} has previous_attributes and {why}: nobody is sent them, and "
            "they cost a query all the same.",
            hint="Leave one of them out.",
            obj=resource,
            id="drf_webhooks.W341",
        )
