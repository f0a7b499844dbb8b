"""The Django app: finds the project's resources and starts to watch their models."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _

__all__ = ["DrfWebhooksConfig"]


class DrfWebhooksConfig(AppConfig):
    """``drf_webhooks`` in ``INSTALLED_APPS``."""

    name = "drf_webhooks"
    verbose_name = _("Webhooks")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Imported here: they need the models, which exist only now.
        from drf_webhooks import checks, learning, pipeline, receivers, session, waking  # noqa: PLC0415
        from drf_webhooks.conf import config, given, mistakes  # noqa: PLC0415

        checks.register()
        session.install(pipeline.Pipeline())
        if not mistakes(given()):
            autodiscover_modules(config().MODULE)
            waking.prepare()
        receivers.connect()
        learning.connect()
