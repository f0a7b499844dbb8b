"""URLs of the API as a generator of requests meets them, and the schema that it reads."""

from typing import Any

from django.http import JsonResponse
from django.urls import include, path
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from rest_framework.authentication import BasicAuthentication

from drf_webhooks.api.permissions import HasOwner
from drf_webhooks.api.routers import ROUTES, WebhooksRouter, register
from drf_webhooks.contrib.spectacular import views  # noqa: F401  # registers itself
from tests.app.models import User


class ByName(BasicAuthentication):
    """Whoever says so is; of a kind that drf-spectacular knows."""

    def authenticate(self, request: Any) -> Any:
        name = request.headers.get("x-user")
        user = User.objects.filter(username=name).first() if name else None
        return (user, None) if user else None


def _described(view: Any) -> Any:
    more = {"schema": AutoSchema(), "authentication_classes": [ByName]}
    if hasattr(view, "reveal_permission_classes"):
        # Anybody, so that a generator comes so far.
        more["reveal_permission_classes"] = [HasOwner]
    return type(view.__name__, (view,), more)


router = WebhooksRouter()
register(router, **{name.replace("-", "_"): _described(view) for name, view in ROUTES.values()})
urlpatterns = [path("", include(router.urls))]


def handler404(*_: object, **__: object) -> JsonResponse:
    """Answer of a path that there is not, as a project does that has nothing but an API.

    A key with a dot in it is part of such a path, as with each of DRF's routers.
    """
    return JsonResponse({"detail": "Not found."}, status=404)


def schema() -> dict[str, Any]:
    """Return the schema, without what it warns of."""
    made: dict[str, Any] = SchemaGenerator(patterns=urlpatterns).get_schema(public=True)
    return made


#: From an operation and its answer: where in the answer the next one's parameter is.
LINKS: dict[tuple[str, str], tuple[str, dict[str, str]]] = {
    ("/endpoints/", "201"): (
        "$response.body#/id",
        {
            "endpoints_retrieve": "id",
            "endpoints_update": "id",
            "endpoints_partial_update": "id",
            "endpoints_destroy": "id",
            "endpoints_disable_create": "id",
            "endpoints_enable_create": "id",
            "endpoints_rotate_create": "id",
            "endpoints_revoke_create": "id",
            "endpoints_reveal_create": "id",
            "endpoints_test_create": "id",
            "endpoints_verify_create": "id",
            "endpoints_messages_list": "endpoint",
        },
    ),
    ("/endpoints/{id}/test/", "202"): (
        "$response.body#/id",
        {
            "deliveries_retrieve": "id",
            "deliveries_resend_create": "id",
            "deliveries_cancel_create": "id",
            "deliveries_attempts_list": "delivery",
        },
    ),
    ("/recoveries/", "202"): (
        "$response.body#/id",
        {"recoveries_retrieve": "id", "recoveries_cancel_create": "id"},
    ),
}


def linked(made: dict[str, Any]) -> dict[str, Any]:
    """Add the links by which one request follows from the answer to another.

    And let an endpoint be made now and then: of texts at random hardly one is a URL.
    """
    fields = made["components"]["schemas"]["Endpoint"]["properties"]
    fields["url"]["enum"] = ["https://a.example/hook", "https://b.example:8443/?q=1"]
    fields["event_types"]["items"]["enum"] = ["*", "core.deposit.*", "core.document.created"]
    fields["format"]["enum"] = ["json", "xml"]
    fields["version"]["enum"] = [""]
    fields["secret"]["pattern"] = "^whsec_[A-Za-z0-9+/]{43}[A-Za-z0-9+/=]$"
    header = made["components"]["schemas"]["Header"]["properties"]
    header["name"]["enum"] = ["X-Api-Key", "X_Other"]
    header["value"]["pattern"] = "^[!-~]{1,20}$"
    for (where, code), (source, targets) in LINKS.items():
        made["paths"][where]["post"]["responses"][code]["links"] = {
            name: {"operationId": name, "parameters": {parameter: source}}
            for name, parameter in targets.items()
        }
    return made
