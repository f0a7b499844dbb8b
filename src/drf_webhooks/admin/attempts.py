"""The admin's pages of attempts: what was sent, and what came back."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from drf_webhooks.admin.facts import FactAdmin
from drf_webhooks.admin.filters import EndpointFilter, ErrorFilter, OutcomeFilter
from drf_webhooks.admin.markup import NOTHING, block, cut, link, moment, span, visible
from drf_webhooks.admin.rows import meaning, message_of, outcome_badge
from drf_webhooks.admin.searching import searched, terms
from drf_webhooks.conf import config
from drf_webhooks.custom_headers import MASK
from drf_webhooks.delivery.failures import ERRORS
from drf_webhooks.delivery.formats import format_named
from drf_webhooks.exceptions import FormatError, SecretError
from drf_webhooks.models import Attempt, Delivery, Event
from drf_webhooks.origins import DEPTH_HEADER

__all__ = ["AttemptAdmin"]


class AttemptEndpointFilter(EndpointFilter):
    """The delivery's endpoint."""

    column = "delivery__endpoint"


@admin.register(Attempt)
class AttemptAdmin(FactAdmin):
    """Each request, and what came back."""

    list_display = ("started", "shown_delivery", "number", "outcome", "means", "took", "shown_url")
    list_display_links = ("started",)
    list_filter = (OutcomeFilter, ErrorFilter, AttemptEndpointFilter)
    ordering = ("-id",)
    search_fields = ("id",)
    search_help_text = _(
        "An event's id (evt_… or a UUID), an object's key, a resource, #17 for a delivery, or part "
        "of a URL"
    )
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "shown_delivery",
                    "shown_event",
                    "number",
                    "outcome",
                    "meaning",
                    "shown_detail",
                    "started",
                    "took",
                    "parts",
                )
            },
        ),
        (
            _("Request"),
            {
                "fields": ("request_line", "request_headers", "request_body"),
                "description": _(
                    "The address is the one that was used. Method and custom headers are those "
                    "that the endpoint has now; signatures and values are not kept."
                ),
            },
        ),
        (
            _("Response"),
            {"fields": ("status_line", "headers", "body", "response_end")},
        ),
    )
    optional = ("meaning", "shown_detail", "headers", "body", "response_end")
    readonly_fields = (
        "shown_delivery",
        "shown_event",
        "outcome",
        "meaning",
        "shown_detail",
        "started",
        "took",
        "parts",
        "request_line",
        "request_headers",
        "request_body",
        "status_line",
        "headers",
        "body",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Attempt]:
        attempts: QuerySet[Attempt] = super().get_queryset(request)
        match = request.resolver_match
        if match is not None and str(match.url_name).endswith("_changelist"):
            return attempts.select_related("delivery").defer("response_body", "response_headers")
        return attempts.select_related("delivery__event", "delivery__endpoint").defer(
            "delivery__endpoint__secret", "delivery__endpoint__old_secrets"
        )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Attempt], search_term: str
    ) -> tuple[QuerySet[Attempt], bool]:
        for term in terms(search_term):
            asked = searched(
                term,
                using=queryset.db,
                event="delivery__event",
                endpoint="delivery__endpoint",
                number="delivery",
            )
            queryset = queryset.filter(asked)
        return queryset, False

    @admin.display(description=_("started"))
    def started(self, attempt: Attempt) -> str:
        return moment(attempt.started_at)

    @admin.display(description=_("delivery"))
    def shown_delivery(self, attempt: Attempt) -> str:
        url = self.page(Delivery, "change", attempt.delivery_id)
        return link(url, f"#{attempt.delivery_id}")

    @admin.display(description=_("event"))
    def shown_event(self, attempt: Attempt) -> str:
        event = attempt.delivery.event
        return format_html(
            "{} <code>{}</code>",
            link(self.page(Event, "change", event.pk), event),
            event.message_id,
        )

    @admin.display(description=_("outcome"))
    def outcome(self, attempt: Attempt) -> str:
        return outcome_badge(attempt)

    @admin.display(description=_("which means"))
    def means(self, attempt: Attempt) -> str:
        return cut(meaning(attempt), 100) or NOTHING

    @admin.display(description=_("which means"))
    def meaning(self, attempt: Attempt) -> str:
        words = meaning(attempt)
        if attempt.error not in ERRORS:
            return words or NOTHING
        whose = (
            gettext("This is ours to mend.")
            if ERRORS[attempt.error].is_ours
            else gettext("This is for the receiver to mend.")
        )
        return f"{words}. {whose}"

    @admin.display(description=_("detail"))
    def shown_detail(self, attempt: Attempt) -> str:
        # Errors name what the receiver has sent.
        return visible(attempt.detail)

    @admin.display(description=_("took"))
    def took(self, attempt: Attempt) -> str:
        return span(attempt.duration)

    @admin.display(description=_("of which"))
    def parts(self, attempt: Attempt) -> str:
        return gettext("looking up %(look)s, connecting %(connect)s, answer %(answer)s") % {
            "look": span(attempt.looked_up_in),
            "connect": span(attempt.connected_in),
            "answer": span(attempt.answered_in),
        }

    @admin.display(description=_("URL"))
    def shown_url(self, attempt: Attempt) -> str:
        return cut(attempt.url, 80)

    @admin.display(description=_("request"))
    def request_line(self, attempt: Attempt) -> str:
        return format_html("<code>{} {}</code>", attempt.delivery.endpoint.method, attempt.url)

    @admin.display(description=_("headers"))
    def request_headers(self, attempt: Attempt) -> str:
        event, endpoint = attempt.delivery.event, attempt.delivery.endpoint
        try:
            kind = format_named(endpoint.format, config()).content_type
        except FormatError:
            kind = endpoint.format
        lines = [
            f"content-type: {kind}",
            "accept-encoding: identity",
            f"webhook-id: {event.message_id}",
            f"webhook-timestamp: {int(attempt.started_at.timestamp())}",
            f"webhook-signature: {MASK}",
            f"{DEPTH_HEADER}: {event.depth + 1}",
        ]
        if event.sequence is not None:
            lines.append(f"webhook-sequence: {event.sequence}")
        if event.traceparent:
            lines.append(f"traceparent: {event.traceparent}")
        names = list(event.headers or ())
        try:
            names += endpoint.headers
        except (SecretError, ValueError):
            lines.append(gettext("(custom headers that cannot be read)"))
        if "user-agent" not in (each.lower() for each in names):
            # With the version of the worker that sent it, which nobody has noted.
            lines.append("user-agent: drf-webhooks/…")
        # The endpoint's own go before those of the event with the same name.
        lines += [f"{name}: {MASK}" for name in {each.lower(): each for each in names}.values()]
        return block("\n".join(lines))

    @admin.display(description=_("message"))
    def request_body(self, attempt: Attempt) -> str:
        return message_of(attempt.delivery)

    @admin.display(description=_("status"))
    def status_line(self, attempt: Attempt) -> str:
        return outcome_badge(attempt) if attempt.status is not None else gettext("No answer came.")

    @admin.display(description=_("headers"))
    def headers(self, attempt: Attempt) -> str:
        lines = (": ".join(str(part) for part in pair) for pair in attempt.response_headers)
        return block("\n".join(lines)) if attempt.response_headers else NOTHING

    @admin.display(description=_("body"))
    def body(self, attempt: Attempt) -> str:
        return block(attempt.response_body) if attempt.response_body else NOTHING
