"""Formats: the same bytes for the same message, signed as they are sent."""

import importlib.util
import json
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from drf_webhooks.conf import Config
from drf_webhooks.delivery.formats import (
    CloudEvents,
    Format,
    Json,
    Message,
    Xml,
    format_named,
    names,
    problem,
)
from drf_webhooks.exceptions import FormatError
from drf_webhooks.json_text import encode
from drf_webhooks.messages import message
from drf_webhooks.models import Attempt, Delivery, Endpoint
from drf_webhooks.receiver_server import Received
from drf_webhooks.testing import WebhookReceiver, deliver_now
from tests.factories import make_deposit, make_tenant

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOME = {"ALLOWED_NETWORKS": ["127.0.0.0/8"]}
HERE = "tests.delivery.test_formats"

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def is_signed(secret: str, request: Received) -> bool:
    """Ask the oracle for the signature: its verifier would want the body to be JSON."""
    sent_at = datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), tz=UTC)
    body = request.body.decode()
    expected = Webhook(secret).sign(request.headers["webhook-id"], sent_at, body)
    return bool(request.headers["webhook-signature"] == expected)


class Lines(Format):
    """A project's own."""

    content_type = "text/plain; charset=utf-8"

    def write(self, message: Message) -> bytes:
        content = message.content
        return f"{content['type']}\n{content['data']['id']}\n".encode()


class Broken(Format):
    content_type = "text/plain"


def make_message(data: Any, *, key: str = "5", source: str = "/shop") -> Message:
    body = message("core.deposit.updated", data=encode(data), sequence=7, at=NOON)
    return Message("evt_1", key, body, source)


@given(json_values)
def test_json_is_what_is_stored(data: Any) -> None:
    """C47."""
    written = make_message(data)

    assert Json().write(written) is written.body


@given(json_values)
def test_cloud_events_have_the_stored_data_in_its_order(data: Any) -> None:
    """C47: byte by byte, so key order, unicode and numbers are what they were."""
    written = make_message(data)

    event = CloudEvents().write(written)

    assert event == CloudEvents().write(written)
    assert event.endswith(b',"data":' + encode(data) + b"}")


def test_a_cloud_event_says_its_version_and_that_it_is_thin() -> None:
    content = {**make_message({"id": 5}).content, "version": "2026-01", "thin": True}
    written = Message("evt_1", "5", json.dumps(content).encode(), "/shop")

    event = json.loads(CloudEvents().write(written))

    assert (event["payloadversion"], event["thin"], event["data"]) == ("2026-01", True, {"id": 5})
    assert "payloadversion" not in json.loads(CloudEvents().write(make_message({})))


@pytest.mark.parametrize(
    ("key", "subject"),
    [("5", "5"), ('"a b"', "a b"), ("[1,2]", "[1,2]")],
)
def test_the_attributes_of_a_cloud_event(key: str, subject: str) -> None:
    event = json.loads(CloudEvents().write(make_message({"id": 5}, key=key)))

    assert event == {
        "specversion": "1.0",
        "id": "evt_1",
        "source": "/shop",
        "type": "core.deposit.updated",
        "time": "2026-11-24T12:00:00Z",
        "subject": subject,
        "sequence": "0000000000000000007",
        "datacontenttype": "application/json",
        "data": {"id": 5},
    }


def test_a_cloud_event_without_a_source_is_none() -> None:
    with pytest.raises(FormatError, match=r"needs a source\. Set DRF_WEBHOOKS"):
        CloudEvents().write(make_message({}, source=""))


def test_xml_has_the_whole_message() -> None:
    written = Xml().write(make_message({"name": "Zoë <3", "rooms": [1, None]}))

    root = ET.fromstring(written)  # noqa: S314  # our own
    assert root.findtext("type") == "core.deposit.updated"
    assert root.findtext("data/name") == "Zoë <3"
    assert [each.text for each in root.findall("data/rooms/list-item")] == ["1", None]
    assert written == Xml().write(make_message({"name": "Zoë <3", "rooms": [1, None]}))


@given(json_values)
def test_xml_is_well_formed_or_refused(data: Any) -> None:
    try:
        written = Xml().write(make_message(data))
    except FormatError as error:
        assert "cannot be written as XML" in str(error)  # noqa: PT017  # either may come
    else:
        ET.fromstring(written)  # noqa: S314  # our own


@pytest.mark.parametrize("data", [{"a b": 1}, {"1": 2}, {"a": "\0"}, {"": 1}])
def test_what_xml_cannot_hold_is_refused(data: Any) -> None:
    with pytest.raises(FormatError, match="cannot be written as XML"):
        Xml().write(make_message(data))


def test_formats_are_found_by_name() -> None:
    own = Config(FORMATS={"lines": f"{HERE}.Lines", "json": f"{HERE}.Lines"})

    assert names(own) == ["cloudevents", "json", "lines", "xml"]
    assert isinstance(format_named("lines", own), Lines)
    assert isinstance(format_named("json", own), Lines)
    assert isinstance(format_named("json", Config()), Json)
    with pytest.raises(FormatError, match=r"no format 'yaml'\. Known: cloudevents, json, xml"):
        format_named("yaml", Config())
    with pytest.raises(NotImplementedError):
        Broken().write(make_message({}))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("there.is.none", "cannot be imported: No module named"),
        (f"{HERE}.make_message", "is no subclass of Format"),
        (f"{HERE}.Message", "is no subclass of Format"),
    ],
)
def test_a_format_that_is_none_is_named(path: str, said: str) -> None:
    assert said in problem("own", Config(FORMATS={"own": path}))


def test_what_a_format_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert problem("json", Config()) == problem("xml", Config()) == ""
    assert "Set DRF_WEBHOOKS['CLOUDEVENTS_SOURCE']" in problem("cloudevents", Config())
    assert problem("cloudevents", Config(BASE_URL="https://a.example")) == ""

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    assert "Install drf-webhooks[xml]" in problem("xml", Config())
    with pytest.raises(FormatError, match="djangorestframework-xml"):
        Xml().write(make_message({}))


@pytest.mark.django_db(transaction=True)
@override_settings(
    DRF_WEBHOOKS={
        **HOME,
        "BASE_URL": "https://shop.example",
        "FORMATS": {"lines": f"{HERE}.Lines"},
    }
)
@pytest.mark.parametrize(
    ("name", "method", "content_type"),
    [
        pytest.param("json", "POST", "application/json", id="C47-json"),
        pytest.param("xml", "PUT", "application/xml; charset=utf-8", id="C47-xml"),
        pytest.param("cloudevents", "PATCH", "application/cloudevents+json", id="C47-cloudevents"),
        pytest.param("lines", "POST", "text/plain; charset=utf-8", id="C47-own"),
    ],
)
def test_what_arrives_is_what_was_signed_at_each_attempt(
    name: str, method: str, content_type: str
) -> None:
    with WebhookReceiver() as receiver:
        receiver.respond(500)
        endpoint = Endpoint.objects.create(
            url=receiver.url,
            event_types=["core.deposit.created"],
            method=method,
            format=name,
            headers={"X-Api-Key": "k3y", "User-Agent": "shop/1"},
        )
        make_deposit(tenant=make_tenant(name="Zoë"))
        deliver_now()
        Delivery.objects.send_again()
        deliver_now()
        requests = receiver.requests

    assert len(requests) == 2
    for request in requests:
        assert is_signed(endpoint.secret, request)
        assert (request.method, request.headers["content-type"]) == (method, content_type)
        assert request.headers["x-api-key"] == "k3y"
        assert request.headers["user-agent"] == "shop/1"
    assert requests[0].body == requests[1].body
    stored = bytes(Delivery.objects.get().event.body)
    assert (requests[0].body == stored) is (name == "json")
    assert "k3y" not in str(Attempt.objects.values())


@pytest.mark.django_db(transaction=True)
@override_settings(DRF_WEBHOOKS=HOME)
def test_a_message_that_cannot_be_written_is_tried_again() -> None:
    """The settings may be put right meanwhile; the endpoint is not to blame."""
    with WebhookReceiver() as receiver:
        Endpoint.objects.create(
            url=receiver.url, event_types=["core.deposit.created"], format="cloudevents"
        )
        make_deposit()
        deliver_now()
        attempt = Attempt.objects.get()
        assert (attempt.error, attempt.delivery.state) == ("format_error", "waiting")
        assert "needs a source" in attempt.detail

        Delivery.objects.send_again()
        with override_settings(DRF_WEBHOOKS={**HOME, "CLOUDEVENTS_SOURCE": "/shop"}):
            deliver_now()

    assert Delivery.objects.get().state == "delivered"
    assert receiver.requests[0].json["source"] == "/shop"


@pytest.mark.django_db(transaction=True)
def test_a_user_agent_says_who_we_are() -> None:
    with WebhookReceiver() as receiver:
        Endpoint.objects.create(url=receiver.url, event_types=["*"], headers={"X-A": "b"})
        make_deposit()
        deliver_now()

    assert receiver.requests[0].headers["user-agent"].startswith("drf-webhooks/")


def test_a_format_that_nobody_has_declared_is_refused_at_save() -> None:
    with pytest.raises(ValidationError, match="no format 'yaml'"):
        Endpoint(url="https://a.example/", event_types=["*"], format="yaml").save()


@pytest.mark.django_db
def test_the_database_has_no_other_methods() -> None:
    endpoint = Endpoint.objects.create(url="https://a.example/", event_types=["*"])
    with pytest.raises(ValidationError):
        Endpoint(url="https://a.example/", event_types=["*"], method="GET").full_clean()

    with pytest.raises(IntegrityError), transaction.atomic():
        Endpoint.objects.filter(pk=endpoint.pk).update(method="GET")
