"""Django settings of the test suite; ``DRF_WEBHOOKS_TEST_DB`` chooses the database."""

import os
import zlib
from pathlib import Path
from typing import Any

import django

_SERVERS: dict[str, dict[str, Any]] = {
    "postgresql": {
        "ENGINE": "tests.postgresql",
        "HOST": os.environ.get("POSTGRES_HOST", "127.0.0.1"),
        "PORT": os.environ.get("POSTGRES_PORT", "5432"),
        "USER": os.environ.get("POSTGRES_USER", "postgres"),
        "PASSWORD": os.environ.get("POSTGRES_PASSWORD", ""),
    },
    "mariadb": {
        "ENGINE": "django.db.backends.mysql",
        "HOST": os.environ.get("MARIADB_HOST", "127.0.0.1"),
        "PORT": os.environ.get("MARIADB_PORT", "3306"),
        "USER": os.environ.get("MARIADB_USER", "root"),
        "PASSWORD": os.environ.get("MARIADB_PASSWORD", ""),
        "OPTIONS": {"charset": "utf8mb4"},
    },
}


def _database(name: str) -> dict[str, Any]:
    kind = os.environ.get("DRF_WEBHOOKS_TEST_DB", "sqlite")
    if kind == "sqlite":
        folder = Path(os.environ.get("TMPDIR", "/tmp"))  # noqa: S108  # databases of a test run
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(folder / f"{name}.sqlite3"),
            # A file, not memory: tests start other processes and threads.
            "TEST": {"NAME": str(folder / f"test_{name}_{os.getppid()}.sqlite3")},
            "OPTIONS": {
                "timeout": 30,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            },
        }
    # Two checkouts may be tested at once on the same server.
    checkout = zlib.crc32(str(Path(__file__).parent).encode())
    return {**_SERVERS[kind], "NAME": name, "TEST": {"NAME": f"test_{name}_{checkout:08x}"}}


DATABASES = {"default": _database("drf_webhooks"), "other": _database("drf_webhooks_other")}
AUTH_USER_MODEL = "core.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    *(["django_tasks"] if django.VERSION < (6,) else []),
    "django_tasks_db",
    "drf_webhooks",
    "tests.contrib.apps.TriggersOnDemand",
    "tests.app",
    "tests.bookshop",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "drf_webhooks.middleware.WebhooksMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
ROOT_URLCONF = "tests.app.urls"
SECRET_KEY = "for tests only"  # noqa: S105  # protects nothing
STATIC_URL = "static/"
USE_TZ = True
DRF_WEBHOOKS: dict[str, Any] = {"ALLOWED_NETWORKS": ["127.0.0.0/8", "::1/128"]}
