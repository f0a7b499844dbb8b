"""What rows look like: readable, escaped, cut, and nothing in them acts or hides."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib import admin as django_admin
from django.test import Client, override_settings
from django.utils import timezone

from drf_webhooks.admin import DeliveryAdmin
from drf_webhooks.admin.markup import badge, block, cut, link, moment, span, visible
from drf_webhooks.models import Attempt, Delivery, Endpoint, Event
from drf_webhooks.registry import registry
from drf_webhooks.testing import WebhookReceiver, deliver_now
from tests.admin.conftest import make_attempt, make_delivery, url
from tests.declaring import declare
from tests.factories import make_deposit


@pytest.mark.security
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\n\ttext", "plain\n\ttext"),
        ("a\r\nb", "a\nb"),
        ("\x1b[2J\x00\x7f\x9b", "\\x1b[2J\\x00\\x7f\\x9b"),
        ("\u202egpj.exe\u2066\u200b\ufeff", "\\u202egpj.exe\\u2066\\u200b\\ufeff"),
        ("a\u00ad\ufff9\U000e0041", "a\\u00ad\\ufff9\\U000e0041"),
        ("\u2764\ufe0f é", "\u2764\ufe0f é"),
        ("\ud800", "?"),
    ],
)
def test_what_is_not_seen_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.security
def test_a_text_is_escaped_and_cut() -> None:
    assert "&lt;script&gt;" in block("<script>")
    assert "&quot; onload" in badge("good", '" onload', '" onload')
    assert "[5 characters more]" in block("x" * 20_005)
    assert cut("a\nb  c", 10) == "a b c"
    assert cut("x" * 11, 10) == "x" * 10 + "…"
    assert link("", "<b>") == "&lt;b&gt;"


def test_a_message_is_indented_if_that_can_be_done() -> None:
    assert "\n  &quot;a&quot;: &quot;ä&quot;\n" in block('{"a":"ä"}'.encode())
    assert block(b"[" * 100_000).count("[") == 20_001
    assert block(None) == "-"
    long = b'{"a":"' + b"x" * 1024 * 1024 + b'"}'
    assert "{&quot;a&quot;:&quot;xx" in block(long), "too long to be indented"
    assert block('{"a":1}').count("\n") == 0, "a text that only looks like JSON"


def test_lengths_and_moments_are_readable() -> None:
    assert span(None) == moment(None) == "-"
    assert span(timedelta(milliseconds=7)) == "7 ms"
    assert span(timedelta(seconds=2.25)) == "2.2 s"
    with override_settings(TIME_ZONE="Europe/Vienna"):
        assert 'datetime="2026-' in moment(datetime(2026, 6, 1, 12, tzinfo=UTC))


def shown(client: Client, row: Any) -> str:
    text: str = client.get(url(f"{row._meta.model_name}_change", row.pk)).text
    return text


@pytest.mark.security
def test_an_attempt_shows_request_and_response_without_what_is_secret(
    admin: Client, endpoint: Endpoint
) -> None:
    endpoint.headers = {"X-Api-Key": "k3y"}
    endpoint.save()
    delivery = make_delivery()
    Event.objects.update(traceparent="00-trace")
    attempt = make_attempt(
        delivery,
        response_headers=[["Content-Type", "text/<i>html"]],
        response_body=b"</pre><script>x</script>\x1b",
        looked_up_in=timedelta(milliseconds=3),
        detail="<b>\u202e",
    )

    page = shown(admin, attempt)

    for text in (
        "POST https://a.example/",
        f"webhook-id: {delivery.event.message_id}",
        f"webhook-timestamp: {int(attempt.started_at.timestamp())}",
        "webhook-signature: ********",
        "webhook-sequence: 1",
        "webhook-depth: 1",
        "traceparent: 00-trace",
        "X-Api-Key: ********",
        "content-type: application/json",
        "looking up 3 ms, connecting -, answer -",
        "&lt;b&gt;\\u202e",
        "text/&lt;i&gt;html",
        "&lt;/pre&gt;&lt;script&gt;x&lt;/script&gt;\\x1b",
    ):
        assert text in page
    assert "k3y" not in page
    assert endpoint.secret not in page


@pytest.mark.django_db(transaction=True)
@pytest.mark.security
def test_an_attempt_shows_every_header_that_was_sent(admin: Client) -> None:
    with registry.isolated(), WebhookReceiver() as receiver:
        declare(get_headers=lambda cls, *_: {"X-Kind": "new", "X-Api-Key": "of the event"})
        Endpoint.objects.create(
            url=receiver.url, event_types=["*"], headers={"x-api-key": "k3y", "User-Agent": "us"}
        )
        make_deposit()
        deliver_now()
        page = shown(admin, Attempt.objects.get())

    [request] = receiver.requests
    [block] = re.findall(r"field-request_headers.*?<pre[^>]*>(.*?)</pre>", page, re.DOTALL)
    listed = [line.partition(":")[0].lower() for line in block.splitlines()]
    # These two are HTTP's own.
    assert sorted(listed) == sorted({*request.headers} - {"host", "content-length"})
    assert request.headers["x-api-key"] == "k3y"
    for value in ("k3y", "of the event", ": new"):
        assert value not in page


def test_an_attempt_of_another_format_shows_what_is_stored(
    admin: Client, endpoint: Endpoint
) -> None:
    attempt = make_attempt(make_delivery())
    Endpoint.objects.update(format="xml")
    assert "the endpoint gets it as xml." in shown(admin, attempt)
    Endpoint.objects.update(format="gone")
    assert "content-type: gone" in shown(admin, attempt)

    Event.objects.update(body=None, sequence=None, retired_at=timezone.now())
    page = shown(admin, attempt)
    assert "Its message is not kept any more." in page
    assert "webhook-sequence" not in page


def test_an_attempt_at_an_endpoint_whose_headers_are_lost_can_be_looked_at(
    admin: Client, endpoint: Endpoint
) -> None:
    attempt = make_attempt(make_delivery(), status=None, error="local_error")
    Endpoint.objects.update(headers={"X-A": "1"})
    with override_settings(DRF_WEBHOOKS={"ENCRYPTION_KEYS": ["A" * 43 + "="]}):
        endpoint.headers = {"X-A": "2"}
        endpoint.save()

    page = shown(admin, attempt)

    assert "custom headers that cannot be read" in page
    assert "No answer came." in page


def test_an_event_shows_its_message_its_origin_and_its_deliveries(
    admin: Client, endpoint: Endpoint
) -> None:
    delivery = make_delivery()
    Event.objects.update(origin="user:7", origin_endpoint=endpoint.pk)

    page = shown(admin, delivery.event)

    for text in ("&quot;amount&quot;: ", f"#{delivery.pk}", "user:7", "https://a.example/"):
        assert text in page
    assert page.count(str(endpoint.pk)) >= 2
    Delivery.objects.all().delete()
    Event.objects.update(origin_endpoint=None)
    assert "Nobody listened to it" in shown(admin, delivery.event)


def test_an_event_whose_owner_is_gone_can_be_looked_at(admin: Client, endpoint: Endpoint) -> None:
    event = make_delivery().event
    Event.objects.update(owner_id=4711)

    assert admin.get(url("event_change", event.pk)).status_code == 200
    assert admin.get(url("event_changelist")).status_code == 200


def test_a_site_without_a_page_for_something_has_no_link_to_it(endpoint: Endpoint) -> None:
    make_delivery()
    site = django_admin.AdminSite(name="another")
    lone = DeliveryAdmin(Delivery, site)

    assert "href" in lone.shown_type(lone.model.objects.get())
    assert lone.page(Attempt, "nothing") == ""
