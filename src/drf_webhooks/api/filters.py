"""Filters by query parameters: each is read by a field, and what it cannot read is refused."""

import json
from datetime import UTC, datetime
from typing import Any, ClassVar

from django.db.models import Q, QuerySet
from rest_framework import serializers
from rest_framework.filters import BaseFilterBackend
from rest_framework.request import Request

from drf_webhooks.event_types import is_pattern, refusal
from drf_webhooks.models import Delivery, Endpoint, Recovery

__all__ = [
    "AttemptFilters",
    "DeliveryFilters",
    "EndpointFilters",
    "Filters",
    "MomentField",
    "RecoveryFilters",
    "SerializerFilterBackend",
]

#: What each database and each time zone can say.
_FIRST, _LAST = datetime(1970, 1, 2, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
_LONGEST_KEY = 400


class MomentField(serializers.DateTimeField):
    """A moment that every database knows."""

    def to_internal_value(self, value: Any) -> datetime:
        moment = super().to_internal_value(value)
        if not isinstance(moment, datetime) or not _FIRST <= moment <= _LAST:
            msg = f"It must be {_FIRST.year} to {_LAST.year - 1}."
            raise serializers.ValidationError(msg)
        return moment


class PatternField(serializers.CharField):
    """An event type, or a pattern of event types."""

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        if not is_pattern(text):
            raise serializers.ValidationError(refusal(text))
        return text


class KeyField(serializers.CharField):
    """A primary key: as JSON, or as its text."""

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            # As the library writes keys.
            return json.dumps(text, ensure_ascii=False)
        return text


class Filters(serializers.Serializer[Any]):
    """Fields by the names of query parameters; ``lookups`` says what each compares.

    A field without a lookup has a method ``filter_<name>(value)`` that returns a ``Q``.
    """

    lookups: ClassVar[dict[str, str]] = {}

    def condition(self) -> Q:
        """Return what the parameters ask for."""
        found = Q()
        for name, value in self.validated_data.items():
            lookup = self.lookups.get(name)
            found &= Q(**{lookup: value}) if lookup else getattr(self, f"filter_{name}")(value)
        return found


def _of_type(path: str, pattern: str) -> Q:
    """Leave events whose type a pattern matches."""
    if pattern == "*":
        return Q()
    if pattern.endswith(".*"):
        return Q(**{f"{path}__startswith": pattern.removesuffix("*")})
    return Q(**{path: pattern})


def _in_state(path: str, state: str) -> Q:
    """Leave deliveries in a state."""
    is_waiting = state == Delivery.State.WAITING
    # Whatever waits is due at some time, and by that it has an index.
    is_due = Q(**{f"{path}due_at__isnull": False}) if is_waiting else Q()
    return Q(**{f"{path}state": state}) & is_due


class EndpointFilters(Filters):
    """Filters of endpoints."""

    state = serializers.ChoiceField(Endpoint.State.choices, required=False)

    lookups: ClassVar = {"state": "state"}


class DeliveryFilters(Filters):
    """Filters of deliveries."""

    endpoint = serializers.UUIDField(required=False)
    event_type = PatternField(required=False, max_length=200)
    state = serializers.ChoiceField(Delivery.State.choices, required=False)
    resource = serializers.CharField(required=False, max_length=200)
    object_key = KeyField(required=False, max_length=_LONGEST_KEY)
    created_after = MomentField(required=False)
    created_before = MomentField(required=False)
    settled_after = MomentField(required=False)
    settled_before = MomentField(required=False)

    lookups: ClassVar = {
        "endpoint": "endpoint",
        "resource": "event__resource",
        "object_key": "event__object_key",
        "created_after": "created_at__gte",
        "created_before": "created_at__lt",
        "settled_after": "settled_at__gte",
        "settled_before": "settled_at__lt",
    }

    def filter_event_type(self, value: str) -> Q:
        return _of_type("event__type", value)

    def filter_state(self, value: str) -> Q:
        return _in_state("", value)


class AttemptFilters(Filters):
    """Filters of attempts; ``state`` is that of the delivery."""

    endpoint = serializers.UUIDField(required=False)
    event_type = PatternField(required=False, max_length=200)
    state = serializers.ChoiceField(Delivery.State.choices, required=False)
    resource = serializers.CharField(required=False, max_length=200)
    object_key = KeyField(required=False, max_length=_LONGEST_KEY)
    status = serializers.IntegerField(required=False, min_value=100, max_value=599)
    error = serializers.CharField(required=False, max_length=40, allow_blank=True)
    started_after = MomentField(required=False)
    started_before = MomentField(required=False)

    lookups: ClassVar = {
        "endpoint": "delivery__endpoint",
        "resource": "delivery__event__resource",
        "object_key": "delivery__event__object_key",
        "status": "status",
        "error": "error",
        "started_after": "started_at__gte",
        "started_before": "started_at__lt",
    }

    def filter_event_type(self, value: str) -> Q:
        return _of_type("delivery__event__type", value)

    def filter_state(self, value: str) -> Q:
        return _in_state("delivery__", value)


class RecoveryFilters(Filters):
    """Filters of recoveries."""

    endpoint = serializers.UUIDField(required=False)
    state = serializers.ChoiceField(Recovery.State.choices, required=False)

    lookups: ClassVar = {"endpoint": "endpoint", "state": "state"}


class SerializerFilterBackend(BaseFilterBackend):
    """Filters lists by the view's ``filters``, a subclass of :class:`Filters`."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> Any:
        if view.filters is None:
            return queryset
        asked = view.filters(data=request.query_params)
        asked.is_valid(raise_exception=True)
        return queryset.filter(asked.condition())

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """Describe the parameters, for schemas of OpenAPI."""
        if view.filters is None:
            return []
        return [
            {"name": name, "required": False, "in": "query", "schema": _schema(field)}
            for name, field in view.filters().fields.items()
        ]


def _schema(field: Any) -> dict[str, Any]:
    if isinstance(field, serializers.ChoiceField):
        return {"type": "string", "enum": list(field.choices)}
    if isinstance(field, serializers.IntegerField):
        return {"type": "integer", "minimum": field.min_value, "maximum": field.max_value}
    kind = {serializers.UUIDField: "uuid", MomentField: "date-time"}.get(type(field))
    return {"type": "string"} if kind is None else {"type": "string", "format": kind}
