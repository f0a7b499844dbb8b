"""The Django app: stores the trace of each change, and goes on with it at each attempt."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

__all__ = ["OpenTelemetryConfig"]


class OpenTelemetryConfig(AppConfig):
    """``drf_webhooks.contrib.opentelemetry`` in ``INSTALLED_APPS``."""

    name = "drf_webhooks.contrib.opentelemetry"
    label = "drf_webhooks_opentelemetry"
    verbose_name = _("Webhooks: traces")

    def ready(self) -> None:
        # Imported here: they need the models, which exist only now.
        from drf_webhooks.contrib.opentelemetry import spans  # noqa: PLC0415

        spans.install()
