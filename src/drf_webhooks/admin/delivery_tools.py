"""What can be done with one delivery on its page."""

from typing import Any, ClassVar

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from drf_webhooks import replay
from drf_webhooks.admin.tools import Tool, ToolsAdmin
from drf_webhooks.models import Delivery, Endpoint

__all__ = ["TOOLS", "WATCHES", "CancelMany", "ReasonForm", "reason_of", "watch"]

#: How often the page of a delivery that was asked for looks again.
WATCHES = 15


class ReasonForm(forms.Form):
    """Why something is given up."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=150,
        help_text=_("It is shown with the delivery."),
        widget=forms.TextInput(attrs={"class": "vLargeTextField"}),
    )


class SendAgain(Tool):
    """Send it now."""

    name = "send-again"
    label = _("Send again, now")
    permission = "send_again"
    to_disabled: ClassVar[bool] = False

    def is_possible(self, row: Delivery) -> bool:
        is_heard = row.endpoint.state == Endpoint.State.ENABLED
        return not row.is_by_hand and row.event.retired_at is None and is_heard

    def run(
        self, site: ToolsAdmin, request: HttpRequest, row: Delivery, given: dict[str, Any]
    ) -> HttpResponse | None:
        rows = Delivery.objects.using(row._state.db).filter(pk=row.pk)
        if not rows.send_again(by_hand=True, to_disabled=self.to_disabled):
            msg = gettext("It cannot be sent: it is on its way already, or has no message.")
            raise ValueError(msg)
        site.log_change(request, row, "Sent again by hand.")
        return watch(site, request, row)


class SendAgainToDisabled(SendAgain):
    """Send it now, though the endpoint is disabled."""

    name = "send-again-to-disabled"
    label = _("Send again, though the endpoint is disabled")
    to_disabled = True

    def is_possible(self, row: Delivery) -> bool:
        is_disabled = row.endpoint.state == Endpoint.State.DISABLED
        return not row.is_by_hand and row.event.retired_at is None and is_disabled


class SayAnew(Tool):
    """Say a new event."""

    name = "say-anew"
    label = _("Say anew")
    permission = "send_again"
    explanation = _(
        "The endpoint gets a new event, with a new id, of the object as it is now. This delivery "
        "is not sent any more."
    )

    def is_possible(self, row: Delivery) -> bool:
        return row.replaced_by is None

    def run(
        self, site: ToolsAdmin, request: HttpRequest, row: Delivery, given: dict[str, Any]
    ) -> HttpResponse | None:
        using = str(row._state.db)
        # A form that is sent twice says once.
        if not self.is_possible(row):
            msg = gettext("It was said anew already.")
            raise ValueError(msg)
        if not replay.replay_one(row.pk, using=using, is_anew=True).replayed:
            msg = gettext("Of its object nothing can be said any more.")
            raise ValueError(msg)
        site.log_change(request, row, "Said anew.")
        site.message_user(request, gettext("It is said anew."), messages.SUCCESS)
        return None


class Cancel(Tool):
    """Give it up."""

    name = "cancel"
    label = _("Cancel delivery")
    permission = "send_again"
    is_grave = True
    form = ReasonForm
    explanation = _(
        "The delivery is dead then, and is not sent any more. A request that is in the air at this "
        "moment may still arrive; its result changes nothing."
    )

    def is_possible(self, row: Delivery) -> bool:
        return row.state == Delivery.State.WAITING

    def run(
        self, site: ToolsAdmin, request: HttpRequest, row: Delivery, given: dict[str, Any]
    ) -> HttpResponse | None:
        rows = Delivery.objects.using(row._state.db).filter(pk=row.pk)
        if not rows.cancel(reason_of(request, given["reason"])):
            msg = gettext("It does not wait any more.")
            raise ValueError(msg)
        site.log_change(request, row, "Cancelled.")
        site.message_user(request, gettext("The delivery is cancelled."), messages.SUCCESS)
        return None


class CancelMany(Cancel):
    """Give several up."""

    label = _("Cancel what waits")
    explanation = _(
        "Deliveries that wait are dead then, and are not sent any more; the others stay as they "
        "are. A request that is in the air at this moment may still arrive; its result changes "
        "nothing."
    )


class Skip(Tool):
    """Let the others go on."""

    name = "skip"
    label = _("Let those behind it go on")
    permission = "send_again"
    explanation = _(
        "The endpoint wants the events of an object in order, and this dead delivery keeps later "
        "ones waiting. They are sent then, without it."
    )

    def is_possible(self, row: Delivery) -> bool:
        return row.state == Delivery.State.DEAD and row.order_key is not None

    def run(
        self, site: ToolsAdmin, request: HttpRequest, row: Delivery, given: dict[str, Any]
    ) -> HttpResponse | None:
        if Delivery.objects.using(row._state.db).filter(pk=row.pk).skip():
            site.log_change(request, row, "Those behind it go on.")
        return None


def watch(site: ToolsAdmin, request: HttpRequest, row: Delivery) -> HttpResponse | None:
    """Go to the page of a delivery that looks for its result, for who may see it."""
    url = site.page(Delivery, "change", row.pk, watch=WATCHES)
    if url and site.may_view(request, Delivery):
        return HttpResponseRedirect(url)
    site.message_user(request, gettext("It is sent by the next worker."), messages.SUCCESS)
    return None


def reason_of(request: HttpRequest, reason: str) -> str:
    """Return why a delivery is dead that somebody gave up."""
    return f"Cancelled by {request.user}: {reason}"


TOOLS: tuple[Tool, ...] = (SendAgain(), SendAgainToDisabled(), SayAnew(), Skip(), Cancel())
