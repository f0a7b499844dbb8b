"""The event types that an endpoint may ask for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db.models import QuerySet
from django.http import Http404
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.versioning import QueryParameterVersioning

from drf_webhooks.api.serializers import (
    EventTypeDetailSerializer,
    EventTypeSerializer,
    PinnedSerializer,
)
from drf_webhooks.api.views import OwnedViewSet
from drf_webhooks.event_schemas import description_of, example_of, schema_of
from drf_webhooks.event_types import ENDPOINT, OPERATIONAL
from drf_webhooks.models import Event
from drf_webhooks.registry import registry
from drf_webhooks.versions import chosen, order

__all__ = ["EventType", "EventTypeViewSet"]


@dataclass(frozen=True)
class EventType:
    """A type of events, and whose it is."""

    type: str
    resource: str
    #: The oldest first.
    versions: Sequence[str] = ()
    #: What an endpoint is pinned to whose messages are asked for; ``None`` for all versions.
    pinned: str | None = None

    @property
    def version(self) -> str | None:
        """That of the messages which such an endpoint gets, if there are several."""
        return None if self.pinned is None else chosen(self.versions, self.pinned) or None

    @property
    def description(self) -> str:
        return description_of(self.type)

    @property
    def schema(self) -> dict[str, Any] | None:
        return schema_of(self.type, self.pinned)

    @property
    def example(self) -> dict[str, Any] | None:
        return example_of(self.type, self.pinned)


class EventTypeViewSet(OwnedViewSet):
    """The event types that there are."""

    serializer_class = EventTypeSerializer
    detail_serializer_class = EventTypeDetailSerializer
    pagination_class = None
    filter_backends = ()
    lookup_field = "type"
    lookup_value_regex = "[^/]+"

    #: The query parameter that names a version of payloads.
    version_query_param = "version"

    def get_queryset(self) -> QuerySet[Event]:
        # For permissions that ask which model a view is about, and for schemas.
        return self.owned.events

    def get_serializer_class(self) -> Any:
        is_one = self.action == "retrieve"
        return self.detail_serializer_class if is_one else super().get_serializer_class()

    def get_event_types(self) -> Iterable[EventType]:
        """Return what is shown: what the resources declare, and what is said of endpoints."""
        for resource in registry:
            declared = sorted(resource.versions, key=order)
            for each in resource.event_types():
                yield EventType(each, resource.base_name, declared)
        for each in OPERATIONAL:
            yield EventType(each, ENDPOINT)

    def get_version_query_param(self) -> str:
        """Return the parameter's name: another one, where that is of DRF's own versioning."""
        name, scheme = self.version_query_param, self.versioning_class
        if scheme is None or not issubclass(scheme, QueryParameterVersioning):
            return name
        return f"payload_{name}" if scheme.version_param == name else name

    def get_pinned(self) -> str | None:
        """Return the version that is asked for; one that nothing has is refused."""
        name = self.get_version_query_param()
        text = self.request.query_params.get(name)
        if text is None:
            return None
        asked = PinnedSerializer(data={"version": text})
        if not asked.is_valid():
            raise ValidationError({name: asked.errors["version"]})
        pinned: str = asked.validated_data["version"]
        return pinned

    def list(self, request: Request, **kwargs: Any) -> Response:
        """List the event types."""
        pinned = self.get_pinned()
        types = (replace(each, pinned=pinned) for each in self.get_event_types())
        found = sorted(types, key=lambda each: each.type)
        return Response(self.get_serializer(found, many=True).data)

    def retrieve(self, request: Request, **kwargs: Any) -> Response:
        """Read an event type, with its JSON schema and an example: of one version, if asked."""
        pinned = self.get_pinned()
        for each in self.get_event_types():
            if each.type == kwargs["type"]:
                return Response(self.get_serializer(replace(each, pinned=pinned)).data)
        raise Http404
