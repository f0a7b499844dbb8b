"""How an endpoint is, in a word: what an operator looks for first."""

from datetime import datetime
from typing import Any, NamedTuple

from django.utils.html import format_html
from django.utils.translation import gettext as _

from drf_webhooks.admin.markup import badge, cut, lines, moment
from drf_webhooks.models import Endpoint

__all__ = ["Condition", "condition", "shown"]


class Condition(NamedTuple):
    """A word for it, the kind of its badge, and what else is to be said, a line each."""

    kind: str
    word: str
    more: tuple[str, ...] = ()


def condition(endpoint: Endpoint, now: datetime) -> Condition:
    """Return how an endpoint is; reads its ``health``."""
    health: Any = getattr(endpoint, "health", None)
    is_well = health is None or health.is_clean
    since = None if is_well else health.failing_since
    failing = () if since is None else (_line(_("failing since"), moment(since)),)
    if endpoint.state == Endpoint.State.DISABLED:
        reason = cut(endpoint.disabled_reason, 200)
        return Condition("idle", _("disabled"), (reason, *failing) if reason else failing)
    if is_well:
        return Condition("good", _("healthy"))
    # While a round of its recovery is in the air it has a pause too.
    if health.paused_until is not None and health.paused_until > now and not health.round_left:
        until = _line(_("until"), moment(health.paused_until))
        return Condition("bad", _("paused"), (until, *failing))
    if since is not None:
        return Condition("bad", _("failing"), failing)
    if health.ramp is not None:
        return Condition("busy", _("recovering"), (_("%d at once") % health.ramp,))
    if health.types:
        return Condition("busy", _("refuses types"), (cut(", ".join(health.types), 200),))
    return Condition("good", _("healthy"))


def _line(words: str, at: str) -> str:
    return format_html("{} {}", words, at)


def shown(endpoint: Endpoint, now: datetime) -> str:
    """Return the badge of an endpoint, and below it what else there is to say."""
    found = condition(endpoint, now)
    return lines([badge(found.kind, found.word), *found.more])
