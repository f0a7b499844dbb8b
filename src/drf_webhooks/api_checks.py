"""System checks of the REST API: whose endpoints requests are about, and what verifies them."""

from collections.abc import Iterable, Iterator
from typing import Any

from django.conf import settings
from django.core import checks
from django.urls import URLResolver, get_resolver
from django.utils.module_loading import import_string

from drf_webhooks.conf import config, given, mistakes
from drf_webhooks.models import owner_model
from drf_webhooks.verification import Verifier

__all__ = ["register"]


def register() -> None:
    """Have Django run the checks."""
    checks.register(check_owner, checks.Tags.urls)
    checks.register(check_verifier, "drf_webhooks")


def check_owner(**_: Any) -> list[checks.CheckMessage]:
    """A function that tells the owner of a request: one that is none, and one that is missing."""
    if mistakes(given()):
        return []
    path = config().API_OWNER
    if path is not None:
        why = _why_no_function(path)
        if why:
            return [
                checks.Error(
                    f"DRF_WEBHOOKS['API_OWNER'] is {path!r}. {why}.",
                    hint="Name a function that takes a request and returns an owner or None.",
                    id="drf_webhooks.E303",
                )
            ]
        return []
    is_user = owner_model().lower() == settings.AUTH_USER_MODEL.lower()
    if is_user or not _has_api(get_resolver().url_patterns):
        return []
    return [
        checks.Error(
            f"The REST API is in the URLs, and {owner_model()} owns endpoints: whose a request "
            "is about cannot be told, and so every one is refused.",
            hint="Set DRF_WEBHOOKS['API_OWNER'] to a function of the request, as a dotted path.",
            id="drf_webhooks.E304",
        )
    ]


def check_verifier(**_: Any) -> list[checks.CheckMessage]:
    """What verifies endpoints, and cannot."""
    path = None if mistakes(given()) else config().ENDPOINT_VERIFIER
    if path is None:
        return []
    try:
        found = import_string(path)
    except ImportError as error:
        why = str(error)
    else:
        if isinstance(found, type) and issubclass(found, Verifier):
            return []
        why = "It is no subclass of drf_webhooks.verification.Verifier"
    return [
        checks.Error(
            f"DRF_WEBHOOKS['ENDPOINT_VERIFIER'] is {path!r}. {why}.",
            hint="Name such a class with its module; drf_webhooks.verification.Echo is one.",
            id="drf_webhooks.E305",
        )
    ]


def _why_no_function(path: str) -> str:
    try:
        found = import_string(path)
    except ImportError as error:
        return str(error)
    return "" if callable(found) else "It is no function"


def _has_api(urls: Iterable[Any]) -> bool:
    return any(getattr(each, "is_of_webhooks", False) for each in _views(urls))


def _views(urls: Iterable[Any]) -> Iterator[Any]:
    for each in urls:
        if isinstance(each, URLResolver):
            yield from _views(each.url_patterns)
        else:
            # The class of DRF's views and viewsets.
            yield getattr(each.callback, "cls", None)
