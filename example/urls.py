"""The REST API under ``api/`` with its OpenAPI document, that of webhooks, and the admin."""

from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView
from rest_framework.routers import DefaultRouter

from example.core import views

router = DefaultRouter()
router.register("addresses", views.AddressViewSet)
router.register("landlords", views.LandlordViewSet)
router.register("units", views.RentalUnitViewSet)
router.register("tenants", views.TenantViewSet)
router.register("deposits", views.DepositViewSet)

urlpatterns = [
    path("api/", include(router.urls)),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    # For subscribers, who have to log in.
    path("webhooks/", include("drf_webhooks.urls")),
    path("admin/", admin.site.urls),
]
