"""A normal DRF API, with some actions that do more than one thing at once."""

from typing import Any

from django.db import transaction
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ModelViewSet

from drf_webhooks.session import disable_webhooks
from example.core.models import Address, Amenity, Deposit, Landlord, RentalUnit, Tenant
from example.core.serializers import (
    AddressSerializer,
    DepositSerializer,
    PortfolioSerializer,
    RentalUnitSerializer,
    TenantSerializer,
)
from example.core.webhooks import DepositSerializerWebhook


def _body(component: str, /, **fields: Any) -> Any:
    """Describe a body that has no serializer of its own."""
    return inline_serializer(component, fields)


_CREATED = {201: _body("Created", id=serializers.IntegerField())}
_NOTHING = {204: None}


class AddressViewSet(ModelViewSet[Address]):
    queryset = Address.objects.all()
    serializer_class = AddressSerializer


class LandlordViewSet(ModelViewSet[Landlord]):
    queryset = Landlord.objects.prefetch_related("units")
    serializer_class = PortfolioSerializer


class TenantViewSet(ModelViewSet[Tenant]):
    queryset = Tenant.objects.select_related("address", "user")
    serializer_class = TenantSerializer


class RentalUnitViewSet(ModelViewSet[RentalUnit]):
    queryset = RentalUnit.objects.select_related("address").prefetch_related("amenities")
    serializer_class = RentalUnitSerializer

    @extend_schema(
        request=_body("Transfer", landlord=serializers.IntegerField()), responses=_NOTHING
    )
    @action(detail=True, methods=["post"])
    def transfer(self, request: Request, **_: str) -> Response:
        """Give the unit to another landlord."""
        unit = self.get_object()
        unit.landlord_id = request.data["landlord"]
        unit.save()
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=_body("NamedAmenity", name=serializers.CharField()), responses=_NOTHING)
    @action(detail=True, methods=["post", "delete"])
    def amenities(self, request: Request, **_: str) -> Response:
        """Add an amenity to the unit, or take it away."""
        amenity, _created = Amenity.objects.get_or_create(name=request.data["name"])
        change = self.get_object().amenities
        (change.add if request.method == "POST" else change.remove)(amenity)
        return Response(status=status.HTTP_204_NO_CONTENT)


class DepositViewSet(ModelViewSet[Deposit]):
    queryset = Deposit.objects.select_related(
        "tenant__address", "tenant__user", "landlord__address", "unit__address"
    ).prefetch_related("unit__amenities")
    serializer_class = DepositSerializer

    @extend_schema(responses=_CREATED)
    @action(detail=False, methods=["post"])
    def corrected(self, request: Request) -> Response:
        """Create a deposit and correct its amount at once, in two transactions."""
        deposit = self._created(request)
        deposit.amount += 1
        deposit.save()
        return Response({"id": deposit.pk}, status=status.HTTP_201_CREATED)

    @extend_schema(responses=_NOTHING)
    @action(detail=False, methods=["post"])
    def withdrawn(self, request: Request) -> Response:
        """Create a deposit and delete it again."""
        self._created(request).delete()
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(responses={409: _body("Refused", detail=serializers.CharField())})
    @action(detail=False, methods=["post"])
    def refused(self, request: Request) -> Response:
        """Create a deposit and change a tenant, and then find that it must not be."""
        with transaction.atomic():
            deposit = self._created(request)
            deposit.tenant.name = "never seen"
            deposit.tenant.save()
            transaction.set_rollback(True)
        return Response({"detail": "refused"}, status=status.HTTP_409_CONFLICT)

    @extend_schema(
        request=_body("Raise", amount=serializers.DecimalField(10, 2)), responses=_NOTHING
    )
    @action(detail=False, methods=["post"])
    def raised(self, request: Request) -> Response:
        """Raise every deposit, which sends no signals, and say so by hand."""
        deposits = self.get_queryset()
        deposits.update(amount=request.data["amount"])
        DepositSerializerWebhook.trigger(deposits, "updated")
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(responses=_CREATED)
    @action(detail=False, methods=["post"])
    def imported(self, request: Request) -> Response:
        """Import deposits that the customers know already."""
        with disable_webhooks():
            deposit = self._created(request)
        return Response({"id": deposit.pk}, status=status.HTTP_201_CREATED)

    def _created(self, request: Request) -> Any:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        return serializer.save()
