"""What can be done with endpoints that are chosen in the list."""

from datetime import timedelta
from typing import Literal

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from drf_webhooks import endpoints, rotation
from drf_webhooks.admin.endpoint_tools import (
    disabled_by,
    is_counted_against,
    replay_dead,
    show_once,
)
from drf_webhooks.admin.facts import WebhooksAdmin
from drf_webhooks.exceptions import RotationError, SecretError
from drf_webhooks.models import Endpoint

__all__ = ["EndpointActions"]

_REPLAYED = timedelta(days=7)


class EndpointActions(WebhooksAdmin):
    """The actions of the list, and the permissions that are not Django's."""

    actions = (
        "enable",
        "enable_and_skip",
        "disable",
        "recover",
        "send_test",
        "rotate_secret",
        "replay_failed",
    )
    # Each takes some statements, one after the other.
    most_chosen = 200
    too_many = _("Choose %d at most.")

    def has_replay_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """As sending again: it changes deliveries, not endpoints."""
        return request.user.has_perm("drf_webhooks.change_delivery")

    def has_reveal_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """To see a secret that was made before."""
        return request.user.has_perm("drf_webhooks.reveal_secret")

    @admin.action(
        description=_("Replace the secret; the old one is valid for 24 hours more"),
        permissions=["change"],
    )
    def rotate_secret(
        self, request: HttpRequest, queryset: QuerySet[Endpoint]
    ) -> HttpResponse | None:
        rows = list(queryset[:2])
        if len(rows) != 1:
            self.message_user(request, _("Choose one endpoint."), messages.ERROR)
            return None
        (endpoint,) = rows
        try:
            rotation.rotate_secret(endpoint, using=queryset.db)
        except (RotationError, SecretError, ValueError) as error:
            self.message_user(request, str(error), messages.ERROR)
            return None
        self.log_change(request, endpoint, "The secret was replaced.")
        return show_once(self, request, endpoint)

    @admin.action(description=_("Enable; what waits is sent"), permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        self._enable(request, queryset, "resume")

    @admin.action(description=_("Enable; what waits is skipped"), permissions=["change"])
    def enable_and_skip(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        self._enable(request, queryset, "skip")

    def _enable(
        self,
        request: HttpRequest,
        queryset: QuerySet[Endpoint],
        waiting: Literal["resume", "skip"],
    ) -> None:
        rows, using = self.chosen(request, queryset), queryset.db
        if rows is None:
            return
        changed = [each for each in rows if endpoints.enable(each, waiting=waiting, using=using)]
        count = len(changed)
        self.log_changes(request, changed, "Enabled.")
        self._say(request, ngettext("%d endpoint enabled.", "%d endpoints enabled.", count), count)

    @admin.action(description=_("Disable; what waits is kept"), permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        rows, reason = self.chosen(request, queryset), disabled_by(request)
        if rows is None:
            return
        changed = [each for each in rows if endpoints.disable(each, reason, using=queryset.db)]
        count = len(changed)
        self.log_changes(request, changed, reason)
        self._say(
            request, ngettext("%d endpoint disabled.", "%d endpoints disabled.", count), count
        )

    @admin.action(description=_("End the pause"), permissions=["change"])
    def recover(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        rows = self.chosen(request, queryset)
        if rows is None:
            return
        changed = [each for each in rows.select_related("health") if is_counted_against(each)]
        for each in changed:
            endpoints.recover(each, using=queryset.db)
        count = len(changed)
        self.log_changes(request, changed, "The pause was ended.")
        self._say(
            request, ngettext("%d endpoint is tried.", "%d endpoints are tried.", count), count
        )

    @admin.action(description=_("Send a test"), permissions=["change"])
    def send_test(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        rows = self.chosen(request, queryset)
        if rows is None:
            return
        for each in rows:
            endpoints.send_test(each, using=queryset.db)
        count = len(rows)
        self.log_changes(request, rows, "A test was sent.")
        self._say(request, ngettext("%d test is sent.", "%d tests are sent.", count), count)

    @admin.action(description=_("Send again what died in the last 7 days"), permissions=["replay"])
    def replay_failed(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        rows = self.chosen(request, queryset)
        if rows is None:
            return
        replay_dead(self, request, rows, _REPLAYED)
        self.log_changes(request, rows, "Sent again what died in 7 days.")

    def _say(self, request: HttpRequest, text: str, count: int) -> None:
        self.message_user(request, text % count, messages.SUCCESS)
