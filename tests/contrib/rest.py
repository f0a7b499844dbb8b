"""A REST API over the test project, for tests that begin where a customer's request does."""

from django.urls import include, path
from rest_framework import permissions, serializers, viewsets
from rest_framework.routers import SimpleRouter

from tests.app.models import Deposit


class DepositForm(serializers.ModelSerializer[Deposit]):
    class Meta:
        model = Deposit
        fields = ("id", "amount", "tenant")


class Deposits(viewsets.ModelViewSet[Deposit]):
    queryset = Deposit.objects.all()
    serializer_class = DepositForm
    permission_classes = (permissions.AllowAny,)


router = SimpleRouter()
router.register("deposits", Deposits)
urlpatterns = [path("", include(router.urls)), path("", include("tests.app.urls"))]
