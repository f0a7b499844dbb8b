"""The webhooks in a project's OpenAPI document; needs the extra ``openapi``."""

from drf_webhooks.contrib.spectacular.document import add_webhooks, webhooks_document

__all__ = ["add_webhooks", "webhooks_document"]
