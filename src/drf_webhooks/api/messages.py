"""The feed of an endpoint: what a receiver that was away reads to catch up."""

from typing import Any

from django.db.models import QuerySet
from rest_framework import mixins
from rest_framework.request import Request

from drf_webhooks.api.delivery_serializers import MessageSerializer
from drf_webhooks.api.pagination import FeedPagination
from drf_webhooks.api.views import OwnedViewSet
from drf_webhooks.models import Delivery, Endpoint

__all__ = ["MessageViewSet"]


class MessageViewSet(mixins.ListModelMixin, OwnedViewSet):
    """Messages of one endpoint of the owner, in the order of their commits."""

    serializer_class = MessageSerializer
    pagination_class = FeedPagination
    filter_backends = ()

    endpoint: Endpoint

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.endpoint = self.get_owned_or_404(self.owned.endpoints, kwargs["endpoint"])

    def get_queryset(self) -> QuerySet[Delivery]:
        rows = self.owned.deliveries.select_related("event").defer("event__body", "event__headers")
        return rows.with_bodies().filter(endpoint=getattr(self, "endpoint", None))

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "endpoint": getattr(self, "endpoint", None)}
