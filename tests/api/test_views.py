"""Whose the API is, what a project's own settings change, and what no request can break."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.db import models
from django.test import override_settings
from django.urls import include
from django.urls import path as route
from djangorestframework_camel_case.parser import CamelCaseJSONParser
from djangorestframework_camel_case.render import CamelCaseJSONRenderer
from rest_framework import permissions, serializers, throttling, versioning
from rest_framework.authentication import BaseAuthentication
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient
from rest_framework.views import APIView

from drf_webhooks.api.deliveries import DeliveryViewSet
from drf_webhooks.api.endpoints import EndpointViewSet
from drf_webhooks.api.event_types import EventType, EventTypeViewSet
from drf_webhooks.api.filters import SerializerFilterBackend
from drf_webhooks.api.routers import ROUTES, register
from drf_webhooks.api.serializers import EndpointSerializer
from drf_webhooks.api_checks import check_owner, check_verifier
from drf_webhooks.models import Endpoint
from drf_webhooks.owners import Owned
from drf_webhooks.testing import isolated_registry
from tests.app.models import User
from tests.factories import make_user
from tests.world import make_part

pytestmark = pytest.mark.django_db(transaction=True)

GOOD: dict[str, Any] = {"url": "https://a.example/hook", "event_types": ["core.deposit.*"]}
THIS = "tests.api.test_views"


def owner_by_header(request: Any) -> Any:
    """The owner of a request, in a project where it is not the user."""
    return User.objects.filter(username=request.headers.get("x-company", "")).first()


def owner_by_path(request: Any) -> Any:
    return User.objects.filter(username=request.parser_context["kwargs"]["company"]).first()


class Nobody(permissions.BasePermission):
    def has_permission(self, request: Any, view: Any) -> bool:
        return bool(request.method == "OPTIONS")


class TwoAnHour(throttling.UserRateThrottle):
    rate = "2/hour"


class Token(BaseAuthentication):
    def authenticate(self, request: Any) -> Any:
        name = request.headers.get("authorization")
        return (User.objects.get(username=name), None) if name else None

    def authenticate_header(self, request: Any) -> str:
        return "Token"


class Few(EndpointSerializer):
    """A project's own form of an endpoint, with what limits it."""

    class Meta(EndpointSerializer.Meta):
        fields = ["id", "url", "event_types", "rate", "secret", "signature"]

    def validate_rate(self, value: float | None) -> float | None:
        if value is not None and value > 10:
            msg = "At most 10."
            raise serializers.ValidationError(msg)
        return value


class MyEndpoints(EndpointViewSet):
    serializer_class = Few
    authentication_classes = [Token]
    throttle_classes = [TwoAnHour]


class MyTypes(EventTypeViewSet):
    def get_event_types(self) -> Iterator[EventType]:
        return (each for each in super().get_event_types() if each.resource == "core.deposit")


class Refusing(DeliveryViewSet):
    permission_classes = [Nobody]


class ModelPermissions(DeliveryViewSet):
    permission_classes = [permissions.DjangoModelPermissions]


class TypesByModelPermissions(EventTypeViewSet):
    permission_classes = [permissions.DjangoModelPermissions]


class Unfiltered(DeliveryViewSet):
    filters = None


class Versioned(EndpointViewSet):
    versioning_class = versioning.NamespaceVersioning


class ByPath(EndpointViewSet):
    versioning_class = versioning.URLPathVersioning


class Plain(APIView):
    """Somebody else's view."""


mine = SimpleRouter()
register(mine, "hooks/", endpoint=MyEndpoints, event_type=MyTypes, delivery=Refusing)
mine.register("model-permissions", ModelPermissions, basename="mp")
mine.register("unfiltered", Unfiltered, basename="unfiltered")
mine.register("types", TypesByModelPermissions, basename="tmp")
versioned = SimpleRouter()
register(versioned, endpoint=Versioned)
by_path = SimpleRouter()
register(by_path, endpoint=ByPath)

urlpatterns = [
    route("mine/", include(mine.urls)),
    route("v1/", include((versioned.urls, "v1"))),
    route("api/<str:version>/", include(by_path.urls)),
    route("<str:company>/webhooks/", include("drf_webhooks.urls")),
    route("plain/", Plain.as_view()),
    route("admin/", admin.site.urls),
]


def make(client: APIClient, url: str = "/webhooks/endpoints/") -> Any:
    return client.post(url, GOOD, format="json")


@override_settings(DRF_WEBHOOKS={"API_OWNER": f"{THIS}.owner_by_header"})
def test_the_owner_is_who_the_project_says(client: APIClient, db: None) -> None:
    bea = make_user(username="bea")

    made = client.post("/webhooks/endpoints/", GOOD, format="json", headers={"x-company": "bea"})

    assert made.status_code == 201
    assert Endpoint.objects.get().owner == bea
    assert client.get("/webhooks/endpoints/").status_code == 403
    mine = client.get("/webhooks/endpoints/", headers={"x-company": "bea"}).json()
    assert len(mine["results"]) == 1


@override_settings(ROOT_URLCONF=THIS, DRF_WEBHOOKS={"API_OWNER": f"{THIS}.owner_by_path"})
def test_the_owner_may_be_in_the_path(client: APIClient, db: None) -> None:
    make_user(username="bea")

    made = make(client, "/bea/webhooks/endpoints/")

    assert made.status_code == 201
    assert made["Location"] == f"http://testserver/bea/webhooks/endpoints/{made.json()['id']}/"
    test = client.post(f"{made['Location']}test/")
    assert client.get(test["Location"]).status_code == 200
    assert client.get("/cleo/webhooks/endpoints/").status_code == 403


@override_settings(DRF_WEBHOOKS={"OWNER_MODEL": "core.Tenant"})
def test_without_a_setting_nobody_is_the_owner_where_users_are_not(client: APIClient) -> None:
    assert client.get("/webhooks/endpoints/").status_code == 403


def ids(found: list[Any]) -> list[str]:
    return [each.id for each in found]


def test_what_cannot_tell_the_owner_is_named_at_start_up() -> None:
    assert check_owner() == []
    with override_settings(DRF_WEBHOOKS={"OWNER_MODEL": "core.Tenant"}):
        assert ids(check_owner()) == ["drf_webhooks.E304"]
        # Without the URLs there is nothing to tell.
        with override_settings(ROOT_URLCONF="tests.bookshop.urls"):
            assert check_owner() == []
        # On a router of the project's own, too.
        with override_settings(ROOT_URLCONF=THIS):
            assert ids(check_owner()) == ["drf_webhooks.E304"]
    for path in ("nowhere.at_all", "drf_webhooks.conf.NAME"):
        with override_settings(DRF_WEBHOOKS={"API_OWNER": path}):
            [found] = check_owner()
            assert found.id == "drf_webhooks.E303"
            assert path in found.msg
    with override_settings(DRF_WEBHOOKS={"API_OWNER": f"{THIS}.owner_by_header"}):
        assert check_owner() == []
    with override_settings(DRF_WEBHOOKS={"NO_SUCH": 1}):
        assert check_owner() == check_verifier() == []


def test_what_cannot_verify_is_named_at_start_up() -> None:
    assert check_verifier() == []
    for path in ("nowhere.at_all", f"{THIS}.Plain", f"{THIS}.owner_by_header"):
        with override_settings(DRF_WEBHOOKS={"ENDPOINT_VERIFIER": path}):
            assert ids(check_verifier()) == ["drf_webhooks.E305"]
    with override_settings(DRF_WEBHOOKS={"ENDPOINT_VERIFIER": "drf_webhooks.verification.Echo"}):
        assert check_verifier() == []


@pytest.mark.urls(THIS)
class TestAProjectsOwn:
    """Views that a project has subclassed and registered on its own router."""

    def test_serializers_authentication_and_throttles_hold(self, ada: User) -> None:
        client = APIClient()
        url = "/mine/hooks/endpoints/"
        assert client.get(url).status_code == 401
        client.credentials(HTTP_AUTHORIZATION="ada")

        made = client.post(url, {**GOOD, "rate": 5}, format="json")

        assert set(made.json()) == {"id", "url", "event_types", "rate", "secret", "signature"}
        assert made["Location"].endswith(f"{url}{made.json()['id']}/")
        assert Endpoint.objects.get().rate == 5
        wrong = client.post(url, {**GOOD, "rate": 50}, format="json")
        assert wrong.json() == {"rate": ["At most 10."]}
        assert client.get(url).status_code == 429

    def test_a_view_may_show_fewer_event_types(self, client: APIClient) -> None:
        found = client.get("/mine/hooks/event-types/").json()

        assert {each["resource"] for each in found} == {"core.deposit"}
        hidden = client.get("/mine/hooks/event-types/core.document.created/")
        assert hidden.status_code == 404

    def test_permissions_of_its_own_hold_beside_ours(self, client: APIClient) -> None:
        assert client.get("/mine/hooks/deliveries/").status_code == 403
        assert client.get("/mine/hooks/attempts/").status_code == 200

    def test_permissions_of_models_are_asked_of_a_model(self, client: APIClient, ada: User) -> None:
        assert client.get("/mine/model-permissions/").status_code == 200
        assert client.get("/mine/types/").status_code == 200
        assert APIClient().get("/mine/types/").status_code in {401, 403}
        part = make_part("bea")
        client.force_authenticate(part.owner)
        url = f"/mine/model-permissions/{part.delivery.pk}/resend/"
        assert client.post(url).status_code == 403

    def test_a_view_may_have_no_filters(self, client: APIClient) -> None:
        assert client.get("/mine/unfiltered/?state=lost").status_code == 200
        assert SerializerFilterBackend().get_schema_operation_parameters(Unfiltered()) == []

    @pytest.mark.parametrize("front", ["/v1/", "/api/v2/"])
    def test_versions_stay_in_locations(self, client: APIClient, front: str) -> None:
        made = make(client, f"{front}endpoints/")

        assert made["Location"] == f"http://testserver{front}endpoints/{made.json()['id']}/"
        test = client.post(f"{made['Location']}test/")
        assert test["Location"].startswith(f"http://testserver{front}deliveries/")

    def test_a_view_that_is_not_there_is_not_registered(self) -> None:
        with pytest.raises(TypeError, match=r"There is no view endpoints\. Known: event_type, "):
            register(SimpleRouter(), endpoints=EndpointViewSet)

    def test_where_a_project_has_no_deliveries_no_location_names_one(
        self, client: APIClient, ada: User
    ) -> None:
        router = SimpleRouter()
        router.register("only", EndpointViewSet, basename="endpoint")
        module = type("Urls", (), {"urlpatterns": router.urls})
        with override_settings(ROOT_URLCONF=module):
            made = make(client, "/only/")
            test = client.post(f"/only/{made.json()['id']}/test/")
        assert test.status_code == 202
        assert "Location" not in test


@pytest.mark.parametrize("view", [each for _, each in ROUTES.values()])
@pytest.mark.parametrize(
    "name",
    [
        "authentication_classes",
        "content_negotiation_class",
        "parser_classes",
        "permission_classes",
        "renderer_classes",
        "schema",
        "throttle_classes",
        "versioning_class",
    ],
)
def test_what_the_settings_of_a_project_decide_no_view_of_ours_does(view: Any, name: str) -> None:
    decides = next(each for each in view.__mro__ if name in vars(each))

    assert decides.__module__ == "rest_framework.views"


class Camel(EndpointViewSet):
    """With what a project has that speaks camel case."""

    parser_classes = [CamelCaseJSONParser]
    renderer_classes = [CamelCaseJSONRenderer]


class CamelTypes(EventTypeViewSet):
    renderer_classes = Camel.renderer_classes


camel = SimpleRouter()
register(camel, endpoint=Camel, event_type=CamelTypes)


def test_camel_case_changes_names_of_fields_and_nothing_else(client: APIClient) -> None:
    module = type("Urls", (), {"urlpatterns": camel.urls})
    header = {"name": "X_Api-Key", "value": "a_b"}
    data = {"url": "https://a.example/", "eventTypes": ["core.deposit.*"], "headers": [header]}
    with override_settings(ROOT_URLCONF=module):
        made = client.post("/endpoints/", data, format="json")

        assert made.status_code == 201, made.content
        assert made.json()["eventTypes"] == ["core.deposit.*"]
        assert made.json()["headers"] == [{"name": "X_Api-Key", "value": "********"}]
        assert Endpoint.objects.get().headers == {"X_Api-Key": "a_b"}
        url = f"/endpoints/{made.json()['id']}/rotate/"
        rotated = client.post(url, {"overlapSeconds": 0}, format="json").json()
        assert rotated["oldSecretsExpireAt"] == []
        wrong = client.post("/endpoints/", {**data, "eventTypes": ["x"]}, format="json").json()
        assert list(wrong) == ["eventTypes"]


def test_the_browsable_api_shows_each_page(client: APIClient, ada: User) -> None:
    part = make_part("bea")
    client.force_authenticate(part.owner)
    client.raise_request_exception = True
    endpoint, delivery = part.endpoint.pk, part.delivery.pk

    for page in (
        "",
        "event-types/",
        "event-types/core.deposit.created/",
        "endpoints/",
        f"endpoints/{endpoint}/",
        f"endpoints/{endpoint}/messages/",
        f"endpoints/{endpoint}/rotate/",
        "deliveries/",
        f"deliveries/{delivery}/",
        f"deliveries/{delivery}/attempts/",
        "deliveries/status/",
        "attempts/",
        f"attempts/{part.attempt.pk}/",
        "recoveries/",
    ):
        answer = client.get(f"/webhooks/{page}", headers={"accept": "text/html"})
        assert answer.status_code in {200, 405}, page
        assert answer["content-type"].startswith("text/html")
        assert part.endpoint.secret not in answer.content.decode()


def test_options_describe_what_may_be_sent(client: APIClient, db: None) -> None:
    described = client.options("/webhooks/endpoints/").json()
    fields = described["actions"]["POST"]

    assert fields["url"]["required"] is True
    assert fields["event_types"]["child"]["type"] == "string"
    assert fields["state"]["read_only"] is True
    assert "secret" in fields
    pk = make(client).json()["id"]
    one = client.options(f"/webhooks/endpoints/{pk}/").json()
    assert one["actions"]["PUT"]["url"]["max_length"] == 2048
    actions = client.options("/webhooks/recoveries/").json()["actions"]["POST"]
    assert [each["value"] for each in actions["kind"]["choices"]] == ["failed", "missing"]


def test_the_root_names_what_there_is(client: APIClient, db: None) -> None:
    assert client.get("/webhooks/").json() == {
        each: f"http://testserver/webhooks/{each}/"
        for each in ("event-types", "endpoints", "deliveries", "attempts", "recoveries")
    }


def test_event_types_are_those_that_are_declared_and_ours(client: APIClient, db: None) -> None:
    found = {each["type"]: each for each in client.get("/webhooks/event-types/").json()}

    assert "core.deposit.updated" in found
    assert found["webhooks.endpoint.verify"]["resource"] == "webhooks.endpoint"
    with isolated_registry():
        left = client.get("/webhooks/event-types/").json()
        assert {each["resource"] for each in left} == {"webhooks.endpoint"}
    shown = client.get("/webhooks/event-types/core.deposit.updated/").json()
    told = {"type", "resource", "description", "versions", "version", "schema", "example"}
    assert set(shown) == told
    assert client.get("/webhooks/event-types/core.deposit.lost/").status_code == 404


BODIES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "application/json"),
    "no JSON": (b"{", "application/json"),
    "a list": (b"[]", "application/json"),
    "a number": (b"5", "application/json"),
    "null": (b"null", "application/json"),
    "nested deep": (b"[" * 200_000, "application/json"),
    "nested deep in a field": (b'{"url": ' + b"[" * 5000 + b"]" * 5000 + b"}", "application/json"),
    "a number without end": (b'{"overlap_seconds": ' + b"9" * 5000 + b"}", "application/json"),
    "an infinite number": (b'{"overlap_seconds": 1e999}', "application/json"),
    "no number": (b'{"overlap_seconds": NaN}', "application/json"),
    "half a character": (b'{"url": "\\ud800", "reason": "\\ud800"}', "application/json"),
    "a zero byte": (b'{"url": "\\u0000", "reason": "\\u0000"}', "application/json"),
    "a zero byte in a name": (b'{"a\\u0000": 1}', "application/json"),
    "no UTF-8": (b'{"url": "\xff"}', "application/json"),
    "an unknown charset": (b"{}", "application/json; charset=klingon"),
    "a charset of bytes": (b"{}", "application/json; charset=hex"),
    "a compressing charset": (b"{}", "application/json; charset=zlib"),
    "another compressing charset": (b"{}", "application/json; charset=bz2"),
    "a turning charset": (b"{}", "application/json; charset=rot13"),
    "a broken form": (b"--x", "multipart/form-data; boundary=x"),
    "a form without a boundary": (b"a", "multipart/form-data"),
    "an odd boundary": (b"a", "multipart/form-data; boundary=\xff"),
    "a form": (b"url=%00&event_types=%ff&headers[0]name=a", "application/x-www-form-urlencoded"),
    "another type": (b"<a/>", "application/xml"),
    "no type": (b"{}", ""),
    "an odd type": (b"{}", "a/b/c; ;;="),
}


@pytest.mark.parametrize("body", BODIES)
def test_no_body_is_an_error_of_ours(client: APIClient, body: str) -> None:
    part = make_part("bea")
    client.force_authenticate(part.owner)
    data, kind = BODIES[body]
    endpoint, delivery = f"endpoints/{part.endpoint.pk}", f"deliveries/{part.delivery.pk}"
    actions = ("disable", "enable", "rotate", "revoke", "reveal", "test", "verify")

    paths = [
        ("post", "endpoints/"),
        ("put", f"{endpoint}/"),
        ("patch", f"{endpoint}/"),
        *(("post", f"{endpoint}/{each}/") for each in actions),
        ("post", f"{delivery}/resend/"),
        ("post", f"{delivery}/cancel/"),
        ("post", "recoveries/"),
        ("get", "deliveries/"),
    ]
    for method, path in paths:
        answer = client.generic(method.upper(), f"/webhooks/{path}", data, content_type=kind)
        assert answer.status_code < 500, (method, path, answer.content)


@pytest.mark.parametrize(
    "key",
    [
        "x",
        "%00",
        "0",
        "-1",
        "9" * 30,
        "9" * 5000,
        "1e5",
        "%ff",
        "%F0%9F%92%A9",
        "1%20",
        "../..",
        "\u0663",
        "f50797ff-3b1b-4a0a-8966-f461daea5e14",
        "%7B%7D",
        "None",
    ],
)
@pytest.mark.parametrize(
    "path",
    [
        "endpoints/{}/",
        "endpoints/{}/messages/",
        "deliveries/{}/",
        "deliveries/{}/attempts/",
        "attempts/{}/",
        "recoveries/{}/",
        "event-types/{}/",
    ],
)
def test_a_key_that_is_none_is_404(client: APIClient, db: None, path: str, key: str) -> None:
    assert client.get(f"/webhooks/{path.format(key)}").status_code == 404


def test_an_error_has_the_form_of_dr_f(client: APIClient, db: None) -> None:
    missing = client.post("/webhooks/endpoints/", {}, format="json").json()

    assert missing == {
        "url": ["This field is required."],
        "event_types": ["This field is required."],
    }
    unknown = client.get(f"/webhooks/endpoints/{uuid.uuid4()}/")
    assert list(unknown.json()) == ["detail"]
    assert client.delete("/webhooks/endpoints/").status_code == 405


def test_an_owner_cannot_act_on_an_instance_of_anothers(db: None) -> None:
    mine, theirs = make_part("ada"), make_part("bea")
    for act in (
        lambda: mine.owned.rotate_secret(theirs.endpoint),
        lambda: mine.owned.revoke_old_secrets(theirs.endpoint),
        lambda: mine.owned.reveal_secret(theirs.endpoint, mine.owner),
        lambda: mine.owned.change_endpoint(theirs.endpoint.pk, url="https://evil.example/"),
        lambda: mine.owned.delete_endpoint(theirs.endpoint.pk),
        lambda: mine.owned.recover(
            "failed", since=theirs.event.created_at, endpoint=theirs.endpoint.pk
        ),
        lambda: mine.owned.cancel(theirs.delivery.pk, "evil"),
        lambda: mine.owned.verify(theirs.endpoint.pk),
    ):
        with pytest.raises(models.ObjectDoesNotExist):
            act()


def test_another_database_may_be_chosen(ada: User) -> None:
    view = EndpointViewSet(using="other")
    view.request = type("R", (), {"user": ada})()

    assert view.owned.using == "other"
    assert Owned(ada).using == "default"
