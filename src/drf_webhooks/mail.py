"""Tell the owner of an endpoint by e-mail what became of it: a ``NOTICE_HANDLER``."""

from urllib.parse import urlsplit

from django.core.mail import send_mail
from django.utils.translation import gettext as _

from drf_webhooks.conf import config
from drf_webhooks.models import Notice

__all__ = ["mail_owner"]


def mail_owner(notice: Notice) -> None:
    """Send a notice to the owner's address, by Django's mail settings.

    The address is the field that the owner model's ``get_email_field_name()`` names, or
    ``email``. An owner without one gets nothing.

    Raises:
        Exception: whatever the mail backend raises; the notice comes again later.

    """
    owner = notice.endpoint.owner
    named = getattr(owner, "get_email_field_name", lambda: "email")()
    address = getattr(owner, named, None)
    if not address:
        return
    host = urlsplit(notice.endpoint.url).hostname
    subject = {
        Notice.Kind.FAILING: _("Your webhooks to %(host)s fail"),
        Notice.Kind.TYPE_FAILING: _("Your webhooks to %(host)s fail for one event type"),
        Notice.Kind.DISABLED: _("Your webhooks to %(host)s were disabled"),
        Notice.Kind.ENABLED: _("Your webhooks to %(host)s were enabled"),
    }[Notice.Kind(notice.kind)] % {"host": host}
    lines = [_("Endpoint: %(id)s on %(host)s") % {"id": notice.endpoint_id, "host": host}]
    if notice.reason:
        lines.append(notice.reason)
    if notice.kind == Notice.Kind.FAILING and notice.failing_since is not None:
        length = config().DISABLE_AFTER
        if length is not None:
            lines.append(
                _("If nothing can be delivered, it is disabled on %(day)s at the earliest.")
                % {"day": f"{notice.failing_since + length:%Y-%m-%d}"}
            )
    if notice.kind == Notice.Kind.DISABLED:
        lines.append(_("What waits for it is kept. Mend the receiver and enable it again."))
    send_mail(subject, "\n\n".join(lines) + "\n", None, [address])
