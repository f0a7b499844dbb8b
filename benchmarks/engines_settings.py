"""The settings of ``benchmarks.engines``: those of the others, with Celery as the engine."""

import os

from benchmarks.settings import (
    AUTH_USER_MODEL,
    DATABASES,
    DEFAULT_AUTO_FIELD,
    SECRET_KEY,
    USE_TZ,
)
from benchmarks.settings import INSTALLED_APPS as _INSTALLED_APPS

__all__ = [
    "AUTH_USER_MODEL",
    "CELERY_BROKER_URL",
    "DATABASES",
    "DEFAULT_AUTO_FIELD",
    "INSTALLED_APPS",
    "SECRET_KEY",
    "USE_TZ",
]

# The admin would have to be set up.
INSTALLED_APPS = [each for each in _INSTALLED_APPS if each != "django.contrib.admin"]
CELERY_BROKER_URL = os.environ.get("BENCH_BROKER", "redis://127.0.0.1:6379/7")
CELERY_TASK_DEFAULT_QUEUE = os.environ.get("BENCH_DB", "bench")
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
DRF_WEBHOOKS = {
    "ALLOWED_NETWORKS": ["127.0.0.0/8"],
    "ENGINE": "drf_webhooks.contrib.celery.Engine",
}
