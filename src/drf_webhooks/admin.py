"""The admin: endpoints to manage, and what became of events to look at."""

import contextlib
import json
from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from drf_webhooks import endpoints, replay, rotation
from drf_webhooks.custom_headers import masked
from drf_webhooks.delivery.failures import ERRORS
from drf_webhooks.endpoint_form import EndpointForm
from drf_webhooks.exceptions import RotationError, SecretError
from drf_webhooks.models import Attempt, Delivery, DeliveryQuerySet, Endpoint, Event, Notice

__all__ = ["AttemptAdmin", "DeliveryAdmin", "EndpointAdmin", "EventAdmin", "NoticeAdmin"]

_SHOWN_CHARACTERS = 20_000
_REPLAYED = timedelta(days=7)
_MOST_REPLAYED = 10_000


def _shown(data: bytes | memoryview | None) -> str:
    """Return bytes as escaped text, JSON indented, cut to what a page can bear."""
    if data is None:
        return "-"
    text = bytes(data).decode(errors="replace")
    # A receiver may answer with what is nested too deep, or with half a character in an escape.
    with contextlib.suppress(ValueError, RecursionError):
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    text = text.encode(errors="replace").decode()
    if len(text) > _SHOWN_CHARACTERS:
        text = f"{text[:_SHOWN_CHARACTERS]}…"
    return format_html("<pre>{}</pre>", text)


def _is_lost(endpoint: Model | None, name: str) -> bool:
    """Tell whether nobody can read a secret."""
    try:
        getattr(endpoint, name, None)
    except (SecretError, ValueError):
        return True
    return False


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
    """Make, change, enable and disable endpoints. A secret is shown once, after it was made."""

    form = EndpointForm
    list_display = ("url", "owner", "event_types", "state", "shown_health", "description")
    list_filter = ("state", "format")
    list_select_related = ("owner", "health")
    search_fields = ("url", "description", "event_types")
    raw_id_fields = ("owner",)
    readonly_fields = (
        "header_names",
        "shown_public_key",
        "disabled_reason",
        "shown_health",
        "created_at",
        "updated_at",
    )
    actions = (
        "enable",
        "enable_and_skip",
        "disable",
        "recover",
        "send_test",
        "rotate_secret",
        "replay_failed",
    )

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        fields = ["owner", "url", "event_types", "description", "overrides", "state"]
        fields += ["concurrency", "rate", "ordering", "on_dead", "ignores_own_changes"]
        # Who may only look would be shown the column as it is.
        may_change = obj is None or self.has_change_permission(request, obj)
        is_shown = may_change and not _is_lost(obj, "headers")
        fields += ["method", "format", "headers" if is_shown else "header_names"]
        if obj is None:
            return [*fields, "signature", "secret"]
        fields += ["shown_public_key", "disabled_reason"]
        return [*fields, "shown_health", "created_at", "updated_at"]

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        # By the actions: a form that was open meanwhile would undo what the worker did.
        # An owner is changed by a transfer.
        return self.readonly_fields if obj is None else ("state", "owner", *self.readonly_fields)

    def save_model(self, request: HttpRequest, obj: Endpoint, form: Any, change: Any) -> None:
        if not change:
            super().save_model(request, obj, form, change)
            return
        # Only what the form has: the worker may have disabled it since it was read.
        obj.save(update_fields=[*form.changed_data, "updated_at"])
        if "url" in form.changed_data:
            endpoints.recover(obj, using=str(obj._state.db))

    def response_add(
        self, request: HttpRequest, obj: Endpoint, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Show the secret, which nobody but the receiver has to know from now on."""
        return self._show_once(request, obj)

    def _show_once(self, request: HttpRequest, endpoint: Endpoint) -> HttpResponse:
        # In the answer itself: a message would be kept in a cookie or a session.
        shown = {
            **self.admin_site.each_context(request),
            "title": _("Secret"),
            "opts": self.opts,
            "endpoint": endpoint,
            "public_key": endpoint.public_key,
            "secret": endpoint.secret,
        }
        return render(request, "admin/drf_webhooks/endpoint/secret.html", shown)

    @admin.action(
        description=_("Replace the secret; the old one is valid for 24 hours more"),
        permissions=["change"],
    )
    def rotate_secret(
        self, request: HttpRequest, queryset: QuerySet[Endpoint]
    ) -> HttpResponse | None:
        if len(queryset) != 1:
            self.message_user(request, _("Choose one endpoint."), messages.ERROR)
            return None
        (endpoint,) = queryset
        try:
            rotation.rotate_secret(endpoint, using=queryset.db)
        except (RotationError, SecretError, ValueError) as error:
            self.message_user(request, str(error), messages.ERROR)
            return None
        self.log_change(request, endpoint, "The secret was replaced.")
        return self._show_once(request, endpoint)

    @admin.display(description=_("public key"))
    def shown_public_key(self, endpoint: Endpoint) -> str:
        if _is_lost(endpoint, "public_key"):
            return str(_("The secret cannot be read."))
        return endpoint.public_key or "-"

    @admin.display(description=_("health"))
    def shown_health(self, endpoint: Endpoint) -> str:
        return str(getattr(endpoint, "health", None) or "well")

    @admin.display(description=_("custom headers"))
    def header_names(self, endpoint: Endpoint) -> str:
        if _is_lost(endpoint, "headers"):
            return str(_("They cannot be read."))
        return format_html("<pre>{}</pre>", masked(endpoint.headers)) if endpoint.headers else "-"

    @admin.action(description=_("Enable; what waits is sent"), permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        count = sum(endpoints.enable(each, using=queryset.db) for each in queryset)
        self._say(request, ngettext("%d endpoint enabled.", "%d endpoints enabled.", count), count)

    @admin.action(description=_("Enable; what waits is skipped"), permissions=["change"])
    def enable_and_skip(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        count = sum(endpoints.enable(each, waiting="skip", using=queryset.db) for each in queryset)
        self._say(request, ngettext("%d endpoint enabled.", "%d endpoints enabled.", count), count)

    @admin.action(description=_("Disable; what waits is kept"), permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        reason = f"Disabled by {request.user} in the admin."
        count = sum(endpoints.disable(each, reason, using=queryset.db) for each in queryset)
        self._say(
            request, ngettext("%d endpoint disabled.", "%d endpoints disabled.", count), count
        )

    @admin.action(description=_("End the pause"), permissions=["change"])
    def recover(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        for each in queryset:
            endpoints.recover(each, using=queryset.db)
        count = len(queryset)
        self._say(
            request, ngettext("%d endpoint is tried.", "%d endpoints are tried.", count), count
        )

    @admin.action(description=_("Send a test"), permissions=["change"])
    def send_test(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        for each in queryset:
            endpoints.send_test(each, using=queryset.db)
        count = len(queryset)
        self._say(request, ngettext("%d test is sent.", "%d tests are sent.", count), count)

    def has_replay_permission(self, request: HttpRequest) -> bool:
        """As sending again: it changes deliveries, not endpoints."""
        return request.user.has_perm("drf_webhooks.change_delivery")

    @admin.action(description=_("Send again what died in the last 7 days"), permissions=["replay"])
    def replay_failed(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        within = replay.span(timezone.now() - _REPLAYED, using=queryset.db)
        count = 0
        for lot in replay.replay_failed(within, using=queryset.db, endpoints=queryset):
            count += lot.replayed
            if count >= _MOST_REPLAYED:
                # A request has an end. The rest is still dead, and the same action goes on.
                rest = _("There may be more: do it again, or use webhooks_replay.")
                self.message_user(request, rest, messages.WARNING)
                break
        text = ngettext("%d delivery is due now.", "%d deliveries are due now.", count)
        self._say(request, text, count)

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
        "origin",
        "origin_endpoint",
        "depth",
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
        if event.retired_at is not None:
            return str(_("retired"))
        return str(_("parked")) if event.error else str(_("recorded"))

    @admin.display(description=_("message"))
    def message(self, event: Event) -> str:
        return _shown(event.body)


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    """What is to be brought where, and how far that is."""

    list_display = ("id", "event", "endpoint", "state", "attempt_count", "due_at", "reason")
    list_filter = ("state", "settled_at", ("replaced_by", admin.EmptyFieldListFilter), "endpoint")
    list_select_related = ("event", "endpoint")
    ordering = ("-id",)
    search_fields = ("=event__id", "=event__object_key")
    actions = ("send_again", "send_again_to_disabled", "say_anew")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Delivery]:
        deliveries: QuerySet[Delivery] = super().get_queryset(request)
        hidden = ("secret", "old_secrets", "headers")
        return deliveries.defer("event__body", *(f"endpoint__{each}" for each in hidden))

    def has_send_again_permission(self, request: HttpRequest) -> bool:
        """Sending is a change, though nothing here can be edited."""
        return request.user.has_perm("drf_webhooks.change_delivery")

    @admin.action(description=_("Send again, now"), permissions=["send_again"])
    def send_again(self, request: HttpRequest, queryset: DeliveryQuerySet) -> None:
        count = queryset.send_again(by_hand=True)
        self._say_due(request, count)

    @admin.action(
        description=_("Send again, now, to disabled endpoints too"), permissions=["send_again"]
    )
    def send_again_to_disabled(self, request: HttpRequest, queryset: DeliveryQuerySet) -> None:
        self._say_due(request, queryset.send_again(by_hand=True, to_disabled=True))

    def _say_due(self, request: HttpRequest, count: int) -> None:
        text = ngettext("%d delivery is due now.", "%d deliveries are due now.", count)
        self.message_user(request, text % count, messages.SUCCESS)

    @admin.action(
        description=_("Say anew, of the objects as they are now"), permissions=["send_again"]
    )
    def say_anew(self, request: HttpRequest, queryset: DeliveryQuerySet) -> None:
        pks = list(queryset.values_list("pk", flat=True))
        lot = replay.replay_chosen(pks, using=queryset.db, is_anew=True)
        text = ngettext("%d delivery is said anew.", "%d deliveries are said anew.", lot.replayed)
        self.message_user(request, text % lot.replayed, messages.SUCCESS)
        if lot.replayed < lot.looked_at:
            rest = _("Of the objects of the others nothing can be said any more.")
            self.message_user(request, rest, messages.WARNING)


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
        "looked_up_in",
        "connected_in",
        "answered_in",
        "url",
        "status",
        "error",
        "meaning",
        "detail",
        "headers",
        "body",
        "response_end",
    )
    readonly_fields = ("meaning", "headers", "body")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Attempt]:
        attempts: QuerySet[Attempt] = super().get_queryset(request)
        return attempts.select_related("delivery")

    @admin.display(description=_("which means"))
    def meaning(self, attempt: Attempt) -> str:
        return ERRORS[attempt.error].meaning if attempt.error in ERRORS else "-"

    @admin.display(description=_("response headers"))
    def headers(self, attempt: Attempt) -> str:
        lines = "\n".join(": ".join(pair) for pair in attempt.response_headers)
        return format_html("<pre>{}</pre>", lines)

    @admin.display(description=_("response body"))
    def body(self, attempt: Attempt) -> str:
        return _shown(attempt.response_body)


@admin.register(Notice)
class NoticeAdmin(ReadOnlyAdmin):
    """What was said about endpoints, and what somebody has not got yet."""

    list_display = ("kind", "endpoint", "reason", "created_at", "due_at", "tries", "error")
    list_filter = ("kind",)
    list_select_related = ("endpoint",)
    ordering = ("-id",)
