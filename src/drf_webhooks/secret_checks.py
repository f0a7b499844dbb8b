"""System checks of what is secret: whether it is encrypted, and can be decrypted."""

from collections.abc import Sequence
from typing import Any

from django.core import checks
from django.db import DatabaseError, router, transaction
from django.db.models import QuerySet

from drf_webhooks import resealing
from drf_webhooks.conf import config, given, mistakes
from drf_webhooks.models import Endpoint

__all__ = ["register"]


def register() -> None:
    """Have Django run the checks."""
    checks.register(check_secrets, checks.Tags.database)
    checks.register(check_encryption, checks.Tags.security, deploy=True)


def check_encryption(**_: Any) -> list[checks.CheckMessage]:
    """Secrets that are stored as they are, in production."""
    if mistakes(given()) or config().ENCRYPTION_KEYS:
        return []
    return [
        checks.Warning(
            "DRF_WEBHOOKS['ENCRYPTION_KEYS'] is empty. Who reads the database, or a backup of "
            "it, can sign as you, and knows the custom headers of endpoints.",
            hint=(
                "Set it to a list of one key, made by Fernet.generate_key() of the package "
                "cryptography, and run webhooks_rotate_keys."
            ),
            id="drf_webhooks.W301",
        )
    ]


def check_secrets(*, databases: Sequence[str] | None = None, **_: Any) -> list[checks.CheckMessage]:
    """Secrets that cannot be decrypted, and those in clear though there are keys."""
    found: list[checks.CheckMessage] = []
    if mistakes(given()):
        return found
    for alias in [each for each in databases or () if router.allow_migrate_model(each, Endpoint)]:
        lost = _count(resealing.unreadable(alias))
        if lost:
            found.append(
                checks.Error(
                    f"None of DRF_WEBHOOKS['ENCRYPTION_KEYS'] decrypts the secrets of {lost} "
                    f"endpoints in the database {alias!r}. Nothing can be sent to them.",
                    hint="Add the key that they were encrypted with to its end.",
                    id="drf_webhooks.E301",
                )
            )
        clear = _count(resealing.in_plain_text(alias)) if config().ENCRYPTION_KEYS else 0
        if clear:
            found.append(
                checks.Warning(
                    f"The secrets of {clear} endpoints in the database {alias!r} are not "
                    "encrypted.",
                    hint="Run webhooks_rotate_keys.",
                    id="drf_webhooks.W302",
                )
            )
    return found


def _count(endpoints: QuerySet[Endpoint]) -> int:
    try:
        with transaction.atomic(using=endpoints.db):
            return endpoints.count()
    except DatabaseError:
        # Before the first migration, or the one that brings the column.
        return 0
