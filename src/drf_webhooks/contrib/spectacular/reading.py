"""Ask drf-spectacular what a serializer writes, and doubt what it cannot know.

Its schemas are of what a REST API takes and gives, and where it cannot tell a type it says
"string". A message is only given. So what is written only is left out, what may be null is so,
and what was guessed is left open.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.core.exceptions import FieldDoesNotExist
from django.utils import translation
from drf_spectacular.drainage import GENERATOR_STATS, get_override, has_override
from drf_spectacular.extensions import (
    OpenApiSerializerExtension,
    OpenApiSerializerFieldExtension,
)
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import (
    ComponentRegistry,
    UnableToProceedError,
    force_instance,
    get_type_hints,
    is_list_serializer,
    is_serializer,
    normalize_result_object,
    resolve_type_hint,
)
from rest_framework import ISO_8601, serializers
from rest_framework.fields import empty
from rest_framework.settings import api_settings
from rest_framework.views import APIView

from drf_webhooks import payloads
from drf_webhooks.conf import config
from drf_webhooks.contexts import context_of
from drf_webhooks.contrib.spectacular.modern import META, modern, nullable
from drf_webhooks.event_schemas import Form
from drf_webhooks.event_shapes import Part
from drf_webhooks.json_text import encode
from drf_webhooks.tracing.paths import Resource

__all__ = ["read"]

Schema = dict[str, Any]

#: Parts of drf-spectacular that have no types.
_normalized: Callable[[Any], Any] = normalize_result_object
_instance: Callable[[Any], Any] = force_instance
_resolved: Callable[[Any], Schema] = resolve_type_hint

#: What drf-spectacular has to say is kept for the whole process.
_one_at_a_time = threading.RLock()

_DYNAMIC = ("fields", "get_field_names", "get_fields")
#: The format that each kind of field has, and the setting for those that say nothing.
_TIMES = (
    (serializers.DateTimeField, "DATETIME_FORMAT"),
    (serializers.DateField, "DATE_FORMAT"),
    (serializers.TimeField, "TIME_FORMAT"),
)
_LINKS = (serializers.HyperlinkedRelatedField, serializers.FileField)


def read(parts: Sequence[Part]) -> Form:
    """Return what ``data`` looks like that has one of these forms."""
    reader = _Reader()
    with _one_at_a_time, translation.override(settings.LANGUAGE_CODE):
        schemas = [reader.read(each) for each in parts]
        components = _normalized(reader.components())
        schemas = _normalized(schemas)
    return Form(
        [modern(each) for each in schemas],
        {name: modern(each) for name, each in components.items()},
        list(dict.fromkeys(reader.notes)),
        reader.examples[0],
    )


class _Reader:
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.examples: list[Any] = []
        self._registry = ComponentRegistry()

    def read(self, part: Part) -> Schema:
        self.examples.append(None)
        if part.of == "schema":
            return part.schema
        depth = len(GENERATOR_STATS._traces)
        writer = part.resource.serializer_for(part.name, part.version)
        try:
            context = context_of(part.resource, version=part.version, base_url=config().BASE_URL)
            return self._read(part, writer(context=context))
        except Exception as error:  # noqa: BLE001  # runs anybody's code
            self.notes.append(f"{writer.__name__} cannot be made: {type(error).__name__}: {error}")
            # Where drf-spectacular was when it failed; else all that follows seems to be there.
            del GENERATOR_STATS._traces[depth:]
            return {}

    def _read(self, part: Part, serializer: Any) -> Schema:
        if part.of == "form":
            return self._form(part.resource, serializer)
        if part.of == "key":
            return self._key(part.resource, serializer)
        return self._thin(part, serializer)

    def components(self) -> dict[str, Schema]:
        found: dict[str, Schema] = self._registry.build({}).get("schemas", {})
        return found

    def _form(self, resource: Resource, serializer: Any) -> Schema:
        schema = self._schema(is_changeable=resource.is_addressed())
        component = schema.resolve_serializer(serializer, "response")
        examples = get_override(serializer, "examples", [])
        given = [each.value for each in examples if not each.request_only]
        self.examples[-1] = given[0] if given else None
        if component:
            reference: Schema = component.ref
            return reference
        is_object = isinstance(serializer, serializers.Serializer)
        return {"type": "object"} if is_object else {}

    def _key(self, resource: Resource, serializer: Any) -> Schema:
        field = next(iter(payloads.key_fields(resource, serializer)), None)
        name = resource.model._meta.pk.name if field is None else field.field_name
        if field is None:
            field = _key_serializer(resource.model, name).fields.get(name)
        found = self._schema()._map_serializer_field(field, "response")
        return {"type": "object", "properties": {name: found}, "required": [name]}

    def _thin(self, part: Part, serializer: Any) -> Schema:
        """Return what a thin message keeps of the form: the fields of the key, and links."""
        names = payloads.key_names(part.resource, part.version)
        if not names:
            return self._key(part.resource, serializer)
        schema = self._schema(is_changeable=part.resource.is_addressed())
        # What the whole form needs is not needed here, and was said of it.
        schema.registry, schema.notes = ComponentRegistry(), []
        component = schema.resolve_serializer(serializer, "response")
        form: Schema = (component.schema if component else None) or {}
        known = form.get("properties", {})
        required = [each for each in names if each in form.get("required", ())]
        return {
            "type": "object",
            "properties": {each: known[each] for each in names if each in known},
            **({"required": required} if required else {}),
        }

    def _schema(self, *, is_changeable: bool = False) -> Any:
        base: Any = api_settings.DEFAULT_SCHEMA_CLASS
        if not (isinstance(base, type) and issubclass(base, AutoSchema)):
            base = AutoSchema
        schema: Any = type("Reading", (_Reading, base), {})()
        schema.notes = self.notes
        schema.is_changeable = is_changeable
        schema.registry = self._registry
        # As in a real generation, for the project's own class may ask.
        schema.view = APIView()
        schema.view.request = None
        schema.view.kwargs = {}
        schema.path = schema.path_regex = "/"
        schema.path_prefix = ""
        schema.method = "POST"
        return schema


def _key_serializer(model: Any, name: str) -> serializers.ModelSerializer[Any]:
    meta = type("Meta", (), {"model": model, "fields": [name]})
    made: type[serializers.ModelSerializer[Any]] = type(
        f"{model.__name__}Key", (serializers.ModelSerializer,), {"Meta": meta}
    )
    return made()


class _Reading:
    """Mixed into the project's ``AutoSchema``: only what is given, and nothing that is guessed."""

    notes: list[str]
    is_changeable: bool

    def _map_serializer(
        self,
        serializer: Any,
        direction: str,
        bypass_extensions: bool = False,
    ) -> Schema:
        above: Any = super()
        serializer = _instance(serializer)
        own = type(serializer).to_representation
        is_told = (
            bypass_extensions
            or hasattr(type(serializer), "_spectacular_annotation")
            or OpenApiSerializerExtension.get_match(serializer) is not None
        )
        if _is_own(own) and not is_told:
            is_object = isinstance(serializer, serializers.Serializer)
            anything = {"type": "object", "additionalProperties": {}} if is_object else {}
            hinted = _by_hint(own) or anything
            if "properties" not in hinted:
                allowed = "any object" if is_object else "anything"
                self.notes.append(
                    f"{type(serializer).__name__}.to_representation() is code, so {allowed} is "
                    "allowed. Let it return a TypedDict, or write @extend_schema_serializer() "
                    "if its fields tell the truth."
                )
            return hinted
        schema: Schema = above._map_serializer(serializer, direction, bypass_extensions)
        if "required" in schema and not is_told:
            kept = [each for each in schema["required"] if not self._may_miss(serializer, each)]
            schema = {**schema, "required": kept}
            if not kept:
                del schema["required"]
        return schema

    def _may_miss(self, serializer: Any, name: str) -> bool:
        if self.is_changeable and any(
            _is_own(getattr(type(serializer), each)) for each in _DYNAMIC
        ):
            return True
        field = serializer.fields.get(name)
        return field is not None and _gaps(field)[1]

    def _map_serializer_field(
        self,
        field: Any,
        direction: str,
        bypass_extensions: bool = False,
    ) -> Schema | None:
        above: Any = super()
        if getattr(field, "write_only", False):
            return None
        with _unheard() as is_guess:
            schema: Schema | None = above._map_serializer_field(field, direction, bypass_extensions)
            is_guessed = is_guess()
        if schema is None:
            return None
        is_told = (
            bypass_extensions
            or has_override(field, "field")
            or OpenApiSerializerFieldExtension.get_match(field) is not None
        )
        if not is_told and not is_serializer(field):
            schema = self._doubted(field, schema, is_guessed=is_guessed)
        may_be_null = not is_told and _gaps(field)[0]
        return nullable(schema) if may_be_null else schema

    def _doubted(self, field: Any, schema: Schema, *, is_guessed: bool) -> Schema:
        own = type(field).to_representation
        if not is_guessed and not _is_own(own):
            return _as_sent(field, schema)
        hinted = None if is_guessed else _by_hint(own)
        meta = {name: schema[name] for name in META if name in schema}
        if hinted is None:
            name = f"{type(field.parent).__name__}.{field.field_name}"
            self.notes.append(
                f"{name} is of no type that can be told, so anything is allowed. Give its method "
                "a type hint, or write @extend_schema_field()."
            )
            return meta
        return schema if hinted.get("type") == schema.get("type") else {**meta, **hinted}

    def _get_serializer_name(
        self,
        serializer: Any,
        direction: str,
        bypass_extensions: bool = False,
    ) -> str:
        """Keep serializers of one name apart; drf-spectacular takes the first for all."""
        above: Any = super()
        name: str = above._get_serializer_name(serializer, direction, bypass_extensions)
        if is_list_serializer(serializer) or OpenApiSerializerExtension.get_match(serializer):
            return name
        registry: Any = self.registry  # type: ignore[attr-defined]  # AutoSchema's
        taken = {key: each.object for (key, _), each in registry._components.items()}
        number, free = 2, name
        while free in taken and _is_other(taken[free], serializer):
            free = f"{name}{number}"
            number += 1
        return free


def _is_other(known: Any, serializer: Any) -> bool:
    """Tell whether two serializers of one name may have different fields."""
    if type(known) is not type(serializer):
        return True
    is_dynamic = any(_is_own(getattr(type(serializer), each)) for each in _DYNAMIC)
    return is_dynamic and _version(known) != _version(serializer)


def _version(serializer: Any) -> Any:
    return getattr(serializer, "context", {}).get("version")


@contextmanager
def _unheard() -> Iterator[Callable[[], bool]]:
    """Keep drf-spectacular's warnings out of its report, and tell whether it warned."""
    stats = GENERATOR_STATS
    caches = stats._warn_cache, stats._error_cache
    kept = [dict(each) for each in caches]
    try:
        with stats.silence():
            yield lambda: [dict(each) for each in caches] != kept
    finally:
        for cache, was in zip(caches, kept, strict=True):
            cache.clear()
            cache.update(was)


def _is_own(function: Any) -> bool:
    """Tell whether something is the project's code, and not DRF's."""
    code = getattr(function, "fget", None) or getattr(function, "func", None) or function
    return str(getattr(code, "__module__", "")).partition(".")[0] != "rest_framework"


def _by_hint(function: Any) -> Schema | None:
    """Return what the type hint of a function says, or ``None``."""
    try:
        hint = get_type_hints(function).get("return")
        return None if hint in {None, Any, type(None)} else _resolved(hint)
    except (UnableToProceedError, TypeError, KeyError):
        return None


def _as_sent(field: Any, schema: Schema) -> Schema:
    """Correct what drf-spectacular says of fields that are written otherwise."""
    is_decimal = isinstance(field, serializers.DecimalField) and schema.get("type") != "string"
    # The oldest DRF writes decimals as text, the newest as numbers.
    if is_decimal and encode(Decimal(1)).startswith(
        b'"'
    ):  # pragma: no cover  # seen with the oldest
        meta = {name: schema[name] for name in META if name in schema}
        return {**meta, "type": "string", "format": "decimal"}
    if isinstance(field, serializers.UUIDField) and field.uuid_format == "int":
        return {**schema, "type": "integer", "format": "int64"}
    if isinstance(field, _LINKS) and config().BASE_URL is None and schema.get("format") == "uri":
        return {**schema, "format": "uri-reference"}
    for kind, setting in _TIMES:
        if isinstance(field, kind):
            written = getattr(field, "format", getattr(api_settings, setting))
            if written is not None and written.lower() != ISO_8601:
                return {name: value for name, value in schema.items() if name != "format"}
    return schema


def _gaps(field: Any) -> tuple[bool, bool]:
    """Tell whether what a field reads may be null, and whether it may be missing altogether."""
    model = getattr(getattr(field.parent, "Meta", None), "model", None)
    if not isinstance(field.parent, serializers.Serializer) or model is None:
        return False, False
    names = list(field.source_attrs)
    is_null = is_missing = False
    while names and model is not None:
        name = names.pop(0)
        found = _attribute(model, name)
        if found is None or not _is_single(found):
            # An annotation or a property: what it gives is for the field to say.
            is_null = is_null or (found is None and _stands_for_null(field))
            break
        if _may_be_empty(found):
            # Django says of a row behind that it does not exist, which DRF takes for null.
            is_end = not names or bool(found.auto_created)
            is_null = is_null or is_end or field.allow_null or _stands_for_null(field)
            is_missing = is_missing or (
                bool(names) and field.default is empty and not (field.required or field.allow_null)
            )
        model = found.related_model
    return is_null and not isinstance(field, serializers.ManyRelatedField), is_missing


def _stands_for_null(field: Any) -> bool:
    """Tell whether the default of a field is null, or may be."""
    return field.default is None or (field.default is not empty and callable(field.default))


def _attribute(model: Any, name: str) -> Any:
    """Return the column or relation that an attribute of a row is, or ``None``."""
    for relation in model._meta.related_objects:
        if relation.get_accessor_name() == name:
            return relation
    try:
        return model._meta.pk if name == "pk" else model._meta.get_field(name)
    except FieldDoesNotExist:
        return None


def _is_single(found: Any) -> bool:
    return not (found.is_relation and (found.many_to_many or found.one_to_many))


def _may_be_empty(found: Any) -> bool:
    if found.is_relation and not found.concrete:
        # A row behind that there may not be, or a generic key whose row is gone.
        return True
    return bool(getattr(found, "null", False))
