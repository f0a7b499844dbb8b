from django.urls import path
from django.views.generic import View

urlpatterns = [path("bookshop/countries/<str:name>/", View.as_view(), name="bookshop-country")]
