"""Attacks: an owner that knows every key of another one's comes to nothing, on each route."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.test import override_settings
from django.urls import URLPattern
from django.utils import timezone
from rest_framework.test import APIClient

from drf_webhooks import replay
from drf_webhooks.models import Delivery, Endpoint, Event, Feed, Recovery, Verification
from drf_webhooks.recoveries import go_on
from drf_webhooks.urls import urlpatterns
from tests.app.models import User
from tests.world import Part, everything_of, make_part

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.security]

ECHO = {"ENDPOINT_VERIFIER": "drf_webhooks.verification.Echo"}


#: By the name of a route and the method: the path, and what is sent. Every route with a key in
#: it is here; a test says so.
ATTACKS: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {
    ("endpoint-detail", "get"): ("endpoints/{endpoint}/", {}),
    ("endpoint-detail", "put"): (
        "endpoints/{endpoint}/",
        {"url": "https://evil.example/", "event_types": ["*"]},
    ),
    ("endpoint-detail", "patch"): ("endpoints/{endpoint}/", {"url": "https://evil.example/"}),
    ("endpoint-detail", "delete"): ("endpoints/{endpoint}/", {}),
    ("endpoint-disable", "post"): ("endpoints/{endpoint}/disable/", {"reason": "evil"}),
    ("endpoint-enable", "post"): ("endpoints/{endpoint}/enable/", {"waiting": "skip"}),
    ("endpoint-rotate", "post"): ("endpoints/{endpoint}/rotate/", {"overlap_seconds": 0}),
    ("endpoint-revoke", "post"): ("endpoints/{endpoint}/revoke/", {}),
    ("endpoint-reveal", "post"): ("endpoints/{endpoint}/reveal/", {}),
    ("endpoint-test", "post"): ("endpoints/{endpoint}/test/", {}),
    ("endpoint-verify", "post"): ("endpoints/{endpoint}/verify/", {}),
    ("message-list", "get"): ("endpoints/{endpoint}/messages/", {}),
    ("delivery-detail", "get"): ("deliveries/{delivery}/", {}),
    ("delivery-resend", "post"): ("deliveries/{delivery}/resend/", {"anew": True}),
    ("delivery-cancel", "post"): ("deliveries/{waiting}/cancel/", {}),
    ("delivery-attempt-list", "get"): ("deliveries/{delivery}/attempts/", {}),
    ("delivery-attempt-detail", "get"): ("deliveries/{delivery}/attempts/{attempt}/", {}),
    ("attempt-detail", "get"): ("attempts/{attempt}/", {}),
    ("recovery-detail", "get"): ("recoveries/{recovery}/", {}),
    ("recovery-cancel", "post"): ("recoveries/{recovery}/cancel/", {}),
}
#: Routes that have no key of anybody's in them.
LISTS = {
    "api-root": "",
    "event-type-list": "event-types/",
    "event-type-detail": "event-types/core.document.created/",
    "endpoint-list": "endpoints/",
    "delivery-list": "deliveries/",
    "delivery-status": "deliveries/status/",
    "attempt-list": "attempts/",
    "recovery-list": "recoveries/",
}


def keys(part: Part) -> dict[str, Any]:
    now = timezone.now()
    recovery = None
    if part.owner is not None:
        recovery = Recovery.objects.create(
            owner=part.owner,
            endpoint=part.endpoint,
            kind="failed",
            since=now - timedelta(days=1),
            until=now,
            due_at=now,
            created_at=now,
        )
    event = Event.objects.get(pk=part.event.pk)
    event.pk = None
    event._state.adding = True
    event.id = Event._meta.pk.get_default()
    event.save()
    waiting = Delivery.objects.create(
        event=event, endpoint=part.endpoint, due_at=now, created_at=now
    )
    Verification.objects.create(
        endpoint=part.endpoint,
        state="failed",
        delivery=part.delivery.pk,
        asked_at=now,
        settled_at=now,
    )
    return {
        "endpoint": part.endpoint.pk,
        "delivery": part.delivery.pk,
        "waiting": waiting.pk,
        "attempt": part.attempt.pk,
        "recovery": None if recovery is None else recovery.pk,
    }


def rows() -> list[Any]:
    return [
        list(model._base_manager.order_by("pk").values())
        for model in (Recovery, Feed, Verification)
    ]


@pytest.fixture
def mallory(db: None) -> Part:
    """Somebody who may do everything, but with own things only."""
    part = make_part("mallory")
    permission, _ = Permission.objects.get_or_create(
        codename="reveal_secret",
        content_type=ContentType.objects.get_for_model(Endpoint),
        defaults={"name": "Can see the secret of an endpoint"},
    )
    assert part.owner is not None
    part.owner.user_permissions.add(permission)
    return part


def as_(user: User | None) -> APIClient:
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(user)
    return client


def ask(client: APIClient, name: tuple[str, str], of: dict[str, Any]) -> Any:
    path, data = ATTACKS[name]
    url = f"/webhooks/{path.format(**of)}"
    more = {} if name[1] == "get" else {"data": data, "format": "json"}
    return getattr(client, name[1])(url, **more)


@pytest.mark.parametrize("name", ATTACKS, ids=" ".join)
@pytest.mark.parametrize("victim", ["bea", None], ids=["another's", "nobody's"])
def test_f73_f76_every_key_of_another_is_404_on_each_route(
    mallory: Part, name: tuple[str, str], victim: str | None
) -> None:
    theirs = make_part(victim)
    of = keys(theirs)
    before, others, count = everything_of(theirs), rows(), Event.objects.count()

    with override_settings(DRF_WEBHOOKS=ECHO):
        answer = ask(as_(mallory.owner), name, of)

    assert answer.status_code == 404, answer.content
    assert everything_of(theirs) == before
    assert (rows(), Event.objects.count()) == (others, count)
    for secret in (theirs.endpoint.url, theirs.endpoint.secret):
        assert secret not in answer.content.decode()


@pytest.mark.parametrize("name", ATTACKS, ids=" ".join)
def test_f76_each_attack_is_of_use_for_ones_own(mallory: Part, name: tuple[str, str]) -> None:
    of = keys(mallory)
    if name[0] in {"endpoint-enable", "endpoint-test"}:
        Verification.objects.all().delete()

    with override_settings(DRF_WEBHOOKS=ECHO):
        answer = ask(as_(mallory.owner), name, of)

    # Nothing can be said anew of an object that there is not.
    assert answer.status_code < 300 or name[0] == "delivery-resend", answer.content
    assert answer.status_code != 404


@pytest.mark.parametrize("path", LISTS.values(), ids=LISTS)
def test_f73_lists_show_nothing_of_others(mallory: Part, path: str) -> None:
    theirs = make_part("bea")
    of = keys(theirs)

    answer = as_(mallory.owner).get(f"/webhooks/{path}")

    assert answer.status_code == 200
    text = answer.content.decode()
    assert theirs.endpoint.url not in text
    assert not any(f"{of[each]}" in text for each in ("endpoint", "recovery"))
    assert theirs.event.message_id not in text
    assert '"bea"' not in text


@pytest.mark.parametrize("filters", ["endpoint={endpoint}", "endpoint={endpoint}&state=dead"])
def test_f73_a_filter_by_a_key_of_another_finds_nothing(mallory: Part, filters: str) -> None:
    of = keys(make_part("bea"))
    client = as_(mallory.owner)

    for path in ("deliveries", "attempts", "recoveries"):
        asked = filters.format(**of) if path == "deliveries" else f"endpoint={of['endpoint']}"
        assert client.get(f"/webhooks/{path}/?{asked}").json()["results"] == []


@pytest.mark.parametrize("kind", ["failed", "missing"])
def test_f73_nothing_is_recovered_for_an_endpoint_of_another(mallory: Part, kind: str) -> None:
    theirs = make_part("bea")
    data = {"kind": kind, "endpoint": str(theirs.endpoint.pk), "since": "2026-01-01T00:00:00Z"}

    answer = as_(mallory.owner).post("/webhooks/recoveries/", data, format="json")

    assert answer.status_code == 400
    assert list(answer.json()) == ["endpoint"]
    assert not Recovery.objects.exists()


@pytest.mark.parametrize("field", ["owner", "owner_id", "id", "state"])
def test_f73_f76_no_field_makes_an_endpoint_somebody_elses(mallory: Part, field: str) -> None:
    theirs = make_part("bea")
    evil = {"owner": theirs.owner.pk, "owner_id": theirs.owner.pk}
    evil |= {"id": str(theirs.endpoint.pk), "state": "disabled"}
    data = {"url": "https://a.example/", "event_types": ["*"], field: evil[field]}

    answer = as_(mallory.owner).post("/webhooks/endpoints/", data, format="json")

    assert answer.status_code == 201
    made = Endpoint.objects.get(pk=answer.json()["id"])
    assert (made.owner, made.state) == (mallory.owner, "enabled")
    assert made.pk != theirs.endpoint.pk


@pytest.mark.parametrize("name", ATTACKS, ids=" ".join)
def test_f73_anonymous_requests_are_refused_on_each_route(name: tuple[str, str]) -> None:
    theirs = make_part("bea")
    of = keys(theirs)
    before = everything_of(theirs), rows()

    answer = ask(as_(None), name, of)

    assert answer.status_code in {401, 403}
    assert (everything_of(theirs), rows()) == before


@pytest.mark.parametrize("path", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("method", ["get", "options", "post"])
def test_f73_anonymous_requests_are_refused_on_each_list(db: None, path: str, method: str) -> None:
    answer = getattr(as_(None), method)(f"/webhooks/{path}")

    assert answer.status_code in {401, 403}


def test_each_route_is_attacked() -> None:
    names = {name for name, _ in ATTACKS} | set(LISTS)

    assert {each.name for each in urlpatterns if isinstance(each, URLPattern)} == names
    for each in urlpatterns:
        methods = set(getattr(each.callback, "actions", None) or {"get": ""}) - {"head"}
        if f"{each.name}" not in LISTS:
            assert methods == {method for name, method in ATTACKS if name == each.name}


def test_f75_what_was_sent_before_a_transfer_is_not_shown(mallory: Part) -> None:
    theirs = make_part("bea")
    Endpoint.objects.filter(pk=theirs.endpoint.pk).give(
        mallory.owner,
        secret=theirs.endpoint._meta.get_field("secret").stored(theirs.endpoint),
        at=timezone.now(),
    )
    client = as_(mallory.owner)

    path = f"/webhooks/endpoints/{theirs.endpoint.pk}"
    assert client.get(f"{path}/").status_code == 200
    assert client.get(f"{path}/messages/").json() == {"after": 0, "has_more": False, "results": []}
    assert client.get(f"/webhooks/deliveries/{theirs.delivery.pk}/").status_code == 404
    assert client.get(f"/webhooks/attempts/{theirs.attempt.pk}/").status_code == 404


def test_a_recovery_of_what_failed_is_of_ones_own(mallory: Part) -> None:
    theirs = make_part("bea")
    within = replay.span(timezone.now() - timedelta(days=1), using="default")

    mallory.owned.recover("failed", since=within.since)
    while go_on("default"):
        pass

    mallory.delivery.refresh_from_db()
    theirs.delivery.refresh_from_db()
    assert (mallory.delivery.state, theirs.delivery.state) == ("waiting", "dead")
