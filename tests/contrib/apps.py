"""The optional apps as the suite has them, which does without them elsewhere."""

from drf_webhooks.contrib.triggers.apps import TriggersConfig


class TriggersOnDemand(TriggersConfig):
    """Has the table, and does nothing until a test of the triggers says ``connect()``."""

    connect = TriggersConfig.ready

    def ready(self) -> None:
        """Wait for ``connect()``."""
