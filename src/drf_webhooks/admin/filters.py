"""What the lists can be narrowed by, each by an index or among the newest rows only."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, ClassVar

from django.contrib.admin import SimpleListFilter
from django.db.models import F, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from drf_webhooks.admin.facts import newest
from drf_webhooks.admin.searching import as_uuid
from drf_webhooks.delivery.failures import ERRORS
from drf_webhooks.event_types import OPERATIONAL
from drf_webhooks.models import Delivery, Endpoint
from drf_webhooks.registry import registered_event_types

__all__ = [
    "EndpointFilter",
    "ErrorFilter",
    "HealthFilter",
    "LaneFilter",
    "OutcomeFilter",
    "StateFilter",
    "StatusFilter",
    "TypeFilter",
    "WhenFilter",
]

Choices = Iterable[tuple[str, Any]]

#: Endpoints that are offered to choose from.
_MOST_OFFERED = 20


class Among(SimpleListFilter):
    """A filter that ignores what it does not know."""

    def value(self) -> str | None:
        found = super().value()
        return found if found in dict(self.lookup_choices) else None


class StateFilter(Among):
    """How far a delivery is."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [*Delivery.State.choices, ("open", _("dead, not said anew"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case None:
                return queryset
            case "open":
                return queryset.filter(state=Delivery.State.DEAD, replaced_by=None)
            case "waiting":
                # By its index: what waits is little, among all that there is.
                return queryset.filter(lane__in=Delivery.Lane.values, due_at__isnull=False)
            case state:
                return queryset.filter(state=state)


class LaneFilter(Among):
    """As what a delivery waits."""

    title = _("what waits")
    parameter_name = "lane"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [(str(value), label) for value, label in LANES.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        lane = self.value()
        return queryset if lane is None else queryset.filter(lane=lane, due_at__isnull=False)


LANES: dict[int, Any] = {
    Delivery.Lane.FIRST: _("first attempts"),
    Delivery.Lane.RETRY: _("retries"),
    Delivery.Lane.ORDERED: _("in order"),
    Delivery.Lane.BY_HAND: _("by hand"),
}


class WhenFilter(Among):
    """How old the event is."""

    title = _("the event's age")
    parameter_name = "within"
    column: ClassVar[str] = "event__created_at"
    lengths: ClassVar[dict[str, tuple[timedelta, Any]]] = {
        "1h": (timedelta(hours=1), _("the last hour")),
        "1d": (timedelta(days=1), _("the last 24 hours")),
        "7d": (timedelta(days=7), _("the last 7 days")),
        "30d": (timedelta(days=30), _("the last 30 days")),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [(key, words) for key, (_length, words) in self.lengths.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        if chosen is None:
            return queryset
        since = timezone.now() - self.lengths[chosen][0]
        return queryset.filter(**{f"{self.column}__gte": since})


class TypeFilter(Among):
    """The event's type, of those that the project declares."""

    title = _("event type")
    parameter_name = "type"
    #: Where the type is, and what the newest rows are newer by.
    column: ClassVar[str] = "event__type"
    order: ClassVar[str] = "pk"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [(each, each) for each in [*sorted(registered_event_types()), *OPERATIONAL]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        if chosen is None:
            return queryset
        return newest(queryset, self.order).filter(**{self.column: chosen})


class EndpointFilter(Among):
    """The endpoint: those that fail are offered first, and the one that was chosen."""

    title = _("endpoint")
    parameter_name = "endpoint"
    column: ClassVar[str] = "endpoint"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        rows = model_admin.get_queryset(request).db
        named = Endpoint.objects.using(rows).only("url")
        by_trouble = (F("health__failing_since").asc(nulls_last=True), "-pk")
        offered = {str(each.pk): each.url for each in named.order_by(*by_trouble)[:_MOST_OFFERED]}
        chosen = as_uuid(str(self.used_parameters.get(self.parameter_name, "")))
        if chosen is not None and str(chosen) not in offered:
            offered |= {str(each.pk): each.url for each in named.filter(pk=chosen)}
        return list(offered.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        return queryset if chosen is None else queryset.filter(**{self.column: chosen})


class HealthFilter(Among):
    """How an endpoint is."""

    title = _("health")
    parameter_name = "health"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [
            ("failing", _("failing")),
            ("paused", _("paused")),
            ("disabled", _("disabled")),
            ("healthy", _("healthy")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        is_enabled = Q(state=Endpoint.State.ENABLED)
        match self.value():
            case "failing":
                return queryset.filter(is_enabled, health__failing_since__isnull=False)
            case "paused":
                return queryset.filter(is_enabled, health__paused_until__gt=timezone.now())
            case "disabled":
                return queryset.exclude(is_enabled)
            case "healthy":
                is_well = Q(health=None) | Q(health__is_clean=True)
                return queryset.filter(is_enabled & is_well)
            case _:
                return queryset


class StatusFilter(Among):
    """What became of an event."""

    title = _("status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [("held", _("held")), ("parked", _("parked")), ("retired", _("retired"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "held":
                return queryset.filter(held_until__isnull=False)
            case "parked":
                return newest(queryset, "created_at").filter(held_until=None).exclude(error="")
            case "retired":
                return queryset.filter(retired_at__isnull=False)
            case _:
                return queryset


class OutcomeFilter(Among):
    """What came of an attempt."""

    title = _("outcome")
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        classes = [(f"{digit}xx", f"{digit}xx") for digit in range(2, 6)]
        return [("failed", _("not taken")), ("none", _("no answer")), *classes]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        if chosen is None:
            return queryset
        rows = newest(queryset, "pk")
        if chosen == "none":
            return rows.filter(status=None)
        if chosen == "failed":
            return rows.filter(Q(status=None) | ~Q(status__range=(200, 299)))
        first = int(chosen[0]) * 100
        return rows.filter(status__range=(first, first + 99))


class ErrorFilter(Among):
    """Why there was no answer."""

    title = _("error")
    parameter_name = "error"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [(name, name) for name in ERRORS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        return queryset if chosen is None else newest(queryset, "pk").filter(error=chosen)
