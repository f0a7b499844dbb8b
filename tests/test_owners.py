"""What an owner can do, how much of it, and how an endpoint gets another owner."""

import io
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.conf import settings
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.test import override_settings
from django.utils import timezone
from rest_framework.exceptions import Throttled
from standardwebhooks import Webhook, WebhookVerificationError

from drf_webhooks import endpoints, replay, rotation
from drf_webhooks.checks import check_limits, check_owners
from drf_webhooks.delivery.claims import claim
from drf_webhooks.delivery.results import settle
from drf_webhooks.exceptions import SecretError
from drf_webhooks.models import Attempt, Delivery, Endpoint, EndpointHealth, Event, Notice
from drf_webhooks.owners import Owned
from drf_webhooks.testing import WebhookReceiver, deliver_now
from tests.app.models import Document
from tests.delivery.test_health_rows import result
from tests.factories import make_deposit, make_user
from tests.world import make_part

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


def make(owner: Any, **fields: Any) -> Endpoint:
    return Owned(owner).create_endpoint(
        **{"url": "https://a.example/", "event_types": ["*"], **fields}
    )


@override_settings(DRF_WEBHOOKS={"ENDPOINTS_PER_OWNER": 2})
def test_an_owner_may_have_so_many_endpoints() -> None:
    ada, bea = make_user(username="ada"), make_user(username="bea")
    make(ada), make(ada), make(bea)

    with pytest.raises(ValidationError, match="The owner has 2 endpoints already"):
        make(ada)
    with pytest.raises(ValidationError, match="The owner has 2 endpoints already"):
        endpoints.transfer(Endpoint.objects.get(owner=bea), to=ada)
    with pytest.raises(CommandError, match="The owner has 2 endpoints already"):
        call_command("webhooks_endpoint", "add", "https://a.example/", "--events", "*", owner="ada")
    with pytest.raises(ValidationError, match="ENDPOINTS_PER_OWNER"):
        Endpoint(owner=ada, url="https://a.example/", event_types=["*"]).full_clean()
    # One that is there may be changed; nobody's are not counted.
    Endpoint.objects.filter(owner=ada)[0].full_clean()
    for _ in range(3):
        endpoints.create(owner=None, url="https://a.example/", event_types=["*"])
    assert Endpoint.objects.owned_by(ada).count() == 2


def test_a_wrong_field_is_refused_and_nothing_is_stored() -> None:
    with pytest.raises(ValidationError, match="does not start with http"):
        make(make_user(), url="ftp://a.example/")

    assert not Endpoint.objects.exists()


def test_f77_tests_are_limited_for_each_owner() -> None:
    ada, bea = make_part("ada"), make_part("bea")
    for _ in range(5):
        ada.owned.send_test(ada.endpoint.pk)

    with pytest.raises(Throttled) as limited:
        ada.owned.send_test(ada.endpoint.pk)
    with pytest.raises(Throttled):
        ada.owned.enable(ada.endpoint.pk)

    assert 0 < limited.value.wait <= 60  # type: ignore[attr-defined]  # DRF sets it
    bea.owned.send_test(bea.endpoint.pk)
    assert Event.objects.filter(type="webhooks.endpoint.test").count() == 6


def test_f77_what_is_sent_again_is_limited_for_each_owner() -> None:
    ada, bea = make_part("ada"), make_part("bea")
    within = replay.span(timezone.now() - timedelta(days=1), using="default")
    for _ in range(3):
        assert ada.owned.send_again([ada.delivery.pk]) == 1
    list(ada.owned.replay_failed(within))
    list(ada.owned.replay_missing(ada.endpoint.pk, within))

    with pytest.raises(Throttled):
        ada.owned.send_again([ada.delivery.pk])
    with pytest.raises(Throttled):
        ada.owned.replay_failed(within)
    with pytest.raises(Throttled):
        ada.owned.replay_missing(ada.endpoint.pk, within)
    # Keys of others cost nothing, as they come to nothing.
    assert ada.owned.send_again([bea.delivery.pk]) == 0
    assert bea.owned.send_again([bea.delivery.pk]) == 1


@override_settings(DRF_WEBHOOKS={"TESTS_PER_MINUTE": None, "RESENDS_PER_MINUTE": None})
def test_limits_can_be_turned_off() -> None:
    ada = make_part("ada")

    for _ in range(9):
        ada.owned.send_test(ada.endpoint.pk)
        assert ada.owned.send_again([ada.delivery.pk]) == 1


def test_an_owner_disables_and_enables_an_endpoint() -> None:
    ada = make_part("ada")

    assert ada.owned.disable(ada.endpoint.pk, "Holidays.")
    assert ada.owned.endpoints.get().disabled_reason == "Holidays."
    assert ada.owned.enable(ada.endpoint.pk)
    assert not ada.owned.enable(ada.endpoint.pk)


@pytest.mark.security
def test_f75_a_transfer_keeps_no_secret_no_history_and_nothing_that_waits() -> None:
    with WebhookReceiver() as receiver:
        ada, bea = make_part("ada", headers={"x-api-key": "ada's"}), make_user(username="bea")
        endpoint, old = ada.endpoint, ada.endpoint.secret
        Endpoint.objects.filter(pk=endpoint.pk).update(url=receiver.url)
        EndpointHealth.objects.create(endpoint=endpoint, is_clean=False)
        # One that waits, and one for everybody that was delivered.
        Document.objects.create(title="Ada's", user=ada.owner)
        public = Event.objects.create(
            type="a.b", resource="a", object_key="1", body=b"{}", created_at=timezone.now()
        )
        Delivery.objects.create(
            event=public, endpoint=endpoint, state="delivered", created_at=timezone.now()
        )

        assert endpoints.transfer(endpoint, to=bea)

        assert deliver_now() == 0
        hers = Owned(bea)
        assert [each.pk for each in hers.endpoints] == [endpoint.pk]
        for rows in (hers.deliveries, hers.attempts, hers.notices, hers.events):
            assert not rows.exists()
        waited = Delivery.objects.get(
            event__type="core.document.created", attempt_count=0, reason__gt=""
        )
        assert (waited.state, waited.reason) == (
            "dead",
            "The endpoint was given to another owner.",
        )
        assert endpoint.owner == bea
        assert endpoint.secret != old
        assert endpoint.headers == {}
        assert not EndpointHealth.objects.exists()
        assert not Notice.objects.filter(due_at__isnull=False).exists()

        Document.objects.create(title="Bea's", user=bea)
        Document.objects.create(title="Ada's", user=ada.owner)
        deliver_now()
        (request,) = receiver.requests

    assert request.json["data"]["title"] == "Bea's"
    Webhook(endpoint.secret).verify(request.body, dict(request.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(request.body, dict(request.headers))
    assert Owned(bea).deliveries.count() == Owned(bea).attempts.count() == 1


@pytest.mark.security
def test_f75_a_transfer_leaves_no_old_secret_whether_it_can_be_read_or_not() -> None:
    ada, bea = make_part("ada"), make_user(username="bea")
    keys = [Fernet.generate_key().decode()]
    with override_settings(DRF_WEBHOOKS={**settings.DRF_WEBHOOKS, "ENCRYPTION_KEYS": keys}):
        rotation.rotate_secret(ada.endpoint, signature="v1a")
        assert len(Endpoint.objects.get(pk=ada.endpoint.pk).old_secrets) == 1

    endpoint = Endpoint.objects.get(pk=ada.endpoint.pk)
    with pytest.raises(SecretError):
        _ = endpoint.secret
    endpoints.transfer(endpoint, to=bea)
    found = Endpoint.objects.get(pk=endpoint.pk)
    assert (found.signature, list(found.old_secrets)) == ("v1", [])

    rotation.rotate_secret(found, signature="v1a")
    endpoints.transfer(found, to=ada.owner)
    found = Endpoint.objects.get(pk=endpoint.pk)
    assert (found.signature, list(found.old_secrets)) == ("v1a", [])


@pytest.mark.security
def test_f75_what_is_in_the_air_during_a_transfer_changes_nothing_when_it_lands() -> None:
    ada, bea = make_part("ada"), make_user(username="bea")
    Delivery.objects.update(state="waiting", due_at=timezone.now() - timedelta(hours=1))
    (leased,) = claim(
        10, using="default", length=timedelta(minutes=1), each=10, in_air={}, schedule=[]
    ).leased

    endpoints.transfer(ada.endpoint, to=bea)

    assert settle([result(leased)], using="default") == 1
    assert Delivery.objects.get().state == "dead"


def test_f75_a_transfer_to_the_owner_changes_nothing() -> None:
    ada = make_part("ada")

    assert not endpoints.transfer(ada.endpoint, to=ada.owner)

    assert Endpoint.objects.get().secret == ada.endpoint.secret


@pytest.mark.security
@pytest.mark.parametrize("way", ["save", "update_fields", "only", "refreshed", "update"])
def test_f75_no_other_way_changes_an_owner(way: str) -> None:
    ada, bea = make_part("ada"), make_user(username="bea")
    rows = Endpoint.objects.filter(pk=ada.endpoint.pk)
    endpoint = rows.only("url").get() if way == "only" else rows.get()
    if way == "refreshed":
        endpoint.refresh_from_db()
    endpoint.owner = bea

    with pytest.raises((ValidationError, ValueError), match="transfer"):
        if way == "update":
            rows.update(owner=bea)
        elif way == "update_fields":
            endpoint.save(update_fields=["owner"])
        else:
            endpoint.save()

    assert rows.get().owner == ada.owner


def test_an_endpoint_is_saved_as_before_if_its_owner_stays() -> None:
    ada = make_part("ada")
    endpoint = Endpoint.objects.only("url").get()
    endpoint.url = "https://b.example/"
    endpoint.save()
    ada.endpoint.owner = None
    ada.endpoint.save(update_fields=["description"])
    ada.endpoint.refresh_from_db()
    ada.endpoint.save()

    assert Endpoint.objects.get().owner == ada.owner


def test_the_command_transfers_and_prints_the_new_secret_once() -> None:
    ada = make_part("ada")
    make_user(username="bea")
    out, err = io.StringIO(), io.StringIO()
    key = str(ada.endpoint.pk)

    call_command("webhooks_endpoint", "transfer", key, owner="bea", stdout=out, stderr=err)

    endpoint = Endpoint.objects.get()
    assert endpoint.owner.username == "bea"
    assert out.getvalue() == f"secret  {endpoint.secret}\n"
    with pytest.raises(CommandError, match="is that owner's already"):
        call_command("webhooks_endpoint", "transfer", key, owner="bea", stdout=out, stderr=err)
    with override_settings(DRF_WEBHOOKS={"ENDPOINTS_PER_OWNER": 1}):
        make(make_user(username="cleo"))
        with pytest.raises(CommandError, match="The owner has 1 endpoints"):
            call_command("webhooks_endpoint", "transfer", key, owner="cleo")


@pytest.mark.security
def test_f73_the_status_of_an_owner_is_of_its_own() -> None:
    ada, bea = make_part("ada"), make_part("bea")
    bea.owned.send_again([bea.delivery.pk])
    now = timezone.now()
    Attempt.objects.update(started_at=now, status=500)

    mine, theirs, nobodys = ada.owned.status(), bea.owned.status(), Owned(None).status()

    assert (mine.backlog.waiting.value, mine.dead.value) == (0, 1)
    assert (theirs.backlog.waiting.value, theirs.dead.value) == (1, 0)
    assert [each.endpoint for each in mine.behind] == []
    assert [each.endpoint for each in theirs.behind] == [bea.endpoint.pk]
    assert mine.last_minute.failed_per_second == theirs.last_minute.failed_per_second == 1 / 60
    assert mine.endpoints == {"enabled": 1, "disabled": 0}
    assert nobodys.endpoints == {"enabled": 0, "disabled": 0}
    assert nobodys.dead.value == nobodys.last_hour.per_second == 0


def test_an_owner_does_not_see_what_is_for_everybody_among_its_own_events() -> None:
    ada = make_part("ada")
    make_deposit()

    assert [each.pk for each in ada.owned.events] == [ada.event.pk]
    # But it sees what its endpoint was sent of it.
    assert ada.owned.deliveries.filter(event__type="core.deposit.created").count() == 1


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("shop.webhooks.paying", "No module named 'shop'"),
        ("tests.test_owners.__doc__", "It is no function"),
        ("tests.test_owners.make", None),
        (None, None),
    ],
)
def test_a_function_that_cannot_be_asked_is_a_mistake(path: str | None, said: str | None) -> None:
    with override_settings(DRF_WEBHOOKS={"OWNER_MAY_RECEIVE": path}):
        found = check_owners()

    assert [each.id for each in found] == ([] if said is None else ["drf_webhooks.E401"])
    assert said is None or said in found[0].msg


@pytest.mark.parametrize(
    ("backend", "settings", "ids"),
    [
        ("django.core.cache.backends.locmem.LocMemCache", {}, ["drf_webhooks.W401"]),
        ("django.core.cache.backends.redis.RedisCache", {}, []),
        ("django.core.cache.backends.locmem.LocMemCache", {"NO": 1}, []),
        (
            "django.core.cache.backends.dummy.DummyCache",
            {"TESTS_PER_MINUTE": None, "RESENDS_PER_MINUTE": None},
            [],
        ),
    ],
)
def test_a_cache_of_one_process_counts_for_one_process(
    backend: str, settings: dict[str, Any], ids: list[str]
) -> None:
    with override_settings(CACHES={"default": {"BACKEND": backend}}, DRF_WEBHOOKS=settings):
        assert [each.id for each in check_limits()] == ids
