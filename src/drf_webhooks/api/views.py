"""What all views of the API have in common: an owner, and everything scoped to it."""

import zlib
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import router
from django.db.models import QuerySet
from django.http import Http404
from django.urls import NoReverseMatch
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.utils.functional import cached_property
from django.utils.module_loading import import_string
from rest_framework import status
from rest_framework.exceptions import APIException, ParseError, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.serializers import as_serializer_error
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from drf_webhooks.api.filters import Filters
from drf_webhooks.api.permissions import HasOwner
from drf_webhooks.conf import config
from drf_webhooks.exceptions import (
    RecoveryError,
    RotationError,
    SecretError,
    VerificationError,
)
from drf_webhooks.models import Endpoint
from drf_webhooks.owners import Owned
from drf_webhooks.scoping import owner_model

__all__ = ["ConflictError", "OwnedMixin", "OwnedViewSet", "owner_of", "unstored"]

#: What the URLs of this package have in their paths, beside what a project puts before them.
_OURS = frozenset({"pk", "type", "endpoint", "delivery"})


class ConflictError(APIException):
    """What is asked for does not go with the state that things are in."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "conflict"

    def __init__(self, detail: Any, *, code: str | None = None, wait: float | None = None) -> None:
        super().__init__(detail, code)
        if wait is not None:
            # DRF's handler makes Retry-After of it.
            self.wait = wait


class UnreadableSecretError(APIException):
    """A key is missing from the settings."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = "The endpoint's secrets cannot be read at the moment."
    default_code = "unreadable_secret"


def owner_of(request: Request) -> Any:
    """Return whose endpoints a request is about, or ``None``: as ``API_OWNER`` says."""
    path = config().API_OWNER
    if path is not None:
        return import_string(path)(request)
    if owner_model().lower() != settings.AUTH_USER_MODEL.lower():
        return None
    user = request.user
    return user if user is not None and user.is_authenticated else None


class OwnedMixin(APIView):
    """Scopes a view to an owner: it has no other queryset in its hands.

    The project's default authentication, permissions, throttles, renderers and parsers hold;
    beside the permissions, there must be an owner.
    """

    #: By this ``drf_webhooks.E304`` knows that a project's URLs have these views.
    is_of_webhooks = True

    #: The database; by default the one that the project's routers write endpoints to.
    using: str | None = None

    def get_owner(self) -> Any:
        """Return whose endpoints the request is about; ``None`` is refused."""
        return owner_of(self.request)

    @cached_property
    def owned(self) -> Owned:
        """All that the request may see and do."""
        # drf-spectacular asks views for their querysets without a request.
        is_real = not getattr(self, "swagger_fake_view", False)
        using = self.using or router.db_for_write(Endpoint)
        return Owned(self.get_owner() if is_real else None, using=using)

    def get_permissions(self) -> list[Any]:
        """Return those of the class, which are the project's by default, and ours."""
        return [*super().get_permissions(), HasOwner()]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Read the body too, so that what no parser can read is the client's mistake."""
        super().initial(request, *args, **kwargs)
        try:
            request.data  # noqa: B018  # reads it
        except (OSError, RecursionError, LookupError, TypeError, ValueError, zlib.error) as error:
            # Nested too deep, in an encoding that is none of text, or broken off.
            msg = "The body cannot be read."
            raise ParseError(msg) from error

    def handle_exception(self, exc: Exception) -> Response:
        """Answer what this package raises as DRF answers its own exceptions."""
        if isinstance(exc, ObjectDoesNotExist):
            exc = Http404()
        elif isinstance(exc, DjangoValidationError):
            exc = _refused(exc)
        elif isinstance(exc, RotationError):
            at = exc.possible_at
            wait = None if at is None else max((at - timezone.now()).total_seconds(), 1)
            exc = ConflictError(str(exc), wait=wait)
        elif isinstance(exc, RecoveryError | VerificationError):
            exc = ConflictError(str(exc))
        elif isinstance(exc, SecretError):
            exc = UnreadableSecretError()
        return super().handle_exception(exc)

    def get_owned_or_404(self, rows: QuerySet[Any], key: Any) -> Any:
        """Return a row by its key; one that is somebody else's is as one of nobody."""
        try:
            return rows.get(pk=key)
        except (DjangoValidationError, ValueError, OverflowError) as error:
            raise Http404 from error

    def location(self, name: str, **kwargs: Any) -> dict[str, str]:
        """Return the header that names another view, if the project has it."""
        match = getattr(self.request, "resolver_match", None)
        space = getattr(match, "namespace", "")
        before = {key: value for key, value in self.kwargs.items() if key not in _OURS}
        try:
            url = reverse(
                f"{space}:{name}" if space else name,
                kwargs={**before, **kwargs},
                request=self.request,
            )
        except NoReverseMatch:
            return {}
        return {"Location": url}


class OwnedViewSet(OwnedMixin, GenericViewSet[Any]):
    """A view of what is an owner's. Each route of the API is a subclass."""

    #: What lists are filtered by: a subclass of :class:`drf_webhooks.api.filters.Filters`.
    filters: type[Filters] | None = None


def unstored(response: Response) -> Response:
    """Let nobody on the way keep an answer that has a secret in it."""
    add_never_cache_headers(response)
    return response


def _refused(error: DjangoValidationError) -> APIException:
    if "too_many" in _codes(error):
        return ConflictError(" ".join(error.messages), code="too_many")
    return ValidationError(as_serializer_error(error))


def _codes(error: DjangoValidationError) -> Iterable[str | None]:
    if hasattr(error, "error_dict"):
        return [each.code for some in error.error_dict.values() for each in some]
    return [each.code for each in error.error_list]
