"""URLs of the admin, of the REST API and its log-in, and those that hyperlinked fields name."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("webhooks/", include("drf_webhooks.urls")),
    path("api-auth/", include("rest_framework.urls")),
    path("", include("tests.bookshop.urls")),
]
