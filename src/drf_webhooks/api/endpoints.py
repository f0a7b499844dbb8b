"""Endpoints of an owner: make, read, change, disable, enable, rotate, reveal, test, verify."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.views.decorators.debug import sensitive_variables
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response

from drf_webhooks.api.delivery_serializers import DeliverySerializer
from drf_webhooks.api.filters import EndpointFilters, Filters, SerializerFilterBackend
from drf_webhooks.api.pagination import KeyPagination
from drf_webhooks.api.permissions import MayRevealSecret
from drf_webhooks.api.serializers import (
    DisableSerializer,
    EnableSerializer,
    EndpointSerializer,
    RevealSerializer,
    RevokeSerializer,
    RotateSerializer,
    private,
)
from drf_webhooks.api.views import OwnedViewSet, unstored
from drf_webhooks.clock import database_now
from drf_webhooks.models import Delivery, Endpoint

__all__ = ["EndpointViewSet"]


class EndpointViewSet(
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    mixins.UpdateModelMixin,
    OwnedViewSet,
):
    """Endpoints of the owner."""

    serializer_class = EndpointSerializer
    pagination_class = KeyPagination
    filter_backends = (SerializerFilterBackend,)
    filters: type[Filters] | None = EndpointFilters

    #: Who may see a secret again, beside who may see the endpoint.
    reveal_permission_classes: Sequence[type[BasePermission]] = (MayRevealSecret,)

    def get_queryset(self) -> QuerySet[Endpoint]:
        return self.owned.endpoints.select_related("health", "verification")

    def get_permissions(self) -> list[Any]:
        more = self.reveal_permission_classes if self.action == "reveal" else ()
        return [*super().get_permissions(), *(each() for each in more)]

    @sensitive_variables()
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Make an endpoint. The answer has its secret, which is not shown again."""
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        made = serializer.save()
        headers = self.location("endpoint-detail", pk=made.pk)
        # Without its serializer, with whose values DRF would fill the form for the next one.
        answer = dict(serializer.data)
        return unstored(Response(answer, status.HTTP_201_CREATED, headers=headers))

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Delete an endpoint, with its deliveries."""
        self.owned.delete_endpoint(self.get_object().pk)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @action(detail=True, methods=["post"], serializer_class=DisableSerializer)
    def disable(self, request: Request, **kwargs: Any) -> Response:
        """Let an endpoint hear nothing more. What waits for it is kept."""
        endpoint, asked = self._asked(request)
        is_changed = self.owned.disable(endpoint.pk, asked["reason"])
        endpoint.refresh_from_db(fields=["state", "disabled_reason"])
        return self._said(
            state=endpoint.state,
            disabled_reason=endpoint.disabled_reason,
            is_changed=is_changed,
        )

    @action(detail=True, methods=["post"], serializer_class=EnableSerializer)
    def enable(self, request: Request, **kwargs: Any) -> Response:
        """Let an endpoint hear again, and send it a test."""
        endpoint, asked = self._asked(request)
        is_changed = self.owned.enable(endpoint.pk, waiting=asked["waiting"])
        return self._said(state=Endpoint.State.ENABLED, is_changed=is_changed)

    @action(detail=True, methods=["post"], serializer_class=RotateSerializer)
    @sensitive_variables()
    def rotate(self, request: Request, **kwargs: Any) -> Response:
        """Give an endpoint a new secret. The old one is valid for some time more."""
        endpoint, asked = self._asked(request)
        self.owned.rotate_secret(
            endpoint,
            overlap=timedelta(seconds=asked["overlap_seconds"]),
            signature=asked.get("signature"),
        )
        return unstored(
            self._said(**self._secret(endpoint), old_secrets_expire_at=self._expiries(endpoint))
        )

    @action(detail=True, methods=["post"], serializer_class=RevokeSerializer)
    def revoke(self, request: Request, **kwargs: Any) -> Response:
        """End the validity of all old secrets now."""
        endpoint, _ = self._asked(request)
        return self._said(revoked=self.owned.revoke_old_secrets(endpoint))

    @action(detail=True, methods=["post"], serializer_class=RevealSerializer)
    @sensitive_variables()
    def reveal(self, request: Request, **kwargs: Any) -> Response:
        """Show the secret again, to who may see it. The log says who asked."""
        endpoint, _ = self._asked(request)
        self.owned.reveal_secret(endpoint, request.user)
        return unstored(self._said(**self._secret(endpoint)))

    @action(detail=True, methods=["post"], serializer_class=DeliverySerializer)
    def test(self, request: Request, **kwargs: Any) -> Response:
        """Send a test event, whatever the endpoint subscribes to."""
        return self._sent(self.owned.send_test(self.get_object().pk))

    @action(detail=True, methods=["post"], serializer_class=DeliverySerializer)
    def verify(self, request: Request, **kwargs: Any) -> Response:
        """Ask an endpoint once more whether it wants webhooks."""
        return self._sent(self.owned.verify(self.get_object().pk))

    def _asked(self, request: Request) -> tuple[Endpoint, dict[str, Any]]:
        endpoint: Endpoint = self.get_object()
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        return endpoint, serializer.validated_data

    def _said(self, **values: Any) -> Response:
        return Response(self.get_serializer(values).data)

    def _sent(self, delivery: Delivery) -> Response:
        headers = self.location("delivery-detail", pk=delivery.pk)
        data = self.get_serializer(delivery).data
        return Response(data, status.HTTP_202_ACCEPTED, headers=headers)

    def _secret(self, endpoint: Endpoint) -> dict[str, Any]:
        return {"secret": private(endpoint.secret), "public_key": endpoint.public_key}

    def _expiries(self, endpoint: Endpoint) -> list[Any]:
        now = database_now(self.owned.using)
        return [each.expires_at for each in endpoint.old_secrets if now < each.expires_at]
