"""The REST API under ``api/``, and the admin."""

from django.contrib import admin
from django.urls import include, path
from rest_framework.routers import DefaultRouter

from example.core import views

router = DefaultRouter()
router.register("addresses", views.AddressViewSet)
router.register("landlords", views.LandlordViewSet)
router.register("units", views.RentalUnitViewSet)
router.register("tenants", views.TenantViewSet)
router.register("deposits", views.DepositViewSet)

urlpatterns = [path("api/", include(router.urls)), path("admin/", admin.site.urls)]
