"""What serializers are given where nobody has made a request."""

from typing import Any
from urllib.parse import urlsplit

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.settings import api_settings

from drf_webhooks.resources import ModelSerializerWebhook

__all__ = ["context_of"]


def context_of(
    resource: type[ModelSerializerWebhook],
    owner: Any = None,
    *,
    version: str = "",
    base_url: str | None = None,
) -> dict[str, Any]:
    """Return the context of a resource's serializer.

    Args:
        resource: A resource.
        owner: Who is told.
        version: One that the resource declares.
        base_url: What absolute URLs begin with; ``None`` for relative ones.

    """
    context: dict[str, Any] = {"request": _request(base_url, version)}
    if version:
        context["version"] = version
    return {**context, **resource.get_serializer_context(owner)}


class _BaseRequest(HttpRequest):
    """A request that nobody made, for the URLs that serializers build from one."""

    def __init__(self, base_url: str | None) -> None:
        super().__init__()
        self._is_relative = base_url is None
        self._parts = urlsplit(base_url or "")
        self.method = "GET"

    def get_host(self) -> str:
        # The project's own setting: not to be checked against ALLOWED_HOSTS.
        return self._parts.netloc

    def _get_scheme(self) -> str:
        return self._parts.scheme

    def build_absolute_uri(self, location: str | None = None) -> str:
        return location or "/" if self._is_relative else super().build_absolute_uri(location)


_requests: dict[tuple[str | None, str], Request] = {}


def _request(base_url: str | None, version: str = "") -> Request | None:
    """Return a request that makes absolute URLs, or ``None`` for relative ones.

    With a version it is one of that version, as DRF's versioning makes them.
    """
    if base_url is None and not version:
        return None
    place = base_url, version
    if place not in _requests:
        made = Request(_BaseRequest(base_url))
        if version:
            made.version, made.versioning_scheme = version, _scheme(version)
        _requests[place] = made
    return _requests[place]


def _scheme(version: str) -> Any:
    """Return DRF's versioning, which writes links, if the REST API has that version too."""
    kind: Any = api_settings.DEFAULT_VERSIONING_CLASS
    scheme = None if kind is None else kind()
    return scheme if scheme is not None and scheme.is_allowed_version(version) else None
