"""Deliveries and attempts as rows of the tables on other pages."""

from http import HTTPStatus
from typing import Any

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from drf_webhooks.admin.markup import NOTHING, badge, block, cut, lines, link, moment, span
from drf_webhooks.admin.tools import ToolsAdmin
from drf_webhooks.delivery.failures import ERRORS
from drf_webhooks.models import Attempt, Delivery, Endpoint

__all__ = [
    "attempt_head",
    "attempt_row",
    "delivery_head",
    "delivery_row",
    "meaning",
    "message_of",
    "outcome_badge",
    "state_badge",
]

_KINDS = {
    Delivery.State.WAITING: "busy",
    Delivery.State.DELIVERED: "good",
    Delivery.State.DEAD: "bad",
}


def state_badge(delivery: Delivery) -> SafeString:
    """Return how far a delivery is."""
    state = Delivery.State(delivery.state)
    if state == Delivery.State.DEAD and delivery.replaced_by is not None:
        return badge("idle", _("dead, said anew"), delivery.reason)
    if state == Delivery.State.WAITING and delivery.leased_at is not None:
        return badge("busy", _("on its way"))
    return badge(_KINDS[state], state.label, delivery.reason)


def outcome_badge(attempt: Attempt) -> SafeString:
    """Return what came of an attempt."""
    if attempt.status is None:
        return badge("bad", attempt.error or _("no answer"), meaning(attempt))
    is_taken = 200 <= attempt.status < 300  # noqa: PLR2004  # HTTP's class of success
    return badge("good" if is_taken else "bad", status_text(attempt.status))


def status_text(status: int) -> str:
    """Return a status with its phrase."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def meaning(attempt: Attempt) -> str:
    """Return in words what came of an attempt that was not taken."""
    status = attempt.status
    if status is None:
        return _(ERRORS[attempt.error].meaning) if attempt.error in ERRORS else ""
    return _(_STATUSES.get(status) or _CLASSES.get(status // 100, ""))


_STATUSES = {
    401: gettext_noop("the receiver does not believe that it is us: mostly its secret is another"),
    403: gettext_noop("the receiver, or what stands before it, lets nobody like us in"),
    404: gettext_noop("the receiver has nothing at this address"),
    405: gettext_noop("the receiver takes no such method at this address"),
    408: gettext_noop("the receiver did not get the message in time"),
    410: gettext_noop("the receiver wants to hear nothing any more"),
    413: gettext_noop("the message is too long for the receiver"),
    429: gettext_noop("the receiver gets too many messages"),
    502: gettext_noop("what stands before the receiver does not reach it"),
    503: gettext_noop("the receiver is down, or has too much to do"),
    504: gettext_noop("what stands before the receiver did not get its answer in time"),
}
_CLASSES = {
    3: gettext_noop("the receiver has moved; redirects are not followed, so change the URL"),
    4: gettext_noop("the receiver does not take the message"),
    5: gettext_noop("the receiver failed"),
}


def message_of(delivery: Delivery) -> str:
    """Return the message that a delivery brings, in its variant, and how that differs."""
    body = delivery.body
    if body is None:
        # It is parked or held, or its time is over.
        is_retired = delivery.event.retired_at is not None
        return _("Its message is not kept any more.") if is_retired else NOTHING
    notes = [f"{_('variant')}: {delivery.variant}"] if delivery.variant else []
    if delivery.endpoint.format != "json":
        notes.append(_("As it is stored; the endpoint gets it as %s.") % delivery.endpoint.format)
    return format_html("{}{}", lines(notes), block(body))


def delivery_head() -> list[str]:
    """Return the heads of the columns of :func:`delivery_row`."""
    return [_("delivery"), _("endpoint"), _("state"), _("attempts"), _("next or last"), _("reason")]


def delivery_row(site: ToolsAdmin, delivery: Delivery) -> list[Any]:
    """Return a delivery with its endpoint, which is read with it."""
    return [
        link(site.page(Delivery, "change", delivery.pk), f"#{delivery.pk}"),
        link(site.page(Endpoint, "change", delivery.endpoint_id), cut(delivery.endpoint.url, 60)),
        state_badge(delivery),
        delivery.attempt_count,
        moment(delivery.due_at or delivery.settled_at),
        cut(delivery.reason, 80) or NOTHING,
    ]


def attempt_head() -> list[str]:
    """Return the heads of the columns of :func:`attempt_row`."""
    return [_("attempt"), _("started"), _("took"), _("outcome"), _("which means")]


def attempt_row(site: ToolsAdmin, attempt: Attempt) -> list[Any]:
    """Return an attempt."""
    number = format_html("{}", _("no. %d") % attempt.number)
    return [
        link(site.page(Attempt, "change", attempt.pk), number),
        moment(attempt.started_at),
        span(attempt.duration),
        outcome_badge(attempt),
        cut(meaning(attempt) or attempt.detail, 120) or NOTHING,
    ]
