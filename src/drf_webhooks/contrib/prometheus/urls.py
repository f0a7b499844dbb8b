"""``path("metrics/webhooks", include("drf_webhooks.contrib.prometheus.urls"))``."""

from django.urls import path

from drf_webhooks.contrib.prometheus.views import metrics

__all__ = ["urlpatterns"]

app_name = "drf_webhooks_prometheus"
urlpatterns = [path("", metrics, name="metrics")]
