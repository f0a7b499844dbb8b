"""Versions and thin messages in the admin."""

from collections.abc import Iterator

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from drf_webhooks.models import Delivery, Endpoint, Event, EventBody
from drf_webhooks.resources import ModelSerializerWebhook
from drf_webhooks.session import disable_webhooks
from drf_webhooks.testing import isolated_registry
from tests.admin.conftest import form, make_attempt, url
from tests.app.models import Deposit
from tests.factories import make_deposit
from tests.test_versions import NEW, OLD, NewForm, OldForm

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _versioned() -> Iterator[None]:
    with isolated_registry():
        forms = {OLD: OldForm, NEW: NewForm}
        given = {"versions": forms, "depends_on": ["unit"]}
        type("DepositWebhook", (ModelSerializerWebhook,), given)
        yield


@pytest.fixture
def deposit() -> Deposit:
    with disable_webhooks():
        return make_deposit()


def subscribe(version: str = NEW, *, is_thin: bool = False) -> Endpoint:
    return Endpoint.objects.create(
        url="https://a.example/", event_types=["core.*"], version=version, is_thin=is_thin
    )


def test_a_new_endpoint_has_the_version_that_is_chosen(admin: Client) -> None:
    page = admin.get(url("endpoint_add")).text
    assert f"the one for new endpoints ({NEW})" in page

    for fields in ({"version": OLD, "is_thin": "on"}, {"version": ""}, {"version": "2020-01"}):
        admin.post(url("endpoint_add"), form(**fields))

    made = Endpoint.objects.order_by("pk").values_list("version", "is_thin")
    assert list(made) == [(OLD, True), (NEW, False)]


def test_the_version_of_an_endpoint_is_changed(admin: Client) -> None:
    endpoint = subscribe()
    where = url("endpoint_change", endpoint.pk)
    assert "none: the oldest of each resource" in admin.get(where).text

    admin.post(where, form(version=OLD, is_thin="on"))

    endpoint.refresh_from_db()
    assert (endpoint.version, endpoint.is_thin) == (OLD, True)


def test_a_version_that_is_no_more_stays_until_another_is_chosen(admin: Client) -> None:
    endpoint = subscribe()
    Endpoint.objects.update(version="2020-01")
    where = url("endpoint_change", endpoint.pk)
    assert "2020-01" in admin.get(where).text

    admin.post(where, form(version="2020-01", description="Changed"))

    endpoint.refresh_from_db()
    assert (endpoint.version, endpoint.description) == ("2020-01", "Changed")


def test_a_project_without_versions_is_not_asked_for_one(admin: Client) -> None:
    with isolated_registry():
        page = admin.get(url("endpoint_add")).text

        assert 'name="version"' not in page
        assert 'name="is_thin"' in page


def test_a_delivery_shows_the_message_that_it_brings(admin: Client, deposit: Deposit) -> None:
    new, old, thin = subscribe(), subscribe(OLD), subscribe(OLD, is_thin=True)
    deposit.save()

    def page(endpoint: Endpoint) -> str:
        delivery = Delivery.objects.get(endpoint=endpoint)
        attempt = make_attempt(delivery)
        shown = admin.get(url("delivery_change", delivery.pk)).text
        assert "&quot;data&quot;" in admin.get(url("attempt_change", attempt.pk)).text
        return shown

    assert "&quot;cents&quot;" in page(new)
    assert "variant" not in page(new)
    assert "&quot;tenant&quot;" in page(old)
    assert f"variant: {OLD}" in page(old)
    assert "&quot;thin&quot;: true" in page(thin)
    assert "&quot;tenant&quot;" not in page(thin)


def test_an_event_shows_each_of_its_messages(admin: Client, deposit: Deposit) -> None:
    subscribe()
    subscribe(OLD, is_thin=True)
    deposit.save()

    page = admin.get(url("event_change", Event.objects.get().pk)).text

    assert "&quot;cents&quot;" in page
    assert f"variant: {OLD}/thin" in page
    assert "&quot;thin&quot;: true" in page


def test_what_is_not_kept_any_more_is_said_to_be(admin: Client, deposit: Deposit) -> None:
    subscribe()
    subscribe(OLD, is_thin=True)
    deposit.save()
    Event.objects.update(body=None, retired_at=timezone.now())
    EventBody.objects.all().delete()

    for delivery in Delivery.objects.all():
        page = admin.get(url("delivery_change", delivery.pk)).text
        assert "Its message is not kept any more." in page


@pytest.mark.parametrize("kind", ["event", "delivery", "attempt"])
def test_a_list_reads_no_variant(kind: str, admin: Client, deposit: Deposit) -> None:
    subscribe()
    make_attempt(Delivery.objects.get(endpoint=_saved(deposit)))

    with CaptureQueriesContext(connection) as queries:
        assert admin.get(url(f"{kind}_changelist")).status_code == 200

    assert "eventbody" not in " ".join(each["sql"] for each in queries)


def _saved(deposit: Deposit) -> Endpoint:
    endpoint = subscribe(OLD, is_thin=True)
    deposit.save()
    return endpoint
