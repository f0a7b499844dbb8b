"""The admin: endpoints to manage, and what became of events to look at."""

from drf_webhooks.admin.attempts import AttemptAdmin
from drf_webhooks.admin.deliveries import DeliveryAdmin
from drf_webhooks.admin.endpoints import EndpointAdmin
from drf_webhooks.admin.events import EventAdmin
from drf_webhooks.admin.notices import NoticeAdmin

__all__ = ["AttemptAdmin", "DeliveryAdmin", "EndpointAdmin", "EventAdmin", "NoticeAdmin"]
