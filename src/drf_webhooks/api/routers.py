"""The routes, for ``drf_webhooks.urls`` and for a project's own router."""

from rest_framework.routers import APIRootView, BaseRouter, DefaultRouter

from drf_webhooks.api.deliveries import AttemptViewSet, DeliveryViewSet
from drf_webhooks.api.endpoints import EndpointViewSet
from drf_webhooks.api.event_types import EventTypeViewSet
from drf_webhooks.api.messages import MessageViewSet
from drf_webhooks.api.recoveries import RecoveryViewSet
from drf_webhooks.api.views import OwnedMixin, OwnedViewSet

__all__ = ["ROUTES", "WebhooksRouter", "register"]

#: By prefix: the name of the view in URLs, and its class.
ROUTES: dict[str, tuple[str, type[OwnedViewSet]]] = {
    "event-types": ("event-type", EventTypeViewSet),
    "endpoints": ("endpoint", EndpointViewSet),
    r"endpoints/(?P<endpoint>[^/.]+)/messages": ("message", MessageViewSet),
    "deliveries": ("delivery", DeliveryViewSet),
    r"deliveries/(?P<delivery>[^/.]+)/attempts": ("delivery-attempt", AttemptViewSet),
    "attempts": ("attempt", AttemptViewSet),
    "recoveries": ("recovery", RecoveryViewSet),
}


class WebhooksRootView(OwnedMixin, APIRootView):
    """What there is, for who may use it."""


class WebhooksRouter(DefaultRouter):
    """A router whose root refuses anonymous requests as the rest does."""

    APIRootView = WebhooksRootView
    include_format_suffixes = False


def register(router: BaseRouter, prefix: str = "", **views: type[OwnedViewSet]) -> None:
    """Register all views on a router.

    Args:
        router: A project's own, or ours.
        prefix: Before each route, as ``"webhooks/"``.
        views: Other classes, by the name of the view in URLs, as ``endpoint=MyEndpoints``;
            a dash is an underscore.

    Raises:
        TypeError: there is no view of such a name.

    """
    chosen = {name.replace("_", "-"): view for name, view in views.items()}
    for route, (name, view) in ROUTES.items():
        router.register(prefix + route, chosen.pop(name, view), basename=name)
    if chosen:
        known = ", ".join(name.replace("-", "_") for name, _ in ROUTES.values())
        msg = f"There is no view {', '.join(chosen)}. Known: {known}."
        raise TypeError(msg)
