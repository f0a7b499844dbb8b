from django.apps import AppConfig


class TestProjectConfig(AppConfig):
    name = "tests.app"
    label = "core"
    default_auto_field = "django.db.models.BigAutoField"
