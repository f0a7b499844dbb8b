"""The admin's pages of events."""

from typing import ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from drf_webhooks.admin.facts import FactAdmin
from drf_webhooks.admin.filters import StatusFilter, TypeFilter, WhenFilter
from drf_webhooks.admin.markup import NOTHING, Table, badge, block, cut, lines, link, moment
from drf_webhooks.admin.rows import delivery_head, delivery_row
from drf_webhooks.admin.searching import searched, terms
from drf_webhooks.models import Delivery, Endpoint, Event

__all__ = ["EventAdmin"]

#: Of other rows on a row's page.
_MOST_SHOWN = 50


class EventWhenFilter(WhenFilter):
    """How old it is."""

    title = _("age")
    column: ClassVar[str] = "created_at"


class EventTypeFilter(TypeFilter):
    """Its type."""

    column: ClassVar[str] = "type"
    order: ClassVar[str] = "created_at"


@admin.register(Event)
class EventAdmin(FactAdmin):
    """What was stored, and what it says."""

    list_display = ("made", "type", "shown_key", "sequence", "status", "owner", "message_id")
    list_display_links = ("made", "type")
    list_filter = (StatusFilter, EventWhenFilter, EventTypeFilter)
    ordering = ("-created_at",)
    search_fields = ("id",)
    search_help_text = _("An event's id (evt_… or a UUID), an object's key, or a resource")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "message_id",
                    "type",
                    "object",
                    "sequence",
                    "status",
                    "error",
                    "owner",
                    "made",
                    "message",
                )
            },
        ),
        (
            _("Where it comes from"),
            {
                "classes": ("collapse",),
                "fields": (
                    "session",
                    "origin",
                    "made_by",
                    "depth",
                    "traceparent",
                    "held_until",
                    "recheck_at",
                    "retired_at",
                ),
            },
        ),
    )
    optional = (
        "error",
        "session",
        "origin",
        "made_by",
        "traceparent",
        "held_until",
        "recheck_at",
        "retired_at",
    )
    readonly_fields = ("message_id", "object", "status", "made", "made_by", "message")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Event]:
        events: QuerySet[Event] = super().get_queryset(request).select_related("owner")
        match = request.resolver_match
        is_list = match is not None and str(match.url_name).endswith("_changelist")
        return events.defer("body", "headers") if is_list else events

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Event], search_term: str
    ) -> tuple[QuerySet[Event], bool]:
        for term in terms(search_term):
            queryset = queryset.filter(searched(term, using=queryset.db, event="pk"))
        return queryset, False

    def tables(self, request: HttpRequest, row: Event) -> list[Table]:
        if not self.may_view(request, Delivery):
            return []
        found = row.deliveries.select_related("endpoint").defer(
            "endpoint__secret", "endpoint__old_secrets", "endpoint__headers"
        )
        shown = [delivery_row(self, each) for each in found.order_by("-pk")[:_MOST_SHOWN]]
        return [
            Table(
                title=gettext("Deliveries"),
                head=delivery_head(),
                rows=shown,
                more_url=self.page(Delivery, "changelist", q=row.message_id),
                empty=gettext("Nobody listened to it when it was made, or it is not said yet."),
            )
        ]

    @admin.display(description=_("made"))
    def made(self, event: Event) -> str:
        return moment(event.created_at)

    @admin.display(description=_("id"))
    def message_id(self, event: Event) -> str:
        return format_html("<code>{}</code>", event.message_id)

    @admin.display(description=_("object"))
    def shown_key(self, event: Event) -> str:
        return cut(event.object_key, 60)

    @admin.display(description=_("object"))
    def object(self, event: Event) -> str:
        url = self.page(Event, "changelist", q=f"{event.resource} {event.object_key}")
        named = format_html("{} <code>{}</code>", event.resource, event.object_key)
        return lines([named, link(url, gettext("all its events"))])

    @admin.display(description=_("status"))
    def status(self, event: Event) -> str:
        if event.held_until is not None:
            return badge("busy", _("held"), gettext("Its session is open, or a worker says it."))
        if event.retired_at is not None:
            return badge("idle", _("retired"), gettext("Its message is not kept any more."))
        if event.error:
            return badge("bad", _("parked"), event.error)
        return badge("good", _("recorded"))

    @admin.display(description=_("made by"))
    def made_by(self, event: Event) -> str:
        if event.origin_endpoint is None:
            return NOTHING
        return link(self.page(Endpoint, "change", event.origin_endpoint), event.origin_endpoint)

    @admin.display(description=_("message"))
    def message(self, event: Event) -> str:
        variants = [
            format_html("<p>{}: {}</p>{}", _("variant"), each.variant, block(each.body))
            for each in event.bodies.order_by("variant")
        ]
        return format_html("{}{}", block(event.body), lines(variants))
