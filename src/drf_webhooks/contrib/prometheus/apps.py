"""The Django app: counts attempts from the start."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

__all__ = ["PrometheusConfig"]


class PrometheusConfig(AppConfig):
    """``drf_webhooks.contrib.prometheus`` in ``INSTALLED_APPS``."""

    name = "drf_webhooks.contrib.prometheus"
    label = "drf_webhooks_prometheus"
    verbose_name = _("Webhooks: metrics")

    def ready(self) -> None:
        # Imported here: they need the models, which exist only now.
        from drf_webhooks.contrib.prometheus import metrics  # noqa: PLC0415

        metrics.connect()
