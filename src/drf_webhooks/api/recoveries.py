"""Recoveries: have sent again what failed or was missed, and see how far that is."""

from typing import Any

from django.db.models import QuerySet
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from drf_webhooks.api.delivery_serializers import RecoverySerializer
from drf_webhooks.api.filters import Filters, RecoveryFilters, SerializerFilterBackend
from drf_webhooks.api.pagination import KeyPagination
from drf_webhooks.api.serializers import NothingSerializer
from drf_webhooks.api.views import ConflictError, OwnedViewSet
from drf_webhooks.models import Recovery

__all__ = ["RecoveryViewSet"]


class RecoveryViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, OwnedViewSet):
    """What the owner has asked to be sent again."""

    serializer_class = RecoverySerializer
    pagination_class = KeyPagination
    filter_backends = (SerializerFilterBackend,)
    filters: type[Filters] | None = RecoveryFilters

    def get_queryset(self) -> QuerySet[Recovery]:
        return self.owned.recoveries

    def create(self, request: Request, **kwargs: Any) -> Response:
        """Have something sent again. Workers do it; the answer says where to look."""
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        made = serializer.save()
        headers = self.location("recovery-detail", pk=made.pk)
        return Response(serializer.data, status.HTTP_202_ACCEPTED, headers=headers)

    @action(detail=True, methods=["post"], serializer_class=NothingSerializer)
    def cancel(self, request: Request, **kwargs: Any) -> Response:
        """End a recovery where it is. What it has made due stays due."""
        recovery: Recovery = self.get_object()
        if not self.owned.cancel_recovery(recovery.pk):
            msg = "It is over."
            raise ConflictError(msg)
        return Response(status=status.HTTP_204_NO_CONTENT)
