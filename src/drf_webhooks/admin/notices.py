"""The admin's pages of notices."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from drf_webhooks.admin.facts import FactAdmin
from drf_webhooks.admin.markup import badge, cut, link, moment
from drf_webhooks.models import Endpoint, Notice

__all__ = ["NoticeAdmin"]


@admin.register(Notice)
class NoticeAdmin(FactAdmin):
    """What was said about endpoints, and what somebody has not got yet."""

    list_display = ("made", "kind", "shown_endpoint", "reason", "told", "tries", "error")
    list_filter = ("kind",)
    list_select_related = ("endpoint",)
    ordering = ("-id",)
    fields = (
        "kind",
        "shown_endpoint",
        "reason",
        "event_type",
        "failing_since",
        "made",
        "told",
        "due_at",
        "tries",
        "error",
        "is_recorded",
        "is_signalled",
    )
    optional = ("reason", "event_type", "failing_since", "due_at", "error")
    readonly_fields = ("shown_endpoint", "made", "told")

    @admin.display(description=_("made"))
    def made(self, notice: Notice) -> str:
        return moment(notice.created_at)

    @admin.display(description=_("endpoint"))
    def shown_endpoint(self, notice: Notice) -> str:
        url = self.page(Endpoint, "change", notice.endpoint_id)
        return link(url, cut(notice.endpoint.url, 80))

    @admin.display(description=_("told"))
    def told(self, notice: Notice) -> str:
        if notice.due_at is None:
            return badge("good", _("everybody has it"))
        return badge("bad" if notice.error else "busy", _("to be told"), notice.error)

    def get_queryset(self, request: HttpRequest) -> Any:
        hidden = ("secret", "old_secrets", "headers")
        return super().get_queryset(request).defer(*(f"endpoint__{each}" for each in hidden))
