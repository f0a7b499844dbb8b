"""The API's own schema comes out well without this library knowing drf-spectacular."""

from typing import Any

import pytest
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiResponse, extend_schema
from drf_spectacular.validation import validate_schema
from rest_framework.authentication import BasicAuthentication
from rest_framework.permissions import AllowAny
from rest_framework.test import APIClient
from rest_framework.throttling import UserRateThrottle

from drf_webhooks.api.pagination import KeyPagination
from drf_webhooks.api.recoveries import RecoveryViewSet
from drf_webhooks.api.routers import ROUTES, WebhooksRouter, register
from drf_webhooks.contrib.spectacular.views import OwnedViewExtension

pytestmark = pytest.mark.django_db


def described(**fields: Any) -> dict[str, Any]:
    """Return the schema of the API of a project whose views have these attributes."""
    views = {
        name.replace("-", "_"): type(view.__name__, (view,), {"schema": AutoSchema(), **fields})
        for name, view in ROUTES.values()
    }
    router = WebhooksRouter()
    register(router, **views)
    GENERATOR_STATS.reset()
    with GENERATOR_STATS.silence():
        generated: dict[str, Any] = SchemaGenerator(patterns=router.urls).get_schema(public=True)
    assert not GENERATOR_STATS, (GENERATOR_STATS._warn_cache, GENERATOR_STATS._error_cache)
    return generated


def answers(schema: dict[str, Any], path: str, method: str = "post") -> dict[str, Any]:
    found: dict[str, Any] = schema["paths"][path][method]["responses"]
    return found


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return described()


def test_it_is_valid_and_without_warnings(schema: dict[str, Any]) -> None:
    validate_schema(schema)


def test_it_has_each_route_with_its_parameters(schema: dict[str, Any]) -> None:
    paths = schema["paths"]

    listed = {each["name"] for each in paths["/deliveries/"]["get"]["parameters"]}
    assert listed >= {"cursor", "limit", "endpoint", "state", "event_type", "created_after"}
    feed = paths["/endpoints/{endpoint}/messages/"]["get"]
    fed = {each["name"]: each for each in feed["parameters"]}
    assert set(fed) == {"after", "endpoint", "limit"}
    assert fed["endpoint"]["schema"] == {"type": "string", "format": "uuid"}


@pytest.mark.parametrize(
    ("version", "written"),
    [("3.0.3", {"type": "string", "nullable": True}), ("3.1.1", {"type": ["string", "null"]})],
)
def test_a_page_may_have_no_next_one_in_the_words_of_either_version(
    settings: Any, version: str, written: dict[str, Any]
) -> None:
    settings.SPECTACULAR_SETTINGS = {"OAS_VERSION": version}

    properties = KeyPagination().get_paginated_response_schema({"type": "array"})["properties"]

    for name in ("next", "previous"):
        said = properties[name]
        assert {key: said[key] for key in ("type", "nullable") if key in said} == written


@pytest.mark.parametrize(
    ("path", "method", "codes"),
    [
        ("/event-types/", "get", "200 400 403"),
        ("/event-types/{type}/", "get", "200 400 403 404"),
        ("/endpoints/", "get", "200 400 403 404"),
        ("/endpoints/", "post", "201 400 403 409"),
        ("/endpoints/{id}/", "get", "200 403 404"),
        ("/endpoints/{id}/", "patch", "200 400 403 404"),
        ("/endpoints/{id}/", "delete", "204 403 404"),
        ("/endpoints/{id}/enable/", "post", "200 400 403 404 409 429"),
        ("/endpoints/{id}/rotate/", "post", "200 400 403 404 409 503"),
        ("/endpoints/{id}/reveal/", "post", "200 400 403 404 503"),
        ("/endpoints/{id}/test/", "post", "202 400 403 404 409 429"),
        ("/endpoints/{endpoint}/messages/", "get", "200 400 403 404"),
        ("/deliveries/{id}/resend/", "post", "202 400 403 404 409 429"),
        ("/deliveries/status/", "get", "200 403"),
        ("/deliveries/{delivery}/attempts/", "get", "200 400 403 404"),
        ("/recoveries/", "post", "202 400 403 409 429"),
        ("/recoveries/{id}/cancel/", "post", "204 400 403 404 409"),
    ],
)
def test_each_operation_has_the_answers_that_it_gives(
    schema: dict[str, Any], path: str, method: str, codes: str
) -> None:
    found = answers(schema, path, method)

    assert set(found) == set(codes.split())
    for code, answer in found.items():
        assert ("content" in answer) is (code != "204")


def test_an_error_is_as_dr_f_says_it(client: APIClient, schema: dict[str, Any]) -> None:
    made = client.post("/webhooks/endpoints/", {"url": "x"}, format="json")
    late = answers(schema, "/endpoints/{id}/rotate/")["409"]
    (error,) = late["content"].values()

    assert error["schema"] == {"$ref": "#/components/schemas/WebhooksError"}
    component = schema["components"]["schemas"]["WebhooksError"]
    missing = client.get("/webhooks/deliveries/7/")
    assert (missing.status_code, set(missing.json())) == (404, set(component["required"]))
    (wrong,) = answers(schema, "/endpoints/")["400"]["content"].values()
    assert (made.status_code, wrong["schema"]["type"]) == (400, "object")
    assert set(made.json()) == {"url", "event_types"}


def test_headers_of_answers_are_described(schema: dict[str, Any]) -> None:
    made = answers(schema, "/endpoints/")

    assert set(made["201"]["headers"]) == {"Location"}
    assert "headers" not in made["400"]
    for path, code in (("/endpoints/{id}/rotate/", "409"), ("/recoveries/", "429")):
        assert set(answers(schema, path)[code]["headers"]) == {"Retry-After"}
    assert "headers" not in answers(schema, "/recoveries/")["409"]


def test_authentication_and_throttles_of_the_project_are_asked() -> None:
    found = described(
        authentication_classes=[BasicAuthentication], throttle_classes=[UserRateThrottle]
    )

    assert {"401", "403", "429"} <= set(answers(found, "/deliveries/status/", "get"))


def test_nobody_gets_in_without_logging_in_whatever_the_project_permits() -> None:
    found = described(authentication_classes=[BasicAuthentication], permission_classes=[AllowAny])

    operations = [each for path in found["paths"].values() for each in path.values()]
    assert len(operations) > 25
    assert all(each["security"] == [{"basicAuth": []}] for each in operations)


def test_what_a_projects_own_handler_answers_is_left_open() -> None:
    found = described(get_exception_handler=lambda self: lambda error, context: None)

    refusals = answers(found, "/endpoints/")
    assert set(refusals) == {"201", "400", "403", "409"}
    assert [code for code, each in refusals.items() if "content" in each] == ["201"]
    assert "WebhooksError" not in found["components"]["schemas"]


def test_what_a_project_says_itself_goes_before() -> None:
    extended = extend_schema(responses={204: None, 409: OpenApiResponse(None, description="Over.")})
    view = extended(type("Mine", (RecoveryViewSet,), {"schema": AutoSchema()}))
    router = WebhooksRouter()
    router.register("recoveries", view, basename="recovery")
    found: dict[str, Any] = SchemaGenerator(patterns=router.urls).get_schema(public=True)

    own = answers(found, "/recoveries/{id}/cancel/")
    assert own["409"] == {"description": "Over."}


def test_a_schema_of_another_kind_is_left_alone() -> None:
    class Mine(RecoveryViewSet):
        schema = None

    assert OwnedViewExtension(Mine.as_view({"get": "list"})).view_replacement() is Mine


def test_the_version_of_payloads_is_a_parameter(schema: dict[str, Any]) -> None:
    for path in ("/event-types/", "/event-types/{type}/"):
        parameters = {each["name"]: each for each in schema["paths"][path]["get"]["parameters"]}
        assert (parameters["version"]["in"], "required" in parameters["version"]) == (
            "query",
            False,
        )
