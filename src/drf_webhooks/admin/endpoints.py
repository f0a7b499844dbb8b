"""The admin's pages of endpoints: how they are, and what can be done about it."""

from typing import Any

from django.contrib import admin
from django.db.models import Model, Q, QuerySet, TextField
from django.db.models.functions import Cast
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_post_parameters

from drf_webhooks import endpoints, versions
from drf_webhooks.admin import health
from drf_webhooks.admin.endpoint_actions import EndpointActions
from drf_webhooks.admin.endpoint_tools import TOOLS, is_lost, show_once
from drf_webhooks.admin.facts import newest
from drf_webhooks.admin.filters import HealthFilter
from drf_webhooks.admin.markup import NOTHING, Table, block, cut, lines, link, moment, quiet
from drf_webhooks.admin.rows import state_badge
from drf_webhooks.admin.searching import as_uuid
from drf_webhooks.custom_headers import masked
from drf_webhooks.endpoint_counts import Counts, counts, last_success
from drf_webhooks.endpoint_form import EndpointForm
from drf_webhooks.models import Delivery, Endpoint, Event
from drf_webhooks.status import Number

__all__ = ["EndpointAdmin"]

_MOST_SHOWN = 20
#: Who has more deliveries is deleted by who can wait.
_MOST_DELETED = 10_000

_NO_COUNTS = Counts(Number(0), Number(0))


@admin.register(Endpoint)
class EndpointAdmin(EndpointActions):
    """Make, change, enable and disable endpoints. A secret is shown once, after it was made."""

    form = EndpointForm
    list_display = (
        "shown_url",
        "owner",
        "shown_health",
        "last_success",
        "waiting",
        "dead",
    )
    list_filter = (HealthFilter, "format")
    list_select_related = ("owner", "health")
    ordering = ("-created_at", "-pk")
    sortable_by = ("shown_url", "owner")
    search_fields = ("url", "description", "event_types")
    search_help_text = _("Part of a URL, a description or an event type, or an endpoint's id")
    raw_id_fields = ("owner",)
    tools = TOOLS
    readonly_fields = (
        "key",
        "header_names",
        "shown_public_key",
        "overlaps",
        "shown_health",
        "last_success",
        "waiting",
        "dead",
        "made",
        "changed",
    )

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        # Who may only look would be shown the column as it is.
        may_change = obj is None or self.has_change_permission(request, obj)
        is_shown = may_change and not is_lost(obj, "headers")
        how = ["method", "format", "is_thin", "headers" if is_shown else "header_names"]
        if versions.known() or (isinstance(obj, Endpoint) and obj.version):
            how.insert(2, "version")
        limits = ["concurrency", "rate", "ordering", "on_dead", "ignores_own_changes", "overrides"]
        who = ["owner", "url", "event_types", "description"]
        if obj is None:
            return [
                (None, {"fields": [*who, "state"]}),
                (_("How it is sent"), {"fields": [*how, "signature", "secret"]}),
                (_("Limits and order"), {"classes": ["collapse"], "fields": limits}),
            ]
        how_well = ["shown_health", "last_success", "waiting", "dead"]
        return [
            (_("Health"), {"fields": how_well}),
            (_("Subscription"), {"fields": who}),
            (_("How it is sent"), {"fields": [*how, "shown_public_key", "overlaps"]}),
            (_("Limits and order"), {"classes": ["collapse"], "fields": limits}),
            (None, {"fields": ["key", "made", "changed"]}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        # By the tools: a form that was open meanwhile would undo what the worker did.
        # An owner is changed by a transfer.
        return self.readonly_fields if obj is None else ("state", "owner", *self.readonly_fields)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        found: Any = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name in {"event_types", "headers", "overrides"}:
            found.widget.attrs["rows"] = 4
        if db_field.name in {"url", "description"}:
            found.widget.attrs["class"] = "vLargeTextField"
        return found

    def get_queryset(self, request: HttpRequest) -> QuerySet[Endpoint]:
        rows: QuerySet[Endpoint] = super().get_queryset(request)
        rows = rows.select_related("health", "owner")
        match = request.resolver_match
        is_list = match is not None and str(match.url_name).endswith("_changelist")
        return rows.defer("secret", "old_secrets", "headers") if is_list else rows

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Endpoint], search_term: str
    ) -> tuple[QuerySet[Endpoint], bool]:
        # The column's own lookups take whole patterns only.
        rows = queryset.annotate(types_text=Cast("event_types", TextField()))
        for term in search_term.split():
            found = Q(url__icontains=term) | Q(description__icontains=term)
            found |= Q(types_text__icontains=term)
            key = as_uuid(term)
            rows = rows.filter(found if key is None else found | Q(pk=key))
        return rows, False

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        found = super().get_changelist_instance(request)
        if request.method == "GET":
            # Once for the page, not for each row of it.
            rows = list(found.result_list)
            self._count(rows)
            found.result_list = rows
        return found

    @method_decorator(sensitive_post_parameters("secret", "headers"))
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Keep what is secret of the form out of reports of errors."""
        return super().changeform_view(request, *args, **kwargs)

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        # After a mistake in the form too.
        if (row := context.get("original")) is not None:
            self._count([row])
            vars(row)["_is_alone"] = True
        return super().render_change_form(request, context, *args, **kwargs)

    def _count(self, rows: list[Endpoint]) -> None:
        if rows:
            found = counts([each.pk for each in rows], using=str(rows[0]._state.db))
            for each in rows:
                vars(each)["_counts"] = found[each.pk]

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
        return show_once(self, request, obj)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        # Django's own would list each delivery, and ask for a permission that nobody has.
        keys = [each.pk for each in objs]
        rows = Delivery.objects.using(objs[0]._state.db if objs else None)
        count = rows.filter(endpoint__in=keys).order_by()[: _MOST_DELETED + 1].count()
        shown = {self.opts.verbose_name_plural: len(keys)}
        protected = []
        if count > _MOST_DELETED:
            text = gettext(
                "More than %d deliveries would have to be deleted. Disable it; they are forgotten "
                "when they are old, and then it can be deleted."
            )
            protected.append(text % _MOST_DELETED)
        elif count:
            shown[Delivery._meta.verbose_name_plural] = count
        may = self.has_delete_permission(request)
        return (
            [str(each) for each in objs],
            shown,
            set() if may else {self.opts.verbose_name},
            protected,
        )

    def tables(self, request: HttpRequest, row: Endpoint) -> list[Table]:
        if not self.may_view(request, Delivery):
            return []
        found = (
            newest(Delivery.objects.using(row._state.db).filter(endpoint=row), "pk")
            .select_related("event")
            .defer("event__body")
            .order_by("-pk")[:_MOST_SHOWN]
        )
        head = [_("delivery"), _("event"), _("object"), _("state"), _("attempts")]
        return [
            Table(
                title=gettext("Its last deliveries"),
                head=[*map(str, head), gettext("next or last"), gettext("reason")],
                rows=[self._delivery(each) for each in found],
                more_url=self.page(Delivery, "changelist", endpoint=row.pk),
                empty=gettext("Nothing was to be delivered to it lately."),
            )
        ]

    def _delivery(self, delivery: Delivery) -> list[Any]:
        event = delivery.event
        return [
            link(self.page(Delivery, "change", delivery.pk), f"#{delivery.pk}"),
            link(self.page(Event, "change", event.pk), event.type),
            cut(event.object_key, 40),
            state_badge(delivery),
            delivery.attempt_count,
            moment(delivery.due_at or delivery.settled_at),
            cut(delivery.reason, 80) or NOTHING,
        ]

    @admin.display(description=_("endpoint"), ordering="url")
    def shown_url(self, endpoint: Endpoint) -> str:
        types = quiet(", ".join(endpoint.event_types), 80)
        return lines([cut(endpoint.url, 80), cut(endpoint.description, 80), types])

    @admin.display(description=_("id"))
    def key(self, endpoint: Endpoint) -> str:
        return format_html("<code>{}</code>", endpoint.pk)

    @admin.display(description=_("created at"))
    def made(self, endpoint: Endpoint) -> str:
        return moment(endpoint.created_at)

    @admin.display(description=_("updated at"))
    def changed(self, endpoint: Endpoint) -> str:
        return moment(endpoint.updated_at)

    @admin.display(description=_("health"))
    def shown_health(self, endpoint: Endpoint) -> str:
        return health.shown(endpoint, timezone.now())

    @admin.display(description=_("last success"))
    def last_success(self, endpoint: Endpoint) -> str:
        found = _counts(endpoint)
        at = found.last_success_at
        if at is None and "_is_alone" in vars(endpoint):
            at = last_success(endpoint.pk, using=str(endpoint._state.db))
        if not found.attempts:
            return moment(at)
        numbers = {"taken": found.succeeded, "attempts": found.attempts}
        lately = gettext("%(taken)d of %(attempts)d taken lately") % numbers
        return lines([moment(at), quiet(lately, 80)])

    @admin.display(description=_("waiting"))
    def waiting(self, endpoint: Endpoint) -> str:
        number = _counts(endpoint).waiting
        return self._number(endpoint, number, state="waiting")

    @admin.display(description=_("dead"))
    def dead(self, endpoint: Endpoint) -> str:
        number = _counts(endpoint).dead
        return self._number(endpoint, number, state="open")

    def _number(self, endpoint: Endpoint, number: Any, **query: str) -> str:
        if not number.value:
            return str(number)
        return link(self.page(Delivery, "changelist", endpoint=endpoint.pk, **query), number)

    @admin.display(description=_("public key"))
    def shown_public_key(self, endpoint: Endpoint) -> str:
        if is_lost(endpoint, "public_key"):
            return gettext("The secret cannot be read.")
        if endpoint.public_key is None:
            return gettext("None: messages are signed with a secret that both know (v1).")
        return block(endpoint.public_key)

    @admin.display(description=_("old secrets"))
    def overlaps(self, endpoint: Endpoint) -> str:
        if is_lost(endpoint, "old_secrets"):
            return gettext("They cannot be read.")
        now = timezone.now()
        ends = [moment(each.expires_at) for each in endpoint.old_secrets if each.expires_at > now]
        texts = [format_html("{} {}", gettext("one is valid until"), each) for each in ends]
        return lines(texts) if texts else gettext("None is valid.")

    @admin.display(description=_("custom headers"))
    def header_names(self, endpoint: Endpoint) -> str:
        if is_lost(endpoint, "headers"):
            return gettext("They cannot be read.")
        return block(masked(endpoint.headers)) if endpoint.headers else NOTHING


def _counts(endpoint: Endpoint) -> Counts:
    found: Counts = vars(endpoint).get("_counts", _NO_COUNTS)
    return found
