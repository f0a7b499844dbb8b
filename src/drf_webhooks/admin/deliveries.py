"""The admin's pages of deliveries: where they are, send them again, or give them up."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from drf_webhooks import replay
from drf_webhooks.admin.delivery_tools import TOOLS, WATCHES, CancelMany, ReasonForm, reason_of
from drf_webhooks.admin.facts import FactAdmin
from drf_webhooks.admin.filters import (
    LANES,
    EndpointFilter,
    LaneFilter,
    StateFilter,
    TypeFilter,
    WhenFilter,
)
from drf_webhooks.admin.markup import NOTHING, Table, badge, cut, lines, link, moment, quiet
from drf_webhooks.admin.rows import attempt_head, attempt_row, message_of, state_badge
from drf_webhooks.admin.searching import searched, terms
from drf_webhooks.models import Attempt, Delivery, DeliveryQuerySet, Endpoint, Event

__all__ = ["DeliveryAdmin"]

#: Attempts on a delivery's page.
_MOST_SHOWN = 50
_WATCHED_SECONDS = 2


@admin.register(Delivery)
class DeliveryAdmin(FactAdmin):
    """What is to be brought where, and how far that is."""

    list_display = (
        "number",
        "shown_type",
        "shown_endpoint",
        "state_and_reason",
        "attempt_count",
        "next_or_last",
    )
    list_display_links = ("number",)
    list_filter = (StateFilter, WhenFilter, LaneFilter, EndpointFilter, TypeFilter)
    ordering = ("-id",)
    search_fields = ("id",)
    search_help_text = _(
        "An event's id (evt_… or a UUID), an object's key, a resource, #17 for a delivery, or part "
        "of a URL"
    )
    actions = ("send_again", "send_again_to_disabled", "say_anew", "cancel")
    tools = TOOLS
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "shown_event",
                    "shown_endpoint",
                    "shown_state",
                    "reason",
                    "attempt_count",
                    "next_at",
                    "waits_as",
                    "made",
                    "settled",
                    "said_anew",
                    "message",
                )
            },
        ),
    )
    optional = ("reason", "next_at", "waits_as", "settled", "said_anew")
    readonly_fields = (
        "shown_event",
        "shown_endpoint",
        "shown_state",
        "next_at",
        "waits_as",
        "made",
        "settled",
        "said_anew",
        "message",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Delivery]:
        deliveries: Any = super().get_queryset(request)
        hidden = ("secret", "old_secrets", "headers")
        rows: DeliveryQuerySet = deliveries.select_related("event", "endpoint").defer(
            "event__body", "event__headers", *(f"endpoint__{each}" for each in hidden)
        )
        match = request.resolver_match
        is_page = match is not None and str(match.url_name).endswith("_change")
        return rows.with_bodies() if is_page else rows

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Delivery], search_term: str
    ) -> tuple[QuerySet[Delivery], bool]:
        for term in terms(search_term):
            asked = searched(
                term, using=queryset.db, event="event", endpoint="endpoint", number="pk"
            )
            queryset = queryset.filter(asked)
        return queryset, False

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        row, left = context.get("original"), request.GET.get("watch", "")
        if row is None or row.state != Delivery.State.WAITING or not left.isdecimal():
            return super().render_change_form(request, context, *args, **kwargs)
        # What was asked for a moment ago: the page looks for its result, some times.
        context["watched"] = rest = min(int(left), WATCHES)
        answer = super().render_change_form(request, context, *args, **kwargs)
        if rest:
            url = self.page(Delivery, "change", row.pk, watch=rest - 1)
            answer["refresh"] = f"{_WATCHED_SECONDS}; url={url}"
        return answer

    def has_send_again_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Sending is a change, though nothing here can be edited."""
        return request.user.has_perm("drf_webhooks.change_delivery")

    def tables(self, request: HttpRequest, row: Delivery) -> list[Table]:
        if not self.may_view(request, Attempt):
            return []
        found = row.attempts.defer("response_body", "response_headers").order_by("-pk")
        return [
            Table(
                title=gettext("Attempts"),
                head=attempt_head(),
                rows=[attempt_row(self, each) for each in found[:_MOST_SHOWN]],
                more_url=self.page(Attempt, "changelist", q=f"#{row.pk}"),
                empty=gettext("It was not sent yet."),
            )
        ]

    @admin.display(description=_("delivery"))
    def number(self, delivery: Delivery) -> str:
        return f"#{delivery.pk}"

    @admin.display(description=_("event"))
    def shown_type(self, delivery: Delivery) -> str:
        url = self.page(Event, "change", delivery.event_id)
        return lines([link(url, delivery.event.type), quiet(delivery.event.object_key, 40)])

    @admin.display(description=_("event"))
    def shown_event(self, delivery: Delivery) -> str:
        event = delivery.event
        return format_html(
            "{} <code>{}</code>",
            link(self.page(Event, "change", event.pk), event),
            event.message_id,
        )

    @admin.display(description=_("endpoint"))
    def shown_endpoint(self, delivery: Delivery) -> str:
        url = self.page(Endpoint, "change", delivery.endpoint_id)
        return link(url, cut(delivery.endpoint.url, 60))

    @admin.display(description=_("state"))
    def shown_state(self, delivery: Delivery) -> str:
        if delivery.is_by_hand and delivery.state == Delivery.State.WAITING:
            by_hand = badge("busy", _("by hand"), gettext("A person asked for it."))
            return format_html("{} {}", state_badge(delivery), by_hand)
        return state_badge(delivery)

    @admin.display(description=_("state"))
    def state_and_reason(self, delivery: Delivery) -> str:
        return lines([self.shown_state(delivery), quiet(delivery.reason, 80)])

    @admin.display(description=_("next or last"))
    def next_or_last(self, delivery: Delivery) -> str:
        return moment(delivery.due_at or delivery.settled_at)

    @admin.display(description=_("next attempt"))
    def next_at(self, delivery: Delivery) -> str:
        if delivery.leased_at is not None:
            text = gettext("a worker has it; if that dies, at")
            return format_html("{} {}", text, moment(delivery.due_at))
        if delivery.is_by_hand:
            return gettext("at once")
        return moment(delivery.due_at)

    @admin.display(description=_("waits with"))
    def waits_as(self, delivery: Delivery) -> str:
        return str(LANES[delivery.lane]) if delivery.due_at is not None else NOTHING

    @admin.display(description=_("made"))
    def made(self, delivery: Delivery) -> str:
        return moment(delivery.created_at)

    @admin.display(description=_("settled"))
    def settled(self, delivery: Delivery) -> str:
        return moment(delivery.settled_at)

    @admin.display(description=_("said anew by"))
    def said_anew(self, delivery: Delivery) -> str:
        if delivery.replaced_by is None:
            return NOTHING
        url = self.page(Event, "change", delivery.replaced_by)
        return link(url, Event.message_id_of(delivery.replaced_by))

    @admin.display(description=_("message"))
    def message(self, delivery: Delivery) -> str:
        return message_of(delivery)

    @admin.action(description=_("Send again, now"), permissions=["send_again"])
    def send_again(self, request: HttpRequest, queryset: DeliveryQuerySet) -> None:
        self._send_again(request, queryset)

    @admin.action(
        description=_("Send again, now, to disabled endpoints too"), permissions=["send_again"]
    )
    def send_again_to_disabled(self, request: HttpRequest, queryset: DeliveryQuerySet) -> None:
        self._send_again(request, queryset, to_disabled=True)

    def _send_again(
        self, request: HttpRequest, queryset: DeliveryQuerySet, *, to_disabled: bool = False
    ) -> None:
        rows: Any = self.chosen(request, queryset)
        if rows is None:
            return
        sent = list(rows.sendable())
        count = rows.send_again(by_hand=True, to_disabled=to_disabled)
        self.log_changes(request, sent, "Sent again by hand.")
        text = ngettext("%d delivery is due now.", "%d deliveries are due now.", count)
        self.message_user(request, text % count, messages.SUCCESS)

    @admin.action(
        description=_("Say anew, of the objects as they are now"), permissions=["send_again"]
    )
    def say_anew(self, request: HttpRequest, queryset: DeliveryQuerySet) -> None:
        rows: Any = self.chosen(request, queryset)
        if rows is None:
            return
        before = dict(rows.values_list("pk", "replaced_by"))
        lot = replay.replay_chosen(list(before), using=queryset.db, is_anew=True)
        anew = [each for each in rows.all() if each.replaced_by != before[each.pk]]
        self.log_changes(request, anew, "Said anew.")
        text = ngettext("%d delivery is said anew.", "%d deliveries are said anew.", lot.replayed)
        self.message_user(request, text % lot.replayed, messages.SUCCESS)
        if lot.replayed < lot.looked_at:
            rest = _("Of the objects of the others nothing can be said any more.")
            self.message_user(request, rest, messages.WARNING)

    @admin.action(description=_("Cancel what waits"), permissions=["send_again"])
    def cancel(self, request: HttpRequest, queryset: DeliveryQuerySet) -> HttpResponse | None:
        rows: Any = self.chosen(request, queryset)
        if rows is None:
            return None
        form = ReasonForm(request.POST if "reason" in request.POST else None)
        if not form.is_valid():
            pks = rows.values_list("pk", flat=True)
            return self.ask(request, None, CancelMany(), form, rows=pks, action="cancel")
        waiting = list(rows.filter(state=Delivery.State.WAITING))
        count = rows.cancel(reason_of(request, form.cleaned_data["reason"]))
        self.log_changes(request, waiting, "Cancelled.")
        text = ngettext("%d delivery is cancelled.", "%d deliveries are cancelled.", count)
        self.message_user(request, text % count, messages.SUCCESS)
        return None
