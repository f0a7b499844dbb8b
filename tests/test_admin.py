"""The admin: secrets stay hidden, facts stay facts, and pages cost the same for many rows."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from drf_webhooks import secret_keys
from drf_webhooks.models import Attempt, Delivery, Endpoint, EndpointHealth, Event, Notice
from drf_webhooks.rotation import rotate_secret
from tests.admin.conftest import form
from tests.app.models import User
from tests.factories import make_deposit

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    return client


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint.objects.create(url="https://a.example/", event_types=["core.deposit.*"])


def make_attempts(count: int, body: bytes = b"<b>no</b>") -> Attempt:
    for _ in range(count):
        make_deposit()
    for delivery in Delivery.objects.filter(attempts=None):
        attempt = Attempt.objects.create(
            delivery=delivery,
            number=1,
            started_at=timezone.now(),
            duration=timedelta(seconds=1),
            url="https://a.example/",
            status=500,
            response_headers=[["server", "<i>x</i>"]],
            response_body=body,
        )
    return attempt


def page(name: str, *args: Any) -> str:
    return reverse(f"admin:drf_webhooks_{name}", args=args)


@pytest.mark.security
def test_f71_no_form_and_no_list_has_a_secret(admin: Client, endpoint: Endpoint) -> None:
    assert b"whsec_" not in admin.get(page("endpoint_add")).content
    assert endpoint.secret.encode() not in admin.get(page("endpoint_changelist")).content
    assert endpoint.secret.encode() not in admin.get(page("endpoint_change", endpoint.pk)).content


def test_an_endpoint_is_made_in_the_admin(admin: Client) -> None:
    form = {
        "url": "https://b.example/",
        "event_types": "core.*",
        "state": "enabled",
        "method": "PUT",
        "format": "xml",
        "headers": "X-Api-Key: k3y",
        "overrides": '{"MAX_AGE": 3600}',
        "ordering": "none",
        "on_dead": "skip",
    }
    secret = secret_keys.generate()
    answer = admin.post(page("endpoint_add"), {**form, "secret": secret})

    assert answer.status_code == 200
    made = Endpoint.objects.get()
    assert made.event_types == ["core.*"]
    assert (made.method, made.format, made.headers) == ("PUT", "xml", {"X-Api-Key": "k3y"})
    assert made.secret == secret
    again = admin.post(page("endpoint_add"), {**form, "secret": secret, "event_types": "a..b"})
    assert b"is no event type" in again.content
    assert secret.encode() not in again.content
    again = admin.post(page("endpoint_add"), {**form, "secret": "whsec_"})
    assert b"24 to 64 random" in again.content


@pytest.mark.security
def test_f71_a_secret_that_is_made_is_shown_once(admin: Client) -> None:
    answer = admin.post(page("endpoint_add"), form(url="https://b.example/"))

    made = Endpoint.objects.get()
    secret = made.secret.encode()
    assert f'<pre class="webhooks-secret">{made.secret}</pre>'.encode() in answer.content
    assert "no-store" in answer.headers["cache-control"]
    for name, *rest in (("endpoint_changelist",), ("endpoint_change", made.pk)):
        shown = admin.get(page(name, *rest))
        assert secret not in shown.content
    assert secret not in admin.get(page("endpoint_history", made.pk)).content

    old, rotate = made.secret, {"action": "rotate_secret", "_selected_action": [str(made.pk)]}
    answer = admin.post(page("endpoint_changelist"), rotate)
    made.refresh_from_db()
    assert f'<pre class="webhooks-secret">{made.secret}</pre>'.encode() in answer.content
    assert [each.secret for each in made.old_secrets] == [old]
    assert LogEntry.objects.latest("pk").change_message == "The secret was replaced."
    for _ in range(4):
        rotate_secret(made)
    refused = admin.post(page("endpoint_changelist"), rotate, follow=True)
    assert b"old secrets that are still valid" in refused.content
    other = Endpoint.objects.create(url="https://c.example/")
    both = {**rotate, "_selected_action": [str(made.pk), str(other.pk)]}
    refused = admin.post(page("endpoint_changelist"), both, follow=True)
    assert b"Choose one endpoint" in refused.content


def test_of_an_ed25519_key_the_public_half_is_shown(admin: Client) -> None:
    given = form(url="https://b.example/", signature="v1a")
    answer = admin.post(page("endpoint_add"), given)

    made = Endpoint.objects.get()
    public = str(made.public_key).encode()
    assert made.signature == "v1a"
    assert public in answer.content
    assert b"whsk_" not in answer.content
    assert public in admin.get(page("endpoint_change", made.pk)).content


def test_an_endpoint_whose_secrets_are_lost_can_be_looked_at_and_changed(admin: Client) -> None:
    with override_settings(DRF_WEBHOOKS={"ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}):
        endpoint = Endpoint.objects.create(
            url="https://a.example/", event_types=["*"], headers={"X-Api-Key": "k3y"}
        )
    where = page("endpoint_change", endpoint.pk)
    shown = admin.get(where).content.decode()
    assert "The secret cannot be read." in shown
    assert "They cannot be read." in shown
    form = {"url": endpoint.url, "event_types": "core.*", "method": "POST", "format": "json"}
    answer = admin.post(where, {**form, "ordering": "none", "on_dead": "skip"})

    assert answer.status_code == 302
    assert Endpoint.objects.get().event_types == ["core.*"]
    rotate = {"action": "rotate_secret", "_selected_action": [str(endpoint.pk)]}
    refused = admin.post(page("endpoint_changelist"), rotate, follow=True)
    assert b"was encrypted with the key" in refused.content


def test_values_of_headers_are_not_shown_again(admin: Client, endpoint: Endpoint) -> None:
    endpoint.headers = {"X-Api-Key": "k3y", "X-Old": "0ld"}
    endpoint.save()

    shown = admin.get(page("endpoint_change", endpoint.pk)).content
    assert b"X-Api-Key: ********" in shown
    assert b"k3y" not in shown + admin.get(page("endpoint_changelist")).content

    form = {
        "url": endpoint.url,
        "event_types": "*",
        "state": "enabled",
        "method": "POST",
        "format": "json",
        "ordering": "none",
        "on_dead": "skip",
    }
    kept = "X-Api-Key: ********\r\nX-New: n3w"
    answer = admin.post(page("endpoint_change", endpoint.pk), {**form, "headers": kept})
    assert answer.status_code == 302
    endpoint.refresh_from_db()
    assert endpoint.headers == {"X-Api-Key": "k3y", "X-New": "n3w"}
    message = LogEntry.objects.latest("pk").change_message
    assert "n3w" not in message
    assert "custom headers" in message.lower()

    answer = admin.post(page("endpoint_change", endpoint.pk), {**form, "headers": "Host: a"})
    assert "is set by the library" in answer.content.decode()


def test_an_unchanged_form_changes_no_headers(admin: Client, endpoint: Endpoint) -> None:
    form = {"url": endpoint.url, "event_types": "core.deposit.*", "state": "enabled"}
    form |= {"method": "POST", "format": "json", "headers": "X-A: ********"}
    form |= {"ordering": "none", "on_dead": "skip"}
    Endpoint.objects.update(headers={"X-A": "1"})

    admin.post(page("endpoint_change", endpoint.pk), form)

    assert "headers" not in LogEntry.objects.latest("pk").change_message


def test_a_format_that_lacks_something_is_refused(admin: Client, endpoint: Endpoint) -> None:
    form = {"url": endpoint.url, "event_types": "*", "state": "enabled", "method": "POST"}

    answer = admin.post(page("endpoint_change", endpoint.pk), {**form, "format": "cloudevents"})

    assert "needs a source" in answer.content.decode()


def test_the_form_is_shown_to_who_may_only_look(endpoint: Endpoint) -> None:
    endpoint.headers = {"X-Api-Key": "k3y"}
    endpoint.save()
    user = User.objects.create(username="viewer", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_endpoint"))
    client = Client()
    client.force_login(user)

    for url in (page("endpoint_change", endpoint.pk), page("endpoint_changelist")):
        answer = client.get(url)
        assert answer.status_code == 200
        assert b"k3y" not in answer.content
    Endpoint.objects.update(headers={})
    assert b"X-Api-Key" not in client.get(page("endpoint_change", endpoint.pk)).content


def test_an_attempt_says_what_its_error_means(admin: Client, endpoint: Endpoint) -> None:
    attempt = make_attempts(1)
    assert "the receiver failed" in admin.get(page("attempt_change", attempt.pk)).text

    Attempt.objects.update(status=None, error="tls_expired")
    shown = admin.get(page("attempt_change", attempt.pk)).text
    assert "the certificate has expired. This is for the receiver to mend." in shown

    Attempt.objects.update(error="secret_error")
    assert "This is ours to mend." in admin.get(page("attempt_change", attempt.pk)).text


def test_endpoints_are_disabled_and_enabled(admin: Client, endpoint: Endpoint) -> None:
    for action, state in (("disable", "disabled"), ("enable", "enabled")):
        admin.post(
            page("endpoint_changelist"), {"action": action, "_selected_action": [endpoint.pk]}
        )
        endpoint.refresh_from_db()
        assert endpoint.state == state
        assert bool(endpoint.disabled_reason) is (state == "disabled")


def act(client: Client, name: str, action: str, *pks: Any) -> str:
    data = {"action": action, "_selected_action": pks}
    return client.post(page(f"{name}_changelist"), data, follow=True).content.decode()


def test_a_form_that_was_open_does_not_undo_what_the_worker_did(
    admin: Client, endpoint: Endpoint
) -> None:
    Endpoint.objects.update(state="disabled", disabled_reason="Gone.")
    EndpointHealth.objects.create(endpoint=endpoint, is_clean=False, failures=9)
    form = {
        "event_types": "core.*",
        "state": "enabled",
        "overrides": "{}",
        "method": "POST",
        "format": "json",
        "ordering": "none",
        "on_dead": "skip",
    }

    answer = admin.post(page("endpoint_change", endpoint.pk), {**form, "url": "https://a.example/"})

    assert answer.status_code == 302
    endpoint.refresh_from_db()
    assert (endpoint.state, endpoint.disabled_reason) == ("disabled", "Gone.")
    assert endpoint.event_types == ["core.*"]
    assert EndpointHealth.objects.get().failures == 9

    admin.post(page("endpoint_change", endpoint.pk), {**form, "url": "https://b.example/"})
    endpoint.refresh_from_db()
    assert endpoint.url == "https://b.example/"
    assert EndpointHealth.objects.get().failures == 0


def test_an_endpoint_can_be_mended_in_the_admin(admin: Client, endpoint: Endpoint) -> None:
    make_attempts(1)
    noon = datetime(2099, 11, 24, 12, tzinfo=UTC)
    EndpointHealth.objects.create(endpoint=endpoint, is_clean=False, paused_until=noon, ramp=1)
    shown = admin.get(page("endpoint_changelist")).text
    assert "</span> paused</span>" in shown
    assert ">2099-11-24 06:00:00<" in shown, "in the time zone of the project"

    act(admin, "endpoint", "recover", endpoint.pk)
    assert EndpointHealth.objects.get().paused_until is None

    act(admin, "endpoint", "send_test", endpoint.pk)
    assert Delivery.objects.filter(event__type="webhooks.endpoint.test").count() == 1

    act(admin, "endpoint", "disable", endpoint.pk)
    act(admin, "endpoint", "enable_and_skip", endpoint.pk)
    assert Delivery.objects.filter(state="dead").count() == 2
    assert Notice.objects.count() == 2
    assert "Disabled by admin" in admin.get(page("notice_changelist")).text


def test_health_says_what_it_is() -> None:
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)

    assert str(EndpointHealth()) == "well"
    failing = EndpointHealth(is_clean=False, failing_since=noon)
    assert str(failing) == "failing since 2026-11-24 12:00 UTC"
    assert str(EndpointHealth(is_clean=False, ramp=2)) == "recovering"
    assert str(Notice(kind="failing")) == "failing None"


@pytest.mark.parametrize("to_disabled", [True, False])
def test_a_delivery_is_sent_to_a_disabled_endpoint_only_if_asked(
    admin: Client, endpoint: Endpoint, *, to_disabled: bool
) -> None:
    delivery = make_attempts(1).delivery
    Endpoint.objects.update(state="disabled")

    act(admin, "delivery", f"send_again{'_to_disabled' * to_disabled}", delivery.pk)

    delivery.refresh_from_db()
    assert delivery.is_by_hand is to_disabled


@pytest.mark.parametrize("name", ["endpoint", "event", "delivery", "attempt"])
def test_a_list_costs_the_same_for_many_rows(name: str, admin: Client, endpoint: Endpoint) -> None:
    counts = []
    for count in (1, 15):
        make_attempts(count)
        for number in range(count):
            Endpoint.objects.create(url=f"https://{number}.example/", event_types=["x"])
        with CaptureQueriesContext(connection) as queries:
            assert admin.get(page(f"{name}_changelist")).status_code == 200
        counts.append(len(queries))

    assert counts[0] == counts[1]


@pytest.mark.parametrize("name", ["event", "delivery", "attempt"])
def test_facts_can_be_looked_at_but_not_changed(
    name: str, admin: Client, endpoint: Endpoint
) -> None:
    attempt = make_attempts(1)
    pk = {"event": attempt.delivery.event_id, "delivery": attempt.delivery_id}.get(name, attempt.pk)

    content = admin.get(page(f"{name}_change", pk)).content.decode()

    assert "<b>no</b>" not in content
    assert "<i>x</i>" not in content
    assert admin.get(page(f"{name}_add")).status_code == 403
    assert admin.post(page(f"{name}_delete", pk), {"post": "yes"}).status_code == 403


def test_what_an_event_says_and_why_it_does_not(admin: Client, endpoint: Endpoint) -> None:
    make_attempts(1)
    event = Event.objects.get(type="core.deposit.created")
    assert "core.deposit.created" in admin.get(page("event_change", event.pk)).content.decode()

    event.body = None
    event.error = "ValueError: boom"
    event.save()
    shown = admin.get(page("event_change", event.pk)).content.decode()
    assert "parked" in shown
    assert "ValueError: boom" in shown
    event.held_until = timezone.now()
    event.save()
    assert "held" in admin.get(page("event_changelist")).content.decode()
    event.held_until = None
    event.retired_at = timezone.now()
    event.save()
    assert "retired" in admin.get(page("event_changelist")).content.decode()


def test_long_answers_are_cut(admin: Client, endpoint: Endpoint) -> None:
    attempt = make_attempts(1, body=b"y" * 30_000)

    assert "y" * 20_001 not in admin.get(page("attempt_change", attempt.pk)).content.decode()


def test_a_delivery_is_sent_again(admin: Client, endpoint: Endpoint) -> None:
    delivery = make_attempts(1).delivery
    Delivery.objects.update(state="dead", due_at=None, reason="x")

    admin.post(
        page("delivery_changelist"), {"action": "send_again", "_selected_action": [delivery.pk]}
    )

    delivery.refresh_from_db()
    assert (delivery.state, delivery.reason, delivery.fence) == ("waiting", "", 1)
    assert delivery.due_at is not None


def test_sending_again_needs_the_permission_to_change(endpoint: Endpoint) -> None:
    user = User.objects.create(username="viewer", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_delivery"))
    client = Client()
    client.force_login(user)
    delivery = make_attempts(1).delivery

    client.post(
        page("delivery_changelist"), {"action": "send_again", "_selected_action": [delivery.pk]}
    )

    delivery.refresh_from_db()
    assert delivery.fence == 0


def died(age: timedelta = timedelta(minutes=1)) -> None:
    Delivery.objects.update(
        state="dead", due_at=None, settled_at=timezone.now() - age, reason="Given up."
    )


def test_what_failed_is_replayed_for_chosen_endpoints(admin: Client, endpoint: Endpoint) -> None:
    other = Endpoint.objects.create(url="https://b.example/", event_types=["core.deposit.*"])
    make_attempts(2)
    died()

    assert "2 deliveries are due now." in act(admin, "endpoint", "replay_failed", endpoint.pk)

    assert Delivery.objects.filter(endpoint=endpoint, state="waiting").count() == 2
    assert Delivery.objects.filter(endpoint=other, state="dead").count() == 2
    died(timedelta(days=8))
    assert "0 deliveries are due now." in act(admin, "endpoint", "replay_failed", endpoint.pk)


def test_very_much_is_replayed_a_part_at_a_time(
    admin: Client, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drf_webhooks.admin.endpoint_tools.MOST_REPLAYED", 2)
    make_attempts(2)
    died()

    assert "There may be more" in act(admin, "endpoint", "replay_failed", endpoint.pk)


def test_chosen_deliveries_are_said_anew(admin: Client, endpoint: Endpoint) -> None:
    make_attempts(2)
    first, second = Delivery.objects.order_by("pk")
    Event.objects.filter(pk=second.event_id).update(resource="gone")

    shown = act(admin, "delivery", "say_anew", first.pk, second.pk)

    assert "1 delivery is said anew." in shown
    assert "nothing can be said any more" in shown
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.state, second.state) == ("dead", "waiting")
    assert Event.objects.get(pk=first.replaced_by).data["id"] == first.event.data["id"]


def test_of_all_that_were_chosen_something_can_be_said(admin: Client, endpoint: Endpoint) -> None:
    make_attempts(1)

    shown = act(admin, "delivery", "say_anew", Delivery.objects.get().pk)

    assert "1 delivery is said anew." in shown
    assert "nothing can be said any more" not in shown


def test_replaying_needs_the_permission_to_change_deliveries(endpoint: Endpoint) -> None:
    user = User.objects.create(username="viewer", is_staff=True)
    for name in ("view_delivery", "view_endpoint", "change_endpoint"):
        user.user_permissions.add(Permission.objects.get(codename=name))
    client = Client()
    client.force_login(user)
    make_attempts(1)
    died()

    act(client, "endpoint", "replay_failed", endpoint.pk)
    act(client, "delivery", "say_anew", Delivery.objects.get().pk)

    assert set(Delivery.objects.values_list("state", flat=True)) == {"dead"}
    assert Event.objects.count() == 1
