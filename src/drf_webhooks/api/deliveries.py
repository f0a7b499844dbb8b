"""Deliveries and attempts of an owner: look at them, send one again, cancel one."""

from typing import Any

from django.db.models import QuerySet
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from drf_webhooks.api.delivery_serializers import (
    AttemptDetailSerializer,
    AttemptSerializer,
    CancelSerializer,
    DeliveryDetailSerializer,
    DeliverySerializer,
    ResendSerializer,
    StatusSerializer,
)
from drf_webhooks.api.filters import (
    AttemptFilters,
    DeliveryFilters,
    Filters,
    SerializerFilterBackend,
)
from drf_webhooks.api.pagination import KeyPagination
from drf_webhooks.api.views import ConflictError, OwnedViewSet
from drf_webhooks.models import Attempt, Delivery

__all__ = ["AttemptViewSet", "DeliveryViewSet"]


class DeliveryViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, OwnedViewSet):
    """What the owner's endpoints were sent, or are to be."""

    serializer_class = DeliverySerializer
    detail_serializer_class = DeliveryDetailSerializer
    pagination_class = KeyPagination
    filter_backends = (SerializerFilterBackend,)
    filters: type[Filters] | None = DeliveryFilters

    def get_queryset(self) -> QuerySet[Delivery]:
        rows = self.owned.deliveries.select_related("event").defer("event__body", "event__headers")
        return rows.with_bodies() if self.action == "retrieve" else rows

    def get_serializer_class(self) -> Any:
        is_one = self.action == "retrieve"
        return self.detail_serializer_class if is_one else super().get_serializer_class()

    @action(detail=True, methods=["post"], serializer_class=ResendSerializer)
    def resend(self, request: Request, **kwargs: Any) -> Response:
        """Send a delivery again, whatever became of it."""
        delivery, asked = self._asked(request)
        if not self.owned.send_again([delivery.pk], is_anew=asked["anew"]):
            msg = (
                "Nothing can be said of the object any more."
                if asked["anew"]
                else "The message is not kept any more."
            )
            raise ConflictError(msg)
        return self._shown(delivery, status.HTTP_202_ACCEPTED)

    @action(detail=True, methods=["post"], serializer_class=CancelSerializer)
    def cancel(self, request: Request, **kwargs: Any) -> Response:
        """Let a delivery that waits be dead."""
        delivery, asked = self._asked(request)
        if not self.owned.cancel(delivery.pk, asked["because"]):
            msg = "It does not wait any more."
            raise ConflictError(msg)
        return self._shown(delivery, status.HTTP_200_OK)

    @action(
        detail=False,
        url_path="status",
        url_name="status",
        pagination_class=None,
        filter_backends=[],
        serializer_class=StatusSerializer,
    )
    def read_status(self, request: Request, **kwargs: Any) -> Response:
        """Read how far the owner's deliveries are."""
        return Response(self.get_serializer(self.owned.status()).data)

    def _asked(self, request: Request) -> tuple[Delivery, dict[str, Any]]:
        delivery: Delivery = self.get_object()
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        return delivery, serializer.validated_data

    def _shown(self, delivery: Delivery, code: int) -> Response:
        # Read again: it is what the database has made of it.
        found = self.get_queryset().get(pk=delivery.pk)
        return Response(self.get_serializer(found).data, code)


class AttemptViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, OwnedViewSet):
    """Requests that were made for the owner; of one delivery, if the URL names one."""

    serializer_class = AttemptSerializer
    detail_serializer_class = AttemptDetailSerializer
    pagination_class = KeyPagination
    filter_backends = (SerializerFilterBackend,)
    filters: type[Filters] | None = AttemptFilters

    def get_queryset(self) -> QuerySet[Attempt]:
        rows: QuerySet[Attempt] = self.owned.attempts
        if self.action == "retrieve":
            rows = rows.select_related("delivery__event")
        else:
            rows = rows.defer("response_body", "response_headers")
        key = self.kwargs.get("delivery")
        return rows if key is None else rows.filter(delivery=key)

    def get_serializer_class(self) -> Any:
        is_one = self.action == "retrieve"
        return self.detail_serializer_class if is_one else super().get_serializer_class()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Answer 404 for a delivery that is not the owner's, and not with an empty list."""
        super().initial(request, *args, **kwargs)
        key = kwargs.get("delivery")
        if key is not None:
            self.get_owned_or_404(self.owned.deliveries, key)
