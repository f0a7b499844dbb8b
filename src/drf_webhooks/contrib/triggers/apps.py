"""The Django app: takes what the triggers wrote whenever events are recorded."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

__all__ = ["TriggersConfig"]


class TriggersConfig(AppConfig):
    """``drf_webhooks.contrib.triggers`` in ``INSTALLED_APPS``."""

    name = "drf_webhooks.contrib.triggers"
    label = "drf_webhooks_triggers"
    verbose_name = _("Webhooks: triggers")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Imported here: they need the models, which exist only now.
        from drf_webhooks.contrib.triggers import checks, journal, silence  # noqa: PLC0415

        checks.register()
        silence.install()
        journal.install()
