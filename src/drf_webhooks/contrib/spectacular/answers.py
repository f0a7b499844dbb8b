"""Say of the REST API what drf-spectacular cannot see: each answer, its headers, a parameter."""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework import serializers
from rest_framework.views import exception_handler

from drf_webhooks.api.deliveries import DeliveryViewSet
from drf_webhooks.api.endpoints import EndpointViewSet
from drf_webhooks.api.event_types import EventTypeViewSet
from drf_webhooks.api.messages import MessageViewSet
from drf_webhooks.api.pagination import KeyPagination
from drf_webhooks.api.recoveries import RecoveryViewSet

__all__ = ["OwnedSchema", "WebhooksErrorSerializer"]

Codes = Mapping[type[Any], Mapping[str, tuple[int, ...]]]

#: What is answered if all is well, where that is not what DRF's own views answer.
_DONE: Codes = {
    EndpointViewSet: {"test": (202,), "verify": (202,)},
    DeliveryViewSet: {"resend": (202,)},
    RecoveryViewSet: {"create": (202,), "cancel": (204,)},
}
#: What else: for the state that things are in, for limits of ours, for keys that are missing.
_REFUSED: Codes = {
    EndpointViewSet: {
        "create": (409,),
        "enable": (409, 429),
        "rotate": (409, 503),
        "revoke": (503,),
        "reveal": (503,),
        "test": (409, 429),
        "verify": (409, 429),
    },
    DeliveryViewSet: {"resend": (409, 429), "cancel": (409,)},
    RecoveryViewSet: {"create": (409, 429), "cancel": (409,)},
}
#: Whose answers name another view.
_LOCATED: Codes = {
    EndpointViewSet: {"create": (201,), "test": (202,), "verify": (202,)},
    RecoveryViewSet: {"create": (202,)},
}
_MEANINGS = {
    400: "Something that was sent is wrong: by its name, or `detail` if nothing can be read.",
    401: "Nobody is logged in.",
    403: "It is not permitted.",
    404: "There is no such thing, or it is another owner's; or a cursor is none.",
    409: "It does not go with the state that things are in.",
    429: "There were too many requests.",
    503: "A secret cannot be read at the moment.",
}
#: By name a list of sentences, or what is wrong within it by its name or place.
_INVALID = {"type": "object", "additionalProperties": {}}


class WebhooksErrorSerializer(serializers.Serializer[Any]):
    """Why something cannot be done, as DRF says it."""

    detail = serializers.CharField(read_only=True)


class OwnedSchema(AutoSchema):
    """Adds to what the project's class of schemas says; ``@extend_schema`` goes before."""

    view: Any

    def get_response_serializers(self) -> Any:
        said: Any = super().get_response_serializers()
        answers = {str(code): each for code, each in self._answers(said).items()}
        refusals = {str(code): self._refusal(code) for code in sorted({*self._refusals()})}
        return answers | {code: each for code, each in refusals.items() if code not in answers}

    def get_auth(self) -> list[Any]:
        # Whatever the project permits, there has to be an owner.
        return [each for each in super().get_auth() if each]

    def get_override_parameters(self) -> list[Any]:
        return [*super().get_override_parameters(), *self._headers(), *self._version()]

    def _answers(self, said: Any) -> Mapping[Any, Any]:
        if isinstance(said, Mapping):
            return said
        usual = HTTPStatus.CREATED if self._is_create_operation() else HTTPStatus.OK
        if self.method == "DELETE":
            usual = HTTPStatus.NO_CONTENT
        (code,) = self._of(_DONE) or (usual.value,)
        return {code: None if code == HTTPStatus.NO_CONTENT else said}

    def _of(self, codes: Codes) -> tuple[int, ...]:
        """Return what is written of this action of such a view."""
        for kind, actions in codes.items():
            if isinstance(self.view, kind):
                return actions.get(self.view.action, ())
        return ()

    def _refusals(self) -> Iterator[int]:
        view = self.view
        yield 403
        if view.get_authenticate_header(view.request):
            yield 401
        is_feed = isinstance(view, MessageViewSet)
        is_paged = not view.detail and isinstance(view.paginator, KeyPagination)
        is_filtered = is_paged and view.action == "list" and view.filters is not None
        has_body = self.method in {"POST", "PUT", "PATCH"}
        if has_body or is_feed or is_filtered or isinstance(view, EventTypeViewSet):
            yield 400
        if view.detail or is_feed or (is_paged and view.action == "list"):
            yield 404
        if view.get_throttles():
            yield 429
        yield from self._of(_REFUSED)

    def _refusal(self, code: int) -> OpenApiResponse:
        form: Any = None
        # What a handler of the project's own answers, nobody knows but the project.
        if self.view.get_exception_handler() is exception_handler:
            form = _INVALID if code == HTTPStatus.BAD_REQUEST else WebhooksErrorSerializer
        return OpenApiResponse(form, description=_MEANINGS[code])

    def _headers(self) -> Iterator[OpenApiParameter]:
        named = self._of(_LOCATED)
        if named:
            yield _header("Location", OpenApiTypes.URI, named, "Where to look at it.")
        is_rotation = isinstance(self.view, EndpointViewSet) and self.view.action == "rotate"
        late = (409, 429) if is_rotation else (429,)
        yield _header("Retry-After", OpenApiTypes.INT, late, "In so many seconds it may succeed.")

    def _version(self) -> Iterator[OpenApiParameter]:
        if isinstance(self.view, EventTypeViewSet):
            yield OpenApiParameter(
                self.view.get_version_query_param(),
                OpenApiTypes.STR,
                description="What an endpoint gets that is pinned to this version of payloads.",
            )


def _header(name: str, kind: Any, codes: tuple[int, ...], text: str) -> OpenApiParameter:
    return OpenApiParameter(
        name, kind, OpenApiParameter.HEADER, description=text, response=[*codes]
    )
