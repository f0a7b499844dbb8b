"""The Celery app of ``benchmarks.engines``."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.engines_settings")

app = Celery("benchmarks.engines_app")
app.config_from_object("django.conf:settings", namespace="CELERY")
