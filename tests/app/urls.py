"""The admin's URLs, and those that hyperlinked fields name."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [path("admin/", admin.site.urls), path("", include("tests.bookshop.urls"))]
