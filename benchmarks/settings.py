"""The test project on a database of its own; if ``BENCH_PLAIN`` is set, without the library.

``BENCH_DB`` names the database, ``BENCH_ENGINE`` its kind, and ``BENCH_SETTINGS`` holds
settings of the library as JSON, a duration as ``{"seconds": 1}``.
"""

import json
import os
from datetime import timedelta
from typing import Any

from tests.settings import _SERVERS, INSTALLED_APPS, SECRET_KEY

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

AUTH_USER_MODEL = "core.User"
DATABASES = {
    "default": _SQLITE
    if os.environ.get("BENCH_ENGINE") == "sqlite"
    else {**_SERVERS[os.environ.get("BENCH_ENGINE", "postgresql")], "NAME": _NAME}
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DRF_WEBHOOKS: dict[str, object] = {
    name: _value(written)
    for name, written in json.loads(os.environ.get("BENCH_SETTINGS", "{}")).items()
}
MIDDLEWARE: list[str] = []
USE_TZ = True

# Its checks want middleware and templates.
INSTALLED_APPS = [each for each in INSTALLED_APPS if each != "django.contrib.admin"]
if os.environ.get("BENCH_PLAIN"):
    INSTALLED_APPS = [each for each in INSTALLED_APPS if each != "drf_webhooks"]
if os.environ.get("BENCH_COUNTER"):
    INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks.counting.Counting"]
