"""The Django app: finds the project's resources and starts to watch their models."""

from importlib import import_module

from django.apps import AppConfig, apps
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _

__all__ = ["DrfWebhooksConfig"]

#: By name, for it imports an optional package.
_SCHEMAS = "drf_webhooks.contrib.spectacular.views"


class DrfWebhooksConfig(AppConfig):
    """``drf_webhooks`` in ``INSTALLED_APPS``."""

    name = "drf_webhooks"
    verbose_name = _("Webhooks")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Imported here: they need the models, which exist only now.
        from drf_webhooks import (  # noqa: PLC0415
            checks,
            learning,
            pipeline,
            receivers,
            session,
            versions,
            waking,
        )
        from drf_webhooks.conf import config, given, mistakes  # noqa: PLC0415
        from drf_webhooks.registry import declared_versions  # noqa: PLC0415

        versions.use(declared_versions)
        checks.register()
        session.install(pipeline.Pipeline())
        if not mistakes(given()):
            autodiscover_modules(config().MODULE)
            waking.prepare()
        receivers.connect()
        learning.connect()
        if apps.is_installed("drf_spectacular"):
            import_module(_SCHEMAS)
