"""What can be done with one endpoint on its page."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from drf_webhooks import endpoints, replay, rotation
from drf_webhooks.admin.delivery_tools import watch
from drf_webhooks.admin.tools import Tool, ToolsAdmin
from drf_webhooks.exceptions import SecretError
from drf_webhooks.fields import SealedField
from drf_webhooks.models import Endpoint

__all__ = ["TOOLS", "disabled_by", "is_counted_against", "is_lost", "replay_dead", "show_once"]

#: A request has an end: of more the rest is still dead, and the same goes on.
MOST_REPLAYED = 10_000


def is_lost(endpoint: Any, name: str) -> bool:
    """Tell whether nobody can read a secret."""
    try:
        getattr(endpoint, name, None)
    except (SecretError, ValueError):
        return True
    return False


def is_counted_against(endpoint: Endpoint) -> bool:
    """Tell whether an endpoint that is enabled has a pause or failures; reads its ``health``."""
    health = getattr(endpoint, "health", None)
    return endpoint.state == Endpoint.State.ENABLED and health is not None and not health.is_clean


def disabled_by(request: HttpRequest, reason: str = "") -> str:
    """Return why an endpoint is disabled."""
    by = f"Disabled by {request.user} in the admin."
    return f"{by} {reason}".strip()


@sensitive_variables()
def show_once(
    site: ToolsAdmin, request: HttpRequest, endpoint: Endpoint, *, is_new: bool = True
) -> HttpResponse:
    """Return a page with the secret, which nobody but the receiver has to know."""
    # In the answer itself: a message would be kept in a cookie or a session.
    shown = {
        **site.admin_site.each_context(request),
        "title": gettext("New secret") if is_new else gettext("Secret"),
        "opts": site.opts,
        "media": site.media,
        "endpoint": endpoint,
        "public_key": endpoint.public_key,
        "secret": endpoint.secret,
        "old_secrets": [each for each in endpoint.old_secrets if each.expires_at > timezone.now()],
        # Who may only add endpoints sees no page of one.
        "url": site.page(Endpoint, "change", endpoint.pk)
        if site.has_view_permission(request, endpoint)
        else "",
        "is_new": is_new,
    }
    answer = render(request, "admin/drf_webhooks/endpoint/secret.html", shown)
    answer["referrer-policy"] = "no-referrer"
    return answer


def replay_dead(site: ToolsAdmin, request: HttpRequest, rows: Any, length: timedelta) -> None:
    """Send again what died, and say how much that is."""
    within = replay.span(timezone.now() - length, using=rows.db)
    count = 0
    for lot in replay.replay_failed(within, using=rows.db, endpoints=rows):
        count += lot.replayed
        if count >= MOST_REPLAYED:
            rest = gettext("There may be more: do it again, or use webhooks_replay.")
            site.message_user(request, rest, messages.WARNING)
            break
    text = ngettext("%d delivery is due now.", "%d deliveries are due now.", count)
    site.message_user(request, text % count, messages.SUCCESS)


class EnableForm(forms.Form):
    """What becomes of what has waited."""

    waiting = forms.ChoiceField(
        label=_("What has waited"),
        choices=[
            ("resume", _("is sent, slowly at first")),
            ("skip", _("is given up")),
        ],
        initial="resume",
        widget=forms.RadioSelect,
    )


class Enable(Tool):
    """Let it hear again."""

    name = "enable"
    label = _("Enable")
    form = EnableForm
    explanation = _("What was counted against the endpoint is forgotten, and it is sent a test.")

    def is_possible(self, row: Endpoint) -> bool:
        return row.state == Endpoint.State.DISABLED

    def run(
        self, site: ToolsAdmin, request: HttpRequest, row: Endpoint, given: dict[str, Any]
    ) -> HttpResponse | None:
        if endpoints.enable(row, waiting=given["waiting"], using=str(row._state.db)):
            site.log_change(request, row, f"Enabled; what waited: {given['waiting']}.")
        site.message_user(request, gettext("The endpoint is enabled."), messages.SUCCESS)
        return None


class DisableForm(forms.Form):
    """Why."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=100,
        required=False,
        widget=forms.TextInput(attrs={"class": "vLargeTextField"}),
    )


class Disable(Tool):
    """Let it hear nothing."""

    name = "disable"
    label = _("Disable")
    form = DisableForm
    is_grave = True
    explanation = _(
        "What waits for the endpoint is kept. What changes while it is disabled is not stored for "
        "it."
    )

    def is_possible(self, row: Endpoint) -> bool:
        return row.state == Endpoint.State.ENABLED

    def run(
        self, site: ToolsAdmin, request: HttpRequest, row: Endpoint, given: dict[str, Any]
    ) -> HttpResponse | None:
        reason = disabled_by(request, given["reason"])
        if endpoints.disable(row, reason, using=str(row._state.db)):
            site.log_change(request, row, reason)
        site.message_user(request, gettext("The endpoint is disabled."), messages.SUCCESS)
        return None


class Recover(Tool):
    """Try it at once."""

    name = "recover"
    label = _("End the pause")

    def is_possible(self, row: Endpoint) -> bool:
        return is_counted_against(row)

    def run(
        self, site: ToolsAdmin, request: HttpRequest, row: Endpoint, given: dict[str, Any]
    ) -> HttpResponse | None:
        endpoints.recover(row, using=str(row._state.db))
        site.log_change(request, row, "The pause was ended.")
        site.message_user(request, gettext("The endpoint is tried."), messages.SUCCESS)
        return None


class SendTest(Tool):
    """See whether it answers."""

    name = "send-test"
    label = _("Send a test")

    def run(
        self, site: ToolsAdmin, request: HttpRequest, row: Endpoint, given: dict[str, Any]
    ) -> HttpResponse | None:
        delivery = endpoints.send_test(row, using=str(row._state.db))
        site.log_change(request, row, "A test was sent.")
        return watch(site, request, delivery)


class ReplayForm(forms.Form):
    """Of which time."""

    since = forms.TypedChoiceField(
        label=_("What died within"),
        choices=[
            (1, _("the last hour")),
            (24, _("the last 24 hours")),
            (7 * 24, _("the last 7 days")),
            (30 * 24, _("the last 30 days")),
        ],
        coerce=int,
        initial=24,
    )


class Replay(Tool):
    """Bring what failed."""

    name = "replay"
    label = _("Send again what died")
    permission = "replay"
    form = ReplayForm
    explanation = _(
        "The same messages, with the same ids, each with its whole schedule of retries before it."
    )

    def run(
        self, site: ToolsAdmin, request: HttpRequest, row: Endpoint, given: dict[str, Any]
    ) -> HttpResponse | None:
        rows = Endpoint.objects.using(row._state.db).filter(pk=row.pk)
        replay_dead(site, request, rows, timedelta(hours=given["since"]))
        site.log_change(request, row, f"Sent again what died in {given['since']} hours.")
        return None


class RotateForm(forms.Form):
    """For how long the secret of before is valid, and how the new one signs."""

    overlap = forms.ChoiceField(
        label=_("The present secret"),
        choices=[
            ("1", _("stays valid for 1 hour")),
            ("24", _("stays valid for 24 hours")),
            ("72", _("stays valid for 3 days")),
            ("168", _("stays valid for 7 days")),
            ("leaked", _("has leaked: it is not valid any more, nor are older ones")),
        ],
        initial="24",
        widget=forms.RadioSelect,
    )
    signature = forms.ChoiceField(
        label=_("Signature"),
        choices=[
            ("", _("as before")),
            ("v1", _("HMAC, with a secret (v1)")),
            ("v1a", _("ed25519, public key (v1a)")),
        ],
        required=False,
    )
    #: Which secret was there when it was asked: a form that is sent twice rotates once.
    seen = forms.CharField(widget=forms.HiddenInput)


class Rotate(Tool):
    """Give it a new secret."""

    name = "rotate"
    label = _("Replace the secret")
    form = RotateForm
    explanation = _(
        "A new secret is made and shown once. While the present one stays valid, messages are "
        "signed with both, so that the receiver can change over in its own time."
    )

    def initial(self, row: Endpoint) -> dict[str, Any]:
        return {"seen": _seen(row)}

    @sensitive_variables()
    def run(
        self, site: ToolsAdmin, request: HttpRequest, row: Endpoint, given: dict[str, Any]
    ) -> HttpResponse | None:
        if not constant_time_compare(given["seen"], _seen(row)):
            msg = gettext("The secret was replaced meanwhile. See whether it still has to be.")
            raise ValidationError(msg)
        using, signature = str(row._state.db), given["signature"] or None
        if given["overlap"] == "leaked":
            rotation.replace_secret(row, signature=signature, using=using)
            site.log_change(request, row, "The secret was replaced, and all old ones forgotten.")
        else:
            overlap = timedelta(hours=int(given["overlap"]))
            rotation.rotate_secret(row, overlap=overlap, signature=signature, using=using)
            site.log_change(request, row, "The secret was replaced.")
        return show_once(site, request, row)


def _seen(row: Endpoint) -> str:
    """Return a mark of the secret that an endpoint has, which says nothing about it."""
    field = Endpoint._meta.get_field("secret")
    assert isinstance(field, SealedField)  # noqa: S101  # for the types only
    text = field.stored(row).text
    return salted_hmac("drf_webhooks.admin.rotate", text, algorithm="sha256").hexdigest()


class Revoke(Tool):
    """End the overlap."""

    name = "revoke"
    label = _("Revoke old secrets")
    is_grave = True
    explanation = _(
        "Messages are signed with the newest secret only. A receiver that has not changed over yet "
        "refuses them."
    )

    def is_possible(self, row: Endpoint) -> bool:
        if is_lost(row, "old_secrets"):
            return False
        now = timezone.now()
        return any(each.expires_at > now for each in row.old_secrets)

    def run(
        self, site: ToolsAdmin, request: HttpRequest, row: Endpoint, given: dict[str, Any]
    ) -> HttpResponse | None:
        count = rotation.revoke_old_secrets(row, using=str(row._state.db))
        site.log_change(request, row, "Old secrets were revoked.")
        text = ngettext("%d old secret is revoked.", "%d old secrets are revoked.", count)
        site.message_user(request, text % count, messages.SUCCESS)
        return None


class Reveal(Tool):
    """Show the secret once more."""

    name = "reveal"
    label = _("Show the secret")
    permission = "reveal"
    explanation = _("Who saw it, and when, is written into the history of the endpoint.")

    def is_possible(self, row: Endpoint) -> bool:
        # Of a key pair the public half is on the page, and nobody needs the other one.
        return not is_lost(row, "secret") and row.signature == "v1"

    @sensitive_variables()
    def run(
        self, site: ToolsAdmin, request: HttpRequest, row: Endpoint, given: dict[str, Any]
    ) -> HttpResponse | None:
        rotation.reveal_secret(row, request.user)
        site.log_change(request, row, "The secret was shown.")
        return show_once(site, request, row, is_new=False)


TOOLS: tuple[Tool, ...] = (
    SendTest(),
    Enable(),
    Recover(),
    Replay(),
    Rotate(),
    Revoke(),
    Reveal(),
    Disable(),
)
