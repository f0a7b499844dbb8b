"""The test project on PostgreSQL, with the library or, if ``BENCH_PLAIN`` is set, without it."""

import os

from tests.settings import _SERVERS, INSTALLED_APPS, SECRET_KEY

__all__ = ["DATABASES", "INSTALLED_APPS", "SECRET_KEY"]

AUTH_USER_MODEL = "core.User"
DATABASES = {
    "default": {**_SERVERS["postgresql"], "NAME": os.environ.get("BENCH_DB", "drf_webhooks_bench")}
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DRF_WEBHOOKS: dict[str, object] = {}
MIDDLEWARE: list[str] = []
USE_TZ = True

if os.environ.get("BENCH_PLAIN"):
    INSTALLED_APPS = [each for each in INSTALLED_APPS if each != "drf_webhooks"]
