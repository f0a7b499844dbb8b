"""The REST API for subscribers: ``path("webhooks/", include("drf_webhooks.urls"))``."""

from drf_webhooks.api.routers import WebhooksRouter, register

__all__ = ["app_name", "router", "urlpatterns"]

app_name = "drf_webhooks"

router = WebhooksRouter()
register(router)
urlpatterns = router.urls
