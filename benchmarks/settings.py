"""The test project on a database of its own; if ``BENCH_PLAIN`` is set, without the library.

``BENCH_DB`` names the database, ``BENCH_ENGINE`` or ``DRF_WEBHOOKS_TEST_DB`` its kind, and
``BENCH_SETTINGS`` holds settings of the library as JSON, a duration as ``{"seconds": 1}``.
"""

import json
import os
from datetime import timedelta
from typing import Any

from tests.settings import _SERVERS, INSTALLED_APPS, SECRET_KEY, _database

__all__ = ["DATABASES", "INSTALLED_APPS", "SECRET_KEY"]


def _value(written: Any) -> Any:
    if isinstance(written, list):
        return [_value(each) for each in written]
    return timedelta(**written) if isinstance(written, dict) else written


_NAME = os.environ.get("BENCH_DB", "drf_webhooks_bench")
_SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": _NAME,
    "OPTIONS": {
        "timeout": 30,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    },
}


def _chosen(engine: str | None) -> dict[str, Any]:
    if engine is None:
        return _database(_NAME)
    return _SQLITE if engine == "sqlite" else {**_SERVERS[engine], "NAME": _NAME}


ALLOWED_HOSTS = ["testserver"]
AUTH_USER_MODEL = "core.User"
DATABASES = {"default": _chosen(os.environ.get("BENCH_ENGINE"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DRF_WEBHOOKS: dict[str, object] = {
    # Where the receivers are.
    "ALLOWED_NETWORKS": ["127.0.0.0/8"],
    "ENDPOINTS_PER_OWNER": None,
    **{
        name: _value(written)
        for name, written in json.loads(os.environ.get("BENCH_SETTINGS", "{}")).items()
    },
}
MIDDLEWARE = ["drf_webhooks.middleware.WebhooksMiddleware"]
ROOT_URLCONF = "benchmarks.project"
USE_TZ = True

# Its checks want middleware and templates.
INSTALLED_APPS = [each for each in INSTALLED_APPS if each != "django.contrib.admin"]
if os.environ.get("BENCH_PLAIN"):
    INSTALLED_APPS = [each for each in INSTALLED_APPS if each != "drf_webhooks"]
    MIDDLEWARE = []
if os.environ.get("BENCH_COUNTER"):
    INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks.counting.Counting"]
