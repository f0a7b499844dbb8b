"""The admin in a real browser: what an operator does, from a new endpoint to one that is mended."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.utils import timezone

from drf_webhooks import endpoints
from drf_webhooks.models import Attempt, Delivery, Endpoint, EndpointHealth
from drf_webhooks.testing import WebhookReceiver
from tests.app.models import User
from tests.browser.conftest import PASSWORD, deliver, faults, log_in, press
from tests.factories import make_deposit

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True, reset_sequences=True)]

Snapshot = Callable[..., None]

HOSTILE = (
    b"</pre><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m\x00"
    b"\xe2\x80\xae<svg onload=alert(3)> '\"><iframe srcdoc='<script>alert(4)</script>'>"
)


def open_row(page: Any, kind: str, row: Any) -> None:
    page.goto(f"/admin/drf_webhooks/{kind}/{row.pk}/change/")


def badges(page: Any) -> list[str]:
    return [re.sub(r"\s+", " ", each) for each in page.locator(".webhooks-badge").all_inner_texts()]


def permission(action: str, kind: str) -> Permission:
    """Return a permission; those of the migrations are gone when a test has committed."""
    content_type = ContentType.objects.get_for_model(apps.get_model("drf_webhooks", kind))
    return Permission.objects.get_or_create(
        codename=f"{action}_{kind}", content_type=content_type, defaults={"name": "A test's"}
    )[0]


def test_an_endpoint_is_made_its_secret_seen_once_and_a_test_sent(
    page: Any, operator: User, snapshot: Snapshot
) -> None:
    with WebhookReceiver() as receiver:
        # Once as a person does.
        page.goto("/admin/login/?next=/admin/drf_webhooks/")
        page.get_by_label("Username").fill("operator")
        page.get_by_label("Password").fill(PASSWORD)
        press(page, "button", "Log in")
        press(page, "link", "Endpoints")
        press(page, "link", "Add endpoint")
        page.get_by_label("URL").fill(receiver.url)
        page.get_by_label("Event types").fill("core.deposit.*")
        page.get_by_label("Description").fill("Accounting, live")
        snapshot("admin-endpoint-add")
        press(page, "button", "Save")
        assert page.locator(".errorlist").all_inner_texts() == []

        endpoint = Endpoint.objects.get()
        assert page.locator(".webhooks-secret").inner_text() == endpoint.secret
        snapshot("admin-endpoint-secret")
        press(page, "link", "I have it")
        assert endpoint.secret not in page.content()
        assert badges(page) == ["● healthy"]

        press(page, "button", "Send a test")
        page.get_by_role("status").wait_for()
        assert deliver() == 1
        # The page looks for the result by itself.
        page.get_by_text("200 OK").wait_for()
        assert "● delivered" in badges(page)
        assert len(receiver.requests) == 1


def test_the_list_tells_how_endpoints_are(page: Any, operator: User, snapshot: Snapshot) -> None:
    now = timezone.now()
    with WebhookReceiver() as receiver:
        Endpoint.objects.create(
            url=receiver.url, event_types=["core.deposit.*"], description="Accounting, live"
        )
        make_deposit()
        deliver()
    failing = Endpoint.objects.create(
        url="https://crm.example.com/webhooks", event_types=["core.*"], description="CRM"
    )
    paused = Endpoint.objects.create(
        url="https://letting.example.com/in", event_types=["core.landlord.updated"]
    )
    old = Endpoint.objects.create(url="https://old.example.com/", event_types=["*"])
    EndpointHealth.objects.create(
        endpoint=failing, is_clean=False, failing_since=now - timedelta(hours=3), failures=4
    )
    EndpointHealth.objects.create(
        endpoint=paused,
        is_clean=False,
        failing_since=now - timedelta(hours=30),
        paused_until=now + timedelta(minutes=42),
        ramp=1,
    )
    make_deposit()
    Delivery.objects.filter(endpoint=failing).update(attempt_count=3)
    first = Delivery.objects.filter(endpoint=failing).order_by("pk")[0].pk
    Delivery.objects.filter(pk=first).update(
        state="dead", due_at=None, settled_at=now, reason="Given up after 10 attempts."
    )
    endpoints.disable(old, "It answered 410 Gone.")

    log_in(page, operator)
    page.goto("/admin/drf_webhooks/endpoint/")

    assert badges(page) == ["■ disabled", "▲ paused", "▲ failing", "● healthy"]
    snapshot("admin-endpoints")
    with page.expect_navigation():
        page.locator("#result_list").get_by_role("link", name="1", exact=True).first.click()
    assert "endpoint=" in page.url


def test_a_dead_delivery_is_found_understood_and_sent_again(
    page: Any, operator: User, snapshot: Snapshot
) -> None:
    with WebhookReceiver() as receiver:
        receiver.respond(500, headers={"content-type": "text/html"}, body=HOSTILE)
        endpoint = Endpoint.objects.create(
            url=receiver.url, event_types=["core.deposit.*"], headers={"X-Api-Key": "k3y"}
        )
        deposit = make_deposit()
        deliver()
        delivery = Delivery.objects.get()
        Delivery.objects.update(
            state="dead",
            due_at=None,
            settled_at=timezone.now(),
            reason="Given up after 1 attempts: status 500.",
        )
        log_in(page, operator)
        page.goto("/admin/drf_webhooks/delivery/")
        page.locator("#searchbar").fill(str(deposit.pk))
        press(page, "button", "Search")
        snapshot("admin-deliveries")
        press(page, "link", f"#{delivery.pk}")
        assert "▲ dead" in badges(page)
        snapshot("admin-delivery")

        press(page, "link", "no. 1")
        shown = page.locator("pre", has_text="alert(1)")
        assert "\\x1b[31m\\x00\\u202e" in shown.inner_text()
        assert page.locator(".webhooks-text script, .webhooks-text img, iframe").count() == 0
        assert page.evaluate("document.querySelectorAll('#content img, #content svg').length") == 0
        assert "k3y" not in page.content()
        assert endpoint.secret not in page.content()
        snapshot("admin-attempt")

        receiver.respond(200)
        open_row(page, "delivery", delivery)
        press(page, "button", "Send again, now")
        assert deliver() == 1
        page.get_by_text("200 OK").wait_for()
        assert "● delivered" in badges(page)
    assert Attempt.objects.count() == 2


def test_an_endpoint_is_disabled_and_enabled(page: Any, operator: User, snapshot: Snapshot) -> None:
    endpoint = Endpoint.objects.create(url="https://a.example/", event_types=["core.deposit.*"])
    make_deposit()
    log_in(page, operator)
    open_row(page, "endpoint", endpoint)
    press(page, "link", "Disable")
    page.get_by_label("Reason").fill("They move to another server.")
    snapshot("admin-endpoint-disable")
    press(page, "button", "Disable")
    assert "■ disabled" in badges(page)
    assert "They move to another server." in page.content()

    press(page, "link", "Enable")
    page.get_by_label("is given up").check()
    press(page, "button", "Enable")

    assert "● healthy" in badges(page) or "◆ recovering" in badges(page)
    assert Delivery.objects.get(event__type="core.deposit.created").state == "dead"
    press(page, "link", "History")
    assert "Enabled; what waited: skip." in page.content()


def test_a_secret_is_replaced_shown_again_and_the_old_one_revoked(
    page: Any, operator: User, snapshot: Snapshot
) -> None:
    with WebhookReceiver() as receiver:
        endpoint = Endpoint.objects.create(
            url=receiver.url, event_types=["core.deposit.*"], description="Accounting, live"
        )
        make_deposit()
        deliver()
        make_deposit()
        receiver.respond(503, headers={"retry-after": "60"})
        deliver()
    old = endpoint.secret
    log_in(page, operator)
    open_row(page, "endpoint", endpoint)
    press(page, "link", "Replace the secret")
    page.get_by_label("stays valid for 3 days").check()
    snapshot("admin-endpoint-rotate")
    press(page, "button", "Replace the secret")

    endpoint.refresh_from_db()
    assert endpoint.secret != old
    assert page.locator(".webhooks-secret").inner_text() == endpoint.secret
    press(page, "link", "I have it")
    assert endpoint.secret not in page.content()
    snapshot("admin-endpoint")

    press(page, "link", "Show the secret")
    press(page, "button", "Show the secret")
    assert page.locator(".webhooks-secret").inner_text() == endpoint.secret

    press(page, "link", "I have it")
    press(page, "link", "Revoke old secrets")
    press(page, "button", "Revoke old secrets")
    assert "1 old secret is revoked." in page.content()
    press(page, "link", "History")
    assert "The secret was shown." in page.content()
    assert endpoint.secret not in page.content()


def test_who_may_only_look_sees_no_buttons(page: Any) -> None:
    endpoint = Endpoint.objects.create(url="https://a.example/", event_types=["*"])
    make_deposit()
    user = User.objects.create_user("viewer", password=PASSWORD, is_staff=True)
    for kind in ("endpoint", "delivery", "attempt", "event"):
        user.user_permissions.add(permission("view", kind))
    log_in(page, user)
    rows = {"endpoint": endpoint, "delivery": Delivery.objects.first()}
    for kind, row in rows.items():
        page.goto(f"/admin/drf_webhooks/{kind}/")
        assert page.locator("select[name=action]").count() == 0
        open_row(page, kind, row)
        assert page.locator(".object-tools li").all_inner_texts() == ["HISTORY"]
        assert page.locator("#content input[type=submit]").count() == 0


def make_everything() -> dict[str, Any]:
    """One row of each kind, in states that have badges of each colour."""
    now = timezone.now()
    endpoint = Endpoint.objects.create(
        url="https://crm.example.com/webhooks", event_types=["core.deposit.*"], description="CRM"
    )
    Endpoint.objects.create(url="https://old.example.com/", event_types=["x"], state="disabled")
    Endpoint.objects.create(url="https://well.example.com/", event_types=["x"])
    EndpointHealth.objects.create(
        endpoint=endpoint, is_clean=False, failing_since=now - timedelta(hours=3), failures=4
    )
    for _ in range(3):
        make_deposit()
    first, second, _third = Delivery.objects.order_by("pk")
    settled = {"due_at": None, "settled_at": now}
    Delivery.objects.filter(pk=first.pk).update(state="dead", reason="Given up.", **settled)
    Delivery.objects.filter(pk=second.pk).update(state="delivered", **settled)
    attempt = Attempt.objects.create(
        delivery=first,
        number=1,
        started_at=now,
        duration=timedelta(milliseconds=40),
        url=endpoint.url,
        error="tls_expired",
    )
    return {"endpoint": endpoint, "event": first.event, "delivery": first, "attempt": attempt}


def places(rows: dict[str, Any]) -> list[str]:
    """Return the addresses of a page of each kind."""
    lists = [f"/admin/drf_webhooks/{kind}/" for kind in ("endpoint", "delivery")]
    shown = [f"/admin/drf_webhooks/{kind}/{row.pk}/change/" for kind, row in rows.items()]
    endpoint, delivery = rows["endpoint"], rows["delivery"]
    asked = [
        f"/admin/drf_webhooks/endpoint/{endpoint.pk}/do/rotate/",
        f"/admin/drf_webhooks/delivery/{delivery.pk}/do/say-anew/",
        "/admin/drf_webhooks/endpoint/add/",
    ]
    return lists + shown + asked


def test_pages_have_no_faults_that_axe_finds(page: Any, operator: User) -> None:
    rows = make_everything()
    log_in(page, operator)
    found: list[str] = []

    for place in places(rows):
        page.goto(place)
        found += [f"{place}: {each}" for each in faults(page)]

    assert found == []


def test_pages_fit_into_a_narrow_window(page: Any, operator: User, snapshot: Snapshot) -> None:
    rows = make_everything()
    log_in(page, operator)
    page.set_viewport_size({"width": 390, "height": 780})

    for place in places(rows):
        page.goto(place)
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, place

    open_row(page, "delivery", rows["delivery"])
    snapshot("admin-delivery-narrow")


def test_dark_pages_are_dark_and_have_contrast(
    page: Any, operator: User, snapshot: Snapshot
) -> None:
    rows = make_everything()
    page.emulate_media(color_scheme="dark")
    log_in(page, operator)
    open_row(page, "delivery", rows["delivery"])
    assert faults(page, "color-contrast") == []
    page.goto("/admin/drf_webhooks/endpoint/")
    assert faults(page, "color-contrast") == []
    snapshot("admin-endpoints-dark")

    colour = "getComputedStyle(document.querySelector('.webhooks-bad')).backgroundColor"
    assert page.evaluate(colour) == "rgb(77, 23, 23)"
    # Who has chosen a theme has it, whatever the system says.
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    assert page.evaluate(colour) == "rgb(251, 227, 227)"


def test_buttons_are_reached_and_pressed_by_the_keyboard(page: Any, operator: User) -> None:
    endpoint = Endpoint.objects.create(url="https://a.example/", event_types=["*"])
    log_in(page, operator)
    open_row(page, "endpoint", endpoint)
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Send a test":
            break
    with page.expect_navigation():
        page.keyboard.press("Enter")

    assert Delivery.objects.count() == 1


def test_many_are_cancelled_with_a_reason(page: Any, operator: User, snapshot: Snapshot) -> None:
    Endpoint.objects.create(url="https://a.example/", event_types=["core.deposit.*"])
    for _ in range(3):
        make_deposit()
    log_in(page, operator)
    page.goto("/admin/drf_webhooks/delivery/?state=waiting")
    page.locator("#action-toggle").check()
    page.locator("select[name=action]").first.select_option(label="Cancel what waits")
    # Its name differs between releases of Django.
    with page.expect_navigation():
        page.locator(".actions button[type=submit]").first.click()
    page.get_by_label("Reason").fill("The import was a mistake.")
    snapshot("admin-cancel")
    press(page, "button", "Cancel what waits")

    assert "3 deliveries are cancelled." in page.content()
    assert set(Delivery.objects.values_list("state", flat=True)) == {"dead"}
