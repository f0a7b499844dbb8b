"""``contacts/KEY/`` for users, ``hooks/`` for the other side, ``state/`` for the demo."""

from django.urls import path

from example.duplex import views

urlpatterns = [
    path("contacts/<uuid:pk>/", views.ContactView.as_view()),
    path("hooks/", views.HookView.as_view()),
    path("state/", views.StateView.as_view()),
]
