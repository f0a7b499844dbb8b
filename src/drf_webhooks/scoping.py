"""Who may hear and see what: the one place that says what belongs to an owner.

Whoever acts for an owner begins with ``owned_by()`` of a manager, or with
:class:`drf_webhooks.owners.Owned`. ``docs/explanation/security-tenants.md`` argues it.
"""

from typing import Any

from django.conf import settings
from django.db.models import F, Q

from drf_webhooks.conf import given
from drf_webhooks.event_types import ENDPOINT

__all__ = [
    "EVERYBODY",
    "HEARS",
    "audible",
    "delivered_to",
    "may_hear",
    "of_endpoint",
    "owned",
    "owner_key",
    "owner_model",
]

#: Whether an endpoint ``p`` may hear an event ``e``, in SQL.
HEARS = "(e.owner_id IS NULL OR e.owner_id = p.owner_id)"

#: Stands for no owner in particular, where operators ask for all that there is.
EVERYBODY = object()

_NOTHING = Q(pk__in=())


def owner_model() -> str:
    """Return the label of the model that owns endpoints."""
    # Unchecked: models are loaded before the system checks say what is wrong with settings.
    written = given()
    chosen = written.get("OWNER_MODEL") if isinstance(written, dict) else None
    return chosen if isinstance(chosen, str) else settings.AUTH_USER_MODEL


def owner_key(owner: Any) -> Any:
    """Return the primary key of an owner that is given as an instance or as a key.

    That of an anonymous user is ``None``.
    """
    return getattr(owner, "pk", owner)


def may_hear(event_owner: Any, endpoint_owner: Any) -> bool:
    """Tell by two keys whether an event may be sent to an endpoint."""
    return event_owner is None or event_owner == endpoint_owner


def owned(owner: Any) -> Q:
    """Leave rows with an owner.

    Nobody owns nothing: ``None``, or an anonymous user, does not own what has no owner.
    """
    key = owner_key(owner)
    return _NOTHING if key is None else Q(owner=key)


def audible(owner: Any) -> Q:
    """Leave the events that endpoints of an owner may hear: its own, and those for everybody.

    What is said of an endpoint is for nobody else, though it may have no owner either.
    """
    key = owner_key(owner)
    public = Q(owner=None) & ~Q(resource=ENDPOINT)
    return public if key is None else Q(owner=key) | public


def of_endpoint(owner: Any, path: str = "endpoint", moment: str = "created_at") -> Q:
    """Leave what belongs to endpoints of an owner, since they are the owner's.

    Args:
        owner: As for :func:`owned`.
        path: How the endpoint is reached.
        moment: When the thing came to be; what was before a transfer is not shown.

    """
    key = owner_key(owner)
    if key is None:
        return _NOTHING
    since = f"{path}__owned_since"
    is_new = Q(**{since: None}) | Q(**{f"{moment}__gte": F(since)})
    return Q(**{f"{path}__owner": key}) & is_new


def delivered_to(owner: Any, path: str = "") -> Q:
    """Leave deliveries to endpoints of an owner, of events that it may hear."""
    key = owner_key(owner)
    event = f"{path}event__"
    is_audible = Q(**{f"{event}owner": None}) | Q(**{f"{event}owner": key})
    return of_endpoint(owner, f"{path}endpoint", f"{event}created_at") & is_audible
