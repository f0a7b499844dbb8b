"""System checks of the webhooks in a project's OpenAPI document."""

import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks

from drf_webhooks.registry import registry

__all__ = ["register"]

HOOK = "drf_webhooks.contrib.spectacular.add_webhooks"
_PLACE = "SPECTACULAR_SETTINGS['POSTPROCESSING_HOOKS']"


def register() -> None:
    """Have Django run the checks."""
    checks.register(check_document, "drf_webhooks")


def check_document(**_: Any) -> list[checks.CheckMessage]:
    """A document that has no webhooks, or not those that are sent."""
    given: Any = getattr(settings, "SPECTACULAR_SETTINGS", {})
    return [*_check(given)] if isinstance(given, Mapping) else []


def _check(given: Mapping[str, Any]) -> Iterator[checks.CheckMessage]:
    hooks = list(given.get("POSTPROCESSING_HOOKS", ()))
    if HOOK not in hooks:
        if apps.is_installed("drf_spectacular") and [*registry]:
            yield checks.Warning(
                "drf_spectacular is installed, and the webhooks are not in its document.",
                hint=f"Add {HOOK!r} to {_PLACE}, as the last one; or silence this check.",
                id="drf_webhooks.W321",
            )
        return
    if importlib.util.find_spec("drf_spectacular") is None:
        yield checks.Warning(
            f"{_PLACE} has {HOOK!r}, and drf-spectacular is not installed.",
            hint="Install drf-webhooks[openapi].",
            id="drf_webhooks.W322",
        )
    version = str(given.get("OAS_VERSION", "3.0.3"))
    if version.startswith(("2.", "3.0")):
        yield checks.Warning(
            f"SPECTACULAR_SETTINGS['OAS_VERSION'] is {version!r}, which knows no webhooks. The "
            "document has none.",
            hint="Set it to '3.1.1'.",
            id="drf_webhooks.W320",
        )
    if hooks[-1] != HOOK:
        yield checks.Warning(
            f"{_PLACE} has {hooks[-1]!r} after {HOOK!r}. It alters what the document says of "
            "webhooks, and not what is sent.",
            hint=f"Make {HOOK!r} the last one.",
            id="drf_webhooks.W323",
        )
