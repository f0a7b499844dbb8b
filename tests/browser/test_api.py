"""The REST API in a real browser, as DRF shows it: what a customer does without a program."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache

from drf_webhooks.models import Attempt, Delivery, Endpoint
from drf_webhooks.testing import WebhookReceiver
from tests.app.models import User
from tests.browser.conftest import PASSWORD, deliver, expect_refusal, log_in, press
from tests.factories import make_user

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True, reset_sequences=True)]

Snapshot = Callable[..., None]

HOSTILE = (
    b"</pre><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m\x00\xe2\x80\xae"
    b"<svg onload=alert(3)> '\"><a href=javascript:alert(4)>x</a> javascript:alert(5)"
)


@pytest.fixture(autouse=True)
def _fresh(settings: Any) -> None:
    """Show answers of this machine; limits are counted in the cache."""
    settings.DRF_WEBHOOKS = {**settings.DRF_WEBHOOKS, "SHOW_ANSWERS": "all"}
    settings.TIME_ZONE = "UTC"
    cache.clear()


@pytest.fixture
def page(page: Any) -> Any:
    """As wide as DRF's pages need."""
    page.set_viewport_size({"width": 1140, "height": 400})
    return page


@pytest.fixture
def ada(transactional_db: None) -> User:
    return User.objects.create_user("ada", password=PASSWORD)


def shown(page: Any) -> Any:
    """Return the answer that the page shows, read as JSON."""
    text: str = page.locator(".response-info pre").inner_text()
    # The first line that begins so: before it are the headers.
    found = re.search(r"^[{\[]", text, re.MULTILINE)
    assert found is not None, text
    return json.loads(text[found.start() :])


def status(page: Any) -> str:
    return str(page.locator(".response-info .meta b").first.inner_text())


def answer_to(page: Any, path: str) -> Any:
    page.goto(path)
    return shown(page)


def follow_location(page: Any) -> None:
    with page.expect_navigation():
        page.locator(".response-info .meta a").first.click()


def take_action(page: Any, name: str) -> None:
    """Choose one of the extra actions, and send its form as it is."""
    page.get_by_role("button", name="Extra Actions").click()
    press(page, "link", name)
    # DRF's menu asks by GET what takes a POST; the form is on the page that says so.
    expect_refusal(page, 405)
    press(page, "button", "POST")


def errors_at(page: Any, name: str) -> list[str]:
    group = page.locator("form .form-group", has=page.locator(f"[name={name}]"))
    texts: list[str] = group.first.locator(".help-block").all_inner_texts()
    return texts


def test_an_endpoint_is_made_by_the_form_its_secret_seen_once_and_a_test_sent(
    page: Any, ada: User, snapshot: Snapshot
) -> None:
    with WebhookReceiver() as receiver:
        page.goto("/webhooks/")
        expect_refusal(page, 403)
        # Once as a person does.
        press(page, "link", "Log in")
        page.get_by_label("Username").fill("ada")
        page.get_by_label("Password").fill(PASSWORD)
        press(page, "button", "Log in")

        press(page, "link", shown(page)["event-types"])
        types = [each["type"] for each in shown(page)]
        assert {"core.deposit.created", "webhooks.endpoint.test"} <= set(types)
        page.goto("/webhooks/event-types/core.deposit.created/")
        assert "core.deposit.created" in page.locator(".response-info pre").inner_text()

        page.goto("/webhooks/endpoints/")
        page.locator("form [name=url]").fill(receiver.url)
        page.locator("form [name=event_types]").select_option(
            ["core.deposit.*", "core.document.created"]
        )
        page.locator("form [name=description]").fill("Accounting, live")
        snapshot("api-endpoint-form")
        press(page, "button", "POST")
        assert status(page) == "HTTP 201 Created"
        endpoint = Endpoint.objects.get()
        assert (endpoint.owner, endpoint.url) == (ada, receiver.url)
        assert endpoint.event_types == ["core.deposit.*", "core.document.created"]
        assert shown(page)["secret"] == endpoint.secret
        # Nor is the next endpoint to have it.
        assert page.locator("form [name=secret]").input_value() == ""
        snapshot("api-endpoint-made")

        follow_location(page)
        assert shown(page)["id"] == str(endpoint.pk)
        assert endpoint.secret not in page.content()

        take_action(page, "Test")
        assert status(page) == "HTTP 202 Accepted"
        assert deliver() == 1
        follow_location(page)
        delivery = shown(page)
        assert (delivery["event_type"], delivery["state"]) == (
            "webhooks.endpoint.test",
            "delivered",
        )
        [received] = receiver.requests
        assert received.headers["webhook-id"] == delivery["webhook_id"]
        snapshot("api-delivery")

        [attempt] = answer_to(page, f"/webhooks/deliveries/{delivery['id']}/attempts/")["results"]
        attempt = answer_to(page, f"/webhooks/attempts/{attempt['id']}/")
        assert attempt["status"] == 200
        assert attempt["request_body"] == received.body.decode()
        assert endpoint.secret not in page.content()


def test_a_hostile_answer_is_text(page: Any, ada: User, snapshot: Snapshot) -> None:
    with WebhookReceiver() as receiver:
        receiver.respond(500, headers={"X-Why": "<script>alert(6)</script>"}, body=HOSTILE)
        endpoint = Endpoint.objects.create(
            owner=ada, url=receiver.url, event_types=["*"], headers={"X-Api-Key": "k3y"}
        )
        log_in(page, ada)
        page.goto(f"/webhooks/endpoints/{endpoint.pk}/")
        assert "k3y" not in page.content()
        take_action(page, "Test")
        deliver()

    page.goto(f"/webhooks/attempts/{Attempt.objects.get().pk}/")

    attempt = shown(page)
    assert attempt["status"] == 500
    assert attempt["response_body"].startswith("</pre><script>alert(1)</script>")
    # What a terminal would obey is not there.
    assert "\N{REPLACEMENT CHARACTER}[31m" in attempt["response_body"]
    within = page.locator(".content-main")
    assert within.locator("script, img, svg, iframe").count() == 0
    assert page.locator("a[href^=javascript]").count() == 0
    snapshot("api-attempt")


def test_errors_are_shown_at_their_fields(page: Any, ada: User) -> None:
    log_in(page, ada)
    page.goto("/webhooks/endpoints/")
    page.locator("form [name=url]").fill("http://169.254.169.254/latest")
    page.locator("form [name=format]").fill("morse")
    press(page, "button", "POST")

    expect_refusal(page, 400)
    assert set(shown(page)) == {"url", "event_types", "format"}
    assert "This field is required." in errors_at(page, "event_types")
    assert any("morse" in each for each in errors_at(page, "format"))
    # What was typed is there still.
    assert page.locator("form [name=url]").input_value() == "http://169.254.169.254/latest"

    page.locator("form [name=event_types]").select_option(["core.*"])
    page.locator("form [name=format]").fill("")
    press(page, "button", "POST")
    expect_refusal(page, 400)
    assert set(shown(page)) == {"url"}
    assert len(errors_at(page, "url")) == 1
    assert page.locator("form [name=event_types] option:checked").all_inner_texts() == ["core.*"]
    assert not Endpoint.objects.exists()


def test_the_form_changes_what_is_in_it_and_leaves_the_rest(page: Any, ada: User) -> None:
    endpoint = Endpoint.objects.create(
        owner=ada,
        url="https://a.example/",
        event_types=["core.deposit.*", "core.document.created"],
        headers={"X-Api-Key": "k3y"},
    )
    secret = endpoint.secret
    log_in(page, ada)
    page.goto(f"/webhooks/endpoints/{endpoint.pk}/")
    chosen = page.locator("form [name=event_types] option:checked").all_inner_texts()
    assert chosen == endpoint.event_types
    page.locator("form [name=description]").fill("Ours")
    press(page, "button", "PUT")

    assert status(page) == "HTTP 200 OK"
    changed = Endpoint.objects.get()
    assert (changed.description, changed.event_types) == ("Ours", endpoint.event_types)
    assert (changed.headers, changed.secret) == ({"X-Api-Key": "k3y"}, secret)


def test_headers_are_written_as_raw_data(page: Any, ada: User) -> None:
    endpoint = Endpoint.objects.create(owner=ada, url="https://a.example/", event_types=["core.*"])
    log_in(page, ada)
    page.goto(f"/webhooks/endpoints/{endpoint.pk}/")
    page.get_by_role("link", name="Raw data").or_(page.get_by_role("tab", name="Raw data")).click()
    box = page.locator("textarea[name=_content]:visible")
    given = json.loads(box.input_value())
    given["headers"] = [{"name": "X-Api-Key", "value": "k3y"}]
    box.fill(json.dumps(given))
    press(page, "button", "PATCH")

    assert status(page) == "HTTP 200 OK"
    assert shown(page)["headers"] == [{"name": "X-Api-Key", "value": "********"}]
    assert Endpoint.objects.get().headers == {"X-Api-Key": "k3y"}


def test_what_is_another_owners_is_not_found(page: Any, ada: User) -> None:
    bea = make_user(username="bea")
    with WebhookReceiver() as receiver:
        endpoint = Endpoint.objects.create(owner=bea, url=receiver.url, event_types=["core.*"])
        log_in(page, bea)
        page.goto(f"/webhooks/endpoints/{endpoint.pk}/")
        take_action(page, "Test")
        deliver()
    delivery, attempt = Delivery.objects.get(), Attempt.objects.get()
    log_in(page, ada)

    for place in (
        f"endpoints/{endpoint.pk}/",
        f"endpoints/{endpoint.pk}/messages/",
        f"deliveries/{delivery.pk}/",
        f"deliveries/{delivery.pk}/attempts/",
        f"attempts/{attempt.pk}/",
    ):
        page.goto(f"/webhooks/{place}")
        expect_refusal(page, 404)
        assert receiver.url not in page.content()
        assert "core.*" not in page.locator("form option:checked").all_inner_texts()
    for place in ("endpoints/", "deliveries/", "attempts/"):
        assert answer_to(page, f"/webhooks/{place}")["results"] == []
    # Nor is it among what a form offers.
    page.goto("/webhooks/recoveries/")
    assert page.locator("form [name=endpoint] option").count() == 1


def test_an_endpoint_is_deleted_after_a_question(page: Any, ada: User) -> None:
    endpoint = Endpoint.objects.create(owner=ada, url="https://a.example/", event_types=["core.*"])
    log_in(page, ada)
    page.goto(f"/webhooks/endpoints/{endpoint.pk}/")
    page.get_by_role("button", name="DELETE").first.click()
    sure = page.locator(".modal button.btn-danger")
    sure.wait_for()
    with page.expect_navigation():
        sure.click()

    assert status(page) == "HTTP 204 No Content"
    assert not Endpoint.objects.exists()


def test_options_describe_the_fields(page: Any, ada: User) -> None:
    log_in(page, ada)
    page.goto("/webhooks/endpoints/")
    press(page, "button", "OPTIONS")

    assert status(page) == "HTTP 200 OK"
    fields = shown(page)["actions"]["POST"]
    assert fields["url"]["required"] is True
    assert fields["event_types"]["type"] == "list"
    assert fields["state"]["read_only"] is True
    assert {each["value"] for each in fields["signature"]["choices"]} == {"v1", "v1a"}
