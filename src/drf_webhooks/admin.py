"""The admin: endpoints to manage, and what became of events to look at."""

import contextlib
import json
from typing import Any

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from drf_webhooks.models import Attempt, Delivery, DeliveryQuerySet, Endpoint, Event

__all__ = ["AttemptAdmin", "DeliveryAdmin", "EndpointAdmin", "EventAdmin"]

_SHOWN_CHARACTERS = 20_000


def _shown(data: bytes | memoryview | None) -> str:
    """Return bytes as escaped text, JSON indented, cut to what a page can bear."""
    if data is None:
        return "-"
    text = bytes(data).decode(errors="replace")
    with contextlib.suppress(ValueError):
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    if len(text) > _SHOWN_CHARACTERS:
        text = f"{text[:_SHOWN_CHARACTERS]}…"
    return format_html("<pre>{}</pre>", text)


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not subscriptable at run time
    """Rows that are facts: to look at, not to change."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(Endpoint)
class EndpointAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # as above
    """Make, change, enable and disable endpoints. The secret is shown only while adding."""

    list_display = ("url", "owner", "event_types", "state", "description", "created_at")
    list_filter = ("state",)
    list_select_related = ("owner",)
    search_fields = ("url", "description", "event_types")
    raw_id_fields = ("owner",)
    readonly_fields = ("disabled_reason", "created_at", "updated_at")
    actions = ("enable", "disable")

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        fields = ["owner", "url", "event_types", "description", "state"]
        fields += ["concurrency", "rate", "ordering", "on_dead"]
        if obj is None:
            return [*fields, "secret"]
        return [*fields, "disabled_reason", "created_at", "updated_at"]

    @admin.action(description=_("Enable; what waits is sent"), permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        count = queryset.update(state=Endpoint.State.ENABLED, disabled_reason="")
        self._say(request, ngettext("%d endpoint enabled.", "%d endpoints enabled.", count), count)

    @admin.action(description=_("Disable; what waits is kept"), permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        reason = f"Disabled by {request.user} in the admin."
        count = queryset.update(state=Endpoint.State.DISABLED, disabled_reason=reason[:200])
        self._say(
            request, ngettext("%d endpoint disabled.", "%d endpoints disabled.", count), count
        )

    def _say(self, request: HttpRequest, text: str, count: int) -> None:
        self.message_user(request, text % count, messages.SUCCESS)


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    """What was stored, and what it says."""

    list_display = ("type", "object_key", "sequence", "status", "owner", "created_at")
    list_filter = ("type", "resource")
    list_select_related = ("owner",)
    ordering = ("-created_at",)
    search_fields = ("=id", "=object_key")
    fields = (
        "id",
        "type",
        "resource",
        "object_key",
        "sequence",
        "status",
        "error",
        "owner",
        "session",
        "created_at",
        "message",
    )
    readonly_fields = ("id", "status", "message")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Event]:
        events: QuerySet[Event] = super().get_queryset(request)
        match = request.resolver_match
        is_list = match is not None and str(match.url_name).endswith("_changelist")
        return events.defer("body") if is_list else events

    @admin.display(description=_("status"))
    def status(self, event: Event) -> str:
        if event.held_until is not None:
            return str(_("held"))
        return str(_("parked")) if event.error else str(_("recorded"))

    @admin.display(description=_("message"))
    def message(self, event: Event) -> str:
        return _shown(event.body)


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    """What is to be brought where, and how far that is."""

    list_display = ("id", "event", "endpoint", "state", "attempt_count", "due_at", "reason")
    list_filter = ("state", "endpoint")
    list_select_related = ("event", "endpoint")
    ordering = ("-id",)
    search_fields = ("=event__id", "=event__object_key")
    actions = ("send_again",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Delivery]:
        deliveries: QuerySet[Delivery] = super().get_queryset(request)
        return deliveries.defer("event__body", "endpoint__secret")

    def has_send_again_permission(self, request: HttpRequest) -> bool:
        """Sending is a change, though nothing here can be edited."""
        return request.user.has_perm("drf_webhooks.change_delivery")

    @admin.action(description=_("Send again, now"), permissions=["send_again"])
    def send_again(self, request: HttpRequest, queryset: DeliveryQuerySet) -> None:
        count = queryset.send_again()
        text = ngettext("%d delivery is due now.", "%d deliveries are due now.", count)
        self.message_user(request, text % count, messages.SUCCESS)


@admin.register(Attempt)
class AttemptAdmin(ReadOnlyAdmin):
    """Each request, and what came back."""

    list_display = ("delivery_id", "number", "started_at", "duration", "status", "error", "url")
    list_filter = ("status", "error")
    ordering = ("-id",)
    search_fields = ("=delivery__event__id", "=delivery__id")
    fields = (
        "delivery",
        "number",
        "started_at",
        "duration",
        "url",
        "status",
        "error",
        "detail",
        "headers",
        "body",
    )
    readonly_fields = ("headers", "body")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Attempt]:
        attempts: QuerySet[Attempt] = super().get_queryset(request)
        return attempts.select_related("delivery")

    @admin.display(description=_("response headers"))
    def headers(self, attempt: Attempt) -> str:
        lines = "\n".join(": ".join(pair) for pair in attempt.response_headers)
        return format_html("<pre>{}</pre>", lines)

    @admin.display(description=_("response body"))
    def body(self, attempt: Attempt) -> str:
        return _shown(attempt.response_body)
