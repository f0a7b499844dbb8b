from django.apps import AppConfig


class DuplexConfig(AppConfig):
    name = "example.duplex"
