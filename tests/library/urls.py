from django.urls import path
from django.views.generic import View

urlpatterns = [path("library/countries/<str:name>/", View.as_view(), name="library-country")]
