"""Endpoints take only what can be sent to; identifiers sort by age."""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from django import forms
from django.core.exceptions import ValidationError
from django.core.serializers import deserialize, serialize
from django.db import connection
from django.forms import modelform_factory

from drf_webhooks import secret_keys
from drf_webhooks.ids import uuid7
from drf_webhooks.models import Attempt, BaseObject, Delivery, Endpoint, EndpointHealth, Event

URL = "https://receiver.example/"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://a.example/", "does not start with http"),
        ("a.example", "does not start with http"),
        ("https:///path", "names no host"),
        ("https://user:word@a.example/", "user name or password"),
        ("https://a.example:99999/", "is no number from 1 to 65535"),
        ("https://a.example:0/", "port 0"),
        ("http://127.0.0.1\\@a.example/", "backslash"),
        ("https://a.example/a b", "space"),
        ("https://[::1%25eth0]/", "a percent sign in its host"),
        ("https://[1::2::3]/", "no IPv6 address"),
        ("https://ä..example/", "is no name"),
        ("https://[v1.fe:80]/", "no IPv6 address"),
        ("https://-a.example/", "no name and no address"),
    ],
)
@pytest.mark.django_db
def test_a_url_that_cannot_be_sent_to_is_refused(url: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Endpoint.objects.create(url=url, event_types=["*"])

    assert not Endpoint.objects.exists()


@pytest.mark.parametrize(
    "url", ["https://ünïcode.example/", "https://[2606:4700::1]/", "https://a.example:1024"]
)
@pytest.mark.django_db
def test_a_url_that_can_be_sent_to_is_taken(url: str) -> None:
    assert Endpoint.objects.create(url=url, event_types=["*"]).url == url


@pytest.mark.parametrize("secret", ["", "abc", "whsec_", "whsec_c2hvcnQ=", "whsec_ä", "x" * 40])
@pytest.mark.django_db
def test_a_secret_that_is_none_is_refused(secret: str) -> None:
    with pytest.raises(ValidationError, match="24 to 64"):
        Endpoint.objects.create(url=URL, event_types=["*"], secret=secret)


def test_a_made_secret_can_be_read() -> None:
    made = secret_keys.generate()

    assert len(secret_keys.decode(made)) == 32
    assert made != secret_keys.generate()


@pytest.mark.django_db
def test_event_types_are_a_list_in_every_form() -> None:
    endpoint = Endpoint.objects.create(
        url=URL, event_types=["core.deposit.*", "core.tenant.created"]
    )
    endpoint.refresh_from_db()
    assert endpoint.event_types == ["core.deposit.*", "core.tenant.created"]

    (again,) = deserialize("json", serialize("json", [endpoint]))
    copy: Any = again.object
    assert copy.event_types == endpoint.event_types

    loose: Any = "core.deposit.*, a.b\nc"
    endpoint.event_types = loose
    endpoint.save()
    endpoint.refresh_from_db()
    assert endpoint.event_types == ["core.deposit.*", "a.b", "c"]
    assert Endpoint(url=URL).event_types == []
    Endpoint.objects.create(url=URL)


@pytest.mark.django_db
def test_event_types_that_are_none_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"'core\.\*\.x' is no event type"):
        Endpoint.objects.create(url=URL, event_types=["core.*.x"])
    with pytest.raises(ValidationError, match="5 is no event type"):
        Endpoint.objects.create(url=URL, event_types=[5])
    with pytest.raises(ValidationError, match="is no event type"):
        Endpoint(url=URL, event_types=["a..b"]).full_clean()


def test_event_types_in_a_form() -> None:
    form_class: Any = modelform_factory(Endpoint, fields=["url", "event_types"])
    shown = form_class(instance=Endpoint(url=URL, event_types=["a.*", "b"]))
    assert "a.*\nb" in str(shown["event_types"])
    assert isinstance(shown.fields["event_types"].widget, forms.Textarea)

    sent = form_class({"url": URL, "event_types": "a.*\r\nb"})
    assert sent.is_valid()
    assert sent.instance.event_types == ["a.*", "b"]


def test_identifiers_grow_and_are_of_version_7() -> None:
    made = [uuid7() for _ in range(1000)]

    assert made == sorted(set(made))
    assert {(each.version, each.variant) for each in made} == {(7, uuid.RFC_4122)}


def test_rows_say_what_they_are() -> None:
    event = Event(type="a.created", object_key="5", body=b'{"data": {"id": 5}}')

    assert event.payload == event.data == {"id": 5}
    assert Event(type="a.created").data is None
    assert str(event) == "a.created 5"
    assert str(BaseObject(resource="a", object_key="5")) == "a 5"
    assert str(Delivery(pk=3, state="dead")) == "3 dead"
    assert str(Attempt(number=2, status=200)) == "2: 200"
    assert str(Attempt(number=2, error="dns_error")) == "2: dns_error"
    assert str(Endpoint(url=URL)) == URL
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert str(EndpointHealth(is_clean=True)) == "well"
    paused = EndpointHealth(is_clean=False, paused_until=at)
    assert str(paused) == "paused until 2026-01-02 03:04:05 UTC"


@pytest.mark.django_db
def test_due_deliveries_have_an_index_on_every_database() -> None:
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, Delivery._meta.db_table)

    assert found["drf_webhooks_delivery_lane"]["columns"] == ["lane", "due_at"]
    assert found["drf_webhooks_delivery_turn"]["columns"] == ["lane", "endpoint_id", "due_at"]
    assert found["drf_webhooks_delivery_order"]["columns"] == [
        "endpoint_id",
        "order_key",
        "sequence",
    ]
