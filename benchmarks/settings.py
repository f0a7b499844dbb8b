"""The test project, with the library or, if ``BENCH_PLAIN`` is set, without it."""

import os

from tests.settings import INSTALLED_APPS, SECRET_KEY, _database

__all__ = ["DATABASES", "INSTALLED_APPS", "SECRET_KEY"]

ALLOWED_HOSTS = ["testserver"]
AUTH_USER_MODEL = "core.User"
DATABASES = {"default": _database(os.environ.get("BENCH_DB", "drf_webhooks_bench"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DRF_WEBHOOKS: dict[str, object] = {}
MIDDLEWARE = ["drf_webhooks.middleware.WebhooksMiddleware"]
ROOT_URLCONF = "benchmarks.project"
USE_TZ = True

if os.environ.get("BENCH_PLAIN"):
    INSTALLED_APPS = [each for each in INSTALLED_APPS if each != "drf_webhooks"]
    MIDDLEWARE = []
