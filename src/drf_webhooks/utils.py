"""Names of earlier versions; defines nothing."""

from drf_webhooks.resources import ModelSerializerWebhook

__all__ = ["ModelSerializerWebhook"]
