"""Settings of the example: a rental business with a REST API and webhooks.

``DRF_WEBHOOKS_TEST_DB`` chooses the database: sqlite (default), postgresql or mariadb.
"""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

BASE_DIR = Path(__file__).parent

_SERVERS: dict[str, dict[str, Any]] = {
    "postgresql": {
        "ENGINE": "django.db.backends.postgresql",
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
_KIND = os.environ.get("DRF_WEBHOOKS_TEST_DB", "sqlite")
_NAME = os.environ.get("EXAMPLE_DB_NAME", "drf_webhooks_example")

DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("EXAMPLE_DB_FILE", str(BASE_DIR / "example.sqlite3")),
        "OPTIONS": {
            "timeout": 30,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
    if _KIND == "sqlite"
    else {**_SERVERS[_KIND], "NAME": _NAME}
}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_webhooks",
    "example.users",
    "example.core",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "drf_webhooks.middleware.WebhooksMiddleware",
]
DRF_WEBHOOKS = {
    # The demo's receiver runs on this machine. A real project leaves this out.
    "ALLOWED_NETWORKS": ["127.0.0.0/8", "::1/128"],
    "POLL_INTERVAL": timedelta(seconds=0.1),
}
REST_FRAMEWORK = {
    # The example is open, save what belongs to somebody. A real API has its authentication here.
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.BasicAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Rentals",
    "VERSION": "1.0.0",
    # Webhooks need 3.1.
    "OAS_VERSION": "3.1.1",
    # What is read has components of its own, so that webhooks have the same.
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "drf_webhooks.contrib.spectacular.add_webhooks",
    ],
}

ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
AUTH_USER_MODEL = "users.User"
DEBUG = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "example.urls"
SECRET_KEY = "for the example only"  # noqa: S105  # protects nothing
STATIC_URL = "static/"
USE_TZ = True
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
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "loggers": {"drf_webhooks": {"handlers": ["stderr"], "level": "INFO"}},
}
