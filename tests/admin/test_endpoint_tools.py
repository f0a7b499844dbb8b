"""What an operator does with an endpoint, and what it costs to look at many."""

import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Any, Never

import pytest
from cryptography.fernet import Fernet
from django.contrib.admin.models import LogEntry
from django.core.signals import got_request_exception
from django.db.models.signals import pre_save
from django.http import HttpRequest
from django.test import Client, override_settings
from django.utils import timezone
from django.views.debug import ExceptionReporter

from drf_webhooks import rotation, secret_keys
from drf_webhooks.admin import EndpointAdmin
from drf_webhooks.admin.health import condition
from drf_webhooks.endpoint_counts import counts, last_success
from drf_webhooks.models import Delivery, Endpoint, EndpointHealth
from tests.admin.conftest import Staff, act, do, form, make_attempt, make_delivery, url

HOUR = timedelta(hours=1)


def asked(client: Client, endpoint: Endpoint, tool: str = "rotate") -> dict[str, Any]:
    """What the form of a tool begins with."""
    initial: dict[str, Any] = (
        client.get(url("endpoint_tool", endpoint.pk, tool)).context["form"].initial
    )
    return initial


def test_a_secret_is_replaced_with_an_overlap(admin: Client, endpoint: Endpoint) -> None:
    old = endpoint.secret

    shown = do(admin, "endpoint", endpoint, "rotate", overlap="72", **asked(admin, endpoint))

    endpoint.refresh_from_db()
    (kept,) = endpoint.old_secrets
    assert kept.secret == old
    assert timedelta(hours=71) < kept.expires_at - timezone.now() < timedelta(hours=73)
    assert shown.text.count(endpoint.secret) == 1
    assert old not in shown.text
    assert "A secret of before is valid until" in shown.text
    assert "no-store" in shown.headers["cache-control"]
    assert endpoint.secret not in str(list(LogEntry.objects.values()))


def test_a_form_that_is_sent_twice_replaces_once(admin: Client, endpoint: Endpoint) -> None:
    form = {"overlap": "24", **asked(admin, endpoint)}
    do(admin, "endpoint", endpoint, "rotate", **form)
    endpoint.refresh_from_db()
    first = endpoint.secret

    again = do(admin, "endpoint", endpoint, "rotate", **form)

    endpoint.refresh_from_db()
    assert endpoint.secret == first
    assert "was replaced meanwhile" in again.text
    assert first not in again.text


def test_a_secret_that_has_leaked_is_forgotten_with_all_before(
    admin: Client, endpoint: Endpoint
) -> None:
    rotation.rotate_secret(endpoint)

    shown = do(admin, "endpoint", endpoint, "rotate", overlap="leaked", **asked(admin, endpoint))

    endpoint.refresh_from_db()
    assert endpoint.old_secrets == ()
    assert endpoint.secret in shown.text


def test_a_key_pair_is_made_and_its_public_half_shown(admin: Client, endpoint: Endpoint) -> None:
    form = {"overlap": "1", "signature": "v1a", **asked(admin, endpoint)}

    shown = do(admin, "endpoint", endpoint, "rotate", **form)

    endpoint.refresh_from_db()
    assert endpoint.public_key is not None
    assert endpoint.public_key in shown.text
    assert endpoint.secret not in shown.text
    page = admin.get(url("endpoint_change", endpoint.pk)).text
    assert endpoint.public_key in page
    assert "/do/reveal/" not in page


def test_too_many_rotations_say_when_the_next_is_possible(
    admin: Client, endpoint: Endpoint
) -> None:
    for _ in range(5):
        rotation.rotate_secret(endpoint)

    shown = do(admin, "endpoint", endpoint, "rotate", overlap="24", **asked(admin, endpoint))

    assert "old secrets that are still valid" in shown.text


def test_old_secrets_are_revoked(admin: Client, endpoint: Endpoint) -> None:
    assert "/do/revoke/" not in admin.get(url("endpoint_change", endpoint.pk)).text
    rotation.rotate_secret(endpoint)
    assert "/do/revoke/" in admin.get(url("endpoint_change", endpoint.pk)).text

    shown = do(admin, "endpoint", endpoint, "revoke")

    endpoint.refresh_from_db()
    assert endpoint.old_secrets == ()
    assert "1 old secret is revoked." in shown.text


@pytest.mark.security
def test_a_secret_is_revealed_by_permission_and_that_is_written_down(
    staff: Staff, endpoint: Endpoint
) -> None:
    client = staff("view_endpoint", "reveal_secret")
    assert endpoint.secret not in client.get(url("endpoint_tool", endpoint.pk, "reveal")).text

    shown = do(client, "endpoint", endpoint, "reveal")

    assert shown.text.count(endpoint.secret) == 1
    assert "It is shown this once" not in shown.text
    assert shown.headers["referrer-policy"] == "no-referrer"
    entry = LogEntry.objects.get()
    assert (entry.user.username, entry.change_message) == ("staff", "The secret was shown.")
    assert endpoint.secret not in client.get(url("endpoint_history", endpoint.pk)).text


def test_a_secret_that_is_lost_has_no_button_to_show_it(admin: Client) -> None:
    with override_settings(DRF_WEBHOOKS={"ENCRYPTION_KEYS": [_fernet()]}):
        endpoint = Endpoint.objects.create(url="https://a.example/", event_types=["*"])
        rotation.rotate_secret(endpoint)

    shown = admin.get(url("endpoint_change", endpoint.pk)).text

    assert "They cannot be read." in shown
    assert "/do/reveal/" not in shown
    assert "/do/revoke/" not in shown
    found = do(admin, "endpoint", endpoint, "reveal")
    assert "was encrypted with the key" in found.text
    leaked = {"overlap": "leaked", "signature": "v1", **asked(admin, endpoint)}
    do(admin, "endpoint", endpoint, "rotate", **leaked)
    assert Endpoint.objects.get().secret.startswith("whsec_")


def _fernet() -> str:
    return Fernet.generate_key().decode()


def test_an_endpoint_is_disabled_with_a_reason_and_enabled_again(
    admin: Client, endpoint: Endpoint
) -> None:
    delivery = make_delivery()
    do(admin, "endpoint", endpoint, "disable", reason="They move.")
    endpoint.refresh_from_db()
    assert endpoint.disabled_reason == "Disabled by admin in the admin. They move."
    # The button of a page that was open is too late, and says nothing new.
    do(admin, "endpoint", endpoint, "disable", reason="Another.")
    assert Endpoint.objects.get().disabled_reason.endswith("They move.")

    shown = do(admin, "endpoint", endpoint, "enable", waiting="skip")

    assert "The endpoint is enabled." in shown.text
    delivery.refresh_from_db()
    assert (Endpoint.objects.get().state, delivery.state) == ("enabled", "dead")
    before = LogEntry.objects.count()
    do(admin, "endpoint", endpoint, "enable", waiting="skip")
    assert LogEntry.objects.count() == before


def test_what_is_to_become_of_what_waits_has_to_be_said(admin: Client, endpoint: Endpoint) -> None:
    Endpoint.objects.update(state="disabled")

    shown = do(admin, "endpoint", endpoint, "enable", waiting="explode")

    assert "Please correct the error below." in shown.text
    assert Endpoint.objects.get().state == "disabled"


def test_a_pause_is_ended(admin: Client, endpoint: Endpoint) -> None:
    assert "/do/recover/" not in admin.get(url("endpoint_change", endpoint.pk)).text
    EndpointHealth.objects.create(
        endpoint=endpoint, is_clean=False, paused_until=timezone.now() + HOUR, ramp=1
    )
    assert "/do/recover/" in admin.get(url("endpoint_change", endpoint.pk)).text

    do(admin, "endpoint", endpoint, "recover")

    assert EndpointHealth.objects.get().paused_until is None


def test_the_page_of_a_test_looks_for_its_result(admin: Client, endpoint: Endpoint) -> None:
    answer = admin.post(url("endpoint_tool", endpoint.pk, "send-test"))

    where = answer.headers["location"]
    delivery = Delivery.objects.get()
    assert where.endswith(f"/delivery/{delivery.pk}/change/?watch=15")
    shown = admin.get(where)
    assert shown.headers["refresh"].endswith("watch=14")
    assert "looks again every 2 seconds" in shown.text
    last = admin.get(url("delivery_change", delivery.pk, watch=0))
    assert "refresh" not in last.headers
    assert "Does a worker run?" in last.text
    Delivery.objects.update(state="delivered", due_at=None)
    done = admin.get(where)
    assert "refresh" not in done.headers
    assert "every 2 seconds" not in done.text


def test_who_may_not_see_deliveries_sends_a_test_all_the_same(
    staff: Staff, endpoint: Endpoint
) -> None:
    client = staff("change_endpoint")

    shown = do(client, "endpoint", endpoint, "send-test")

    assert shown.status_code == 200
    assert "Change endpoint" in shown.text
    assert Delivery.objects.count() == 1


def test_what_died_is_sent_again_for_one_endpoint(admin: Client, endpoint: Endpoint) -> None:
    now = timezone.now()
    new = make_delivery(state="dead", due_at=None, settled_at=now - HOUR / 2)
    old = make_delivery(state="dead", due_at=None, settled_at=now - 2 * HOUR)

    shown = do(admin, "endpoint", endpoint, "replay", since=1)

    new.refresh_from_db()
    old.refresh_from_db()
    assert "1 delivery is due now." in shown.text
    assert (new.state, old.state) == ("waiting", "dead")


@pytest.mark.parametrize(
    ("fields", "word", "said"),
    [
        pytest.param({"is_clean": True}, "healthy", "", id="clean"),
        pytest.param({"failing_since": -HOUR}, "failing", "failing since", id="failing"),
        pytest.param(
            {"failing_since": -HOUR, "paused_until": HOUR, "ramp": 1},
            "paused",
            "until",
            id="paused",
        ),
        pytest.param(
            {"paused_until": HOUR, "ramp": 2, "round_left": 1}, "recovering", "2", id="a round"
        ),
        pytest.param({"paused_until": -HOUR, "ramp": 4}, "recovering", "4 at once", id="ramp"),
        pytest.param({"types": {"a.b": {}}}, "refuses types", "a.b", id="types"),
        pytest.param({"window_total": 3}, "healthy", "", id="counted"),
    ],
)
def test_an_endpoints_health_is_a_word(
    fields: dict[str, Any], word: str, said: str, endpoint: Endpoint
) -> None:
    now = timezone.now()
    given = {
        key: now + value if isinstance(value, timedelta) else value for key, value in fields.items()
    }
    EndpointHealth.objects.create(endpoint=endpoint, **{"is_clean": False, **given})

    found = condition(Endpoint.objects.select_related("health").get(), now)

    assert found.word == word
    assert said in " ".join(found.more)
    assert bool(found.more) is bool(said)


def test_a_disabled_endpoint_says_why_and_since_when_it_failed(endpoint: Endpoint) -> None:
    endpoint.state, endpoint.disabled_reason = "disabled", "Gone."
    now = timezone.now()

    assert condition(endpoint, now).more == ("Gone.",)
    EndpointHealth.objects.create(endpoint=endpoint, is_clean=False, failing_since=now)
    assert "failing since" in condition(endpoint, now).more[1]
    endpoint.disabled_reason = ""
    assert len(condition(endpoint, now).more) == 1


def test_endpoints_are_found_by_how_they_are(admin: Client, endpoint: Endpoint) -> None:
    now = timezone.now()
    made = {"healthy": endpoint}
    for name, state, fields in (
        ("failing", "enabled", {"failing_since": now}),
        ("paused", "enabled", {"paused_until": now + HOUR}),
        ("disabled", "disabled", {}),
    ):
        made[name] = Endpoint.objects.create(url=f"https://{name}.example/", state=state)
        EndpointHealth.objects.create(endpoint=made[name], is_clean=False, **fields)

    for name, row in made.items():
        listed = admin.get(url("endpoint_changelist", health=name)).context["cl"].result_list
        assert list(listed) == [row]
    assert len(admin.get(url("endpoint_changelist", health="x")).context["cl"].result_list) == 4


def test_endpoints_are_found_by_a_part_of_what_they_say(admin: Client, endpoint: Endpoint) -> None:
    Endpoint.objects.create(url="https://b.example/", description="CRM", event_types=["x.*"])

    def found(term: str) -> list[str]:
        rows = admin.get(url("endpoint_changelist", q=term)).context["cl"].result_list
        return sorted(each.url for each in rows)

    assert found("https://b") == ["https://b.example/"]
    assert found("crm+b.ex") == ["https://b.example/"]
    assert found("deposit") == ["https://a.example/"]
    assert found(str(endpoint.pk)) == ["https://a.example/"]
    assert found("nothing") == []


def test_an_endpoints_counts_are_its_own(endpoint: Endpoint) -> None:
    other = Endpoint.objects.create(url="https://b.example/", event_types=["core.deposit.*"])
    now = timezone.now()
    for number, status in ((1, 500), (2, 200), (3, 204)):
        delivery = make_delivery()
        make_attempt(
            Delivery.objects.get(event=delivery.event_id, endpoint=endpoint),
            number=number,
            status=status,
            started_at=now + timedelta(seconds=number),
        )
    mine = Delivery.objects.filter(endpoint=endpoint).order_by("pk")
    mine.filter(pk=mine[0].pk).update(state="dead", due_at=None, settled_at=now)
    mine.filter(pk=mine[1].pk).update(state="delivered", due_at=None, settled_at=now)

    found = counts([endpoint.pk, other.pk], using="default")

    assert counts([], using="default") == {}
    assert (str(found[endpoint.pk].waiting), str(found[endpoint.pk].dead)) == ("1", "1")
    assert (found[endpoint.pk].attempts, found[endpoint.pk].succeeded) == (3, 2)
    assert found[endpoint.pk].last_success_at == now + timedelta(seconds=3)
    assert (str(found[other.pk].waiting), found[other.pk].attempts) == ("3", 0)
    assert last_success(endpoint.pk, using="default") == now
    assert last_success(other.pk, using="default") is None


def test_more_than_a_person_reads_is_not_counted(
    admin: Client, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drf_webhooks.endpoint_counts._MOST_WAITING", 2)
    monkeypatch.setattr("drf_webhooks.endpoint_counts.LIMIT", 1)
    for _ in range(3):
        make_delivery()
    dead = make_delivery(state="dead", due_at=None, settled_at=timezone.now())
    for number in (1, 2):
        make_attempt(dead, number=number)

    assert counts([endpoint.pk], using="default")[endpoint.pk].attempts == 1
    shown = admin.get(url("endpoint_changelist")).text

    assert ">2+</a>" in shown
    assert ">1+</a>" in shown


def test_the_last_success_of_a_quiet_endpoint_is_on_its_page(
    admin: Client, endpoint: Endpoint
) -> None:
    at = datetime(2026, 1, 2, 12, tzinfo=UTC)
    make_delivery(state="delivered", due_at=None, settled_at=at)

    assert "2026-01-02" in admin.get(url("endpoint_change", endpoint.pk)).text
    assert "2026-01-02" not in admin.get(url("endpoint_changelist")).text


def test_an_endpoint_is_deleted_with_its_deliveries(admin: Client, endpoint: Endpoint) -> None:
    make_attempt(make_delivery())

    asked = admin.get(url("endpoint_delete", endpoint.pk)).text
    assert "Deliveries: 1" in asked
    admin.post(url("endpoint_delete", endpoint.pk), {"post": "yes"})

    assert not Endpoint.objects.exists()
    assert not Delivery.objects.exists()


def test_an_endpoint_with_very_many_deliveries_is_not_deleted_in_a_request(
    admin: Client, staff: Staff, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Endpoint.objects.create(url="https://b.example/", event_types=["x"])
    monkeypatch.setattr("drf_webhooks.admin.endpoints._MOST_DELETED", 1)
    make_delivery()
    make_delivery()

    asked = admin.post(url("endpoint_delete", endpoint.pk), {"post": "yes"}).text
    act(admin, "endpoint", "delete_selected", endpoint, other, post="yes")

    assert "More than 1 deliveries would have to be deleted" in asked
    assert Endpoint.objects.count() == 2
    act(admin, "endpoint", "delete_selected", other, post="yes")
    assert Endpoint.objects.count() == 1


def test_a_new_endpoint_is_sent_json(admin: Client) -> None:
    form = admin.get(url("endpoint_add")).context["adminform"].form

    assert form["format"].initial == "json"
    assert secret_keys.PREFIX not in str(form)


@pytest.mark.parametrize("action", sorted({*EndpointAdmin.actions} - {"rotate_secret"}))
def test_too_many_endpoints_are_not_changed_in_one_request(
    action: str, admin: Client, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EndpointAdmin, "most_chosen", 1)
    Endpoint.objects.create(url="https://b.example/", state="disabled")
    before = list(Endpoint.objects.order_by("pk").values_list("state", "updated_at"))

    shown = act(admin, "endpoint", action, endpoint, select_across="1")

    assert "Choose 1 at most." in shown.text
    assert list(Endpoint.objects.order_by("pk").values_list("state", "updated_at")) == before
    assert not LogEntry.objects.exists()
    assert not Delivery.objects.exists()


def test_only_pauses_that_there_are_are_ended(admin: Client, endpoint: Endpoint) -> None:
    well = Endpoint.objects.create(url="https://b.example/")
    EndpointHealth.objects.create(
        endpoint=endpoint, is_clean=False, paused_until=timezone.now() + HOUR
    )

    shown = act(admin, "endpoint", "recover", endpoint, well)

    assert "1 endpoint is tried." in shown.text
    assert [each.object_id for each in LogEntry.objects.all()] == [str(endpoint.pk)]


def test_a_page_with_a_mistake_in_its_form_counts_all_the_same(
    admin: Client, endpoint: Endpoint
) -> None:
    make_delivery()
    where = url("endpoint_change", endpoint.pk)

    shown = [admin.get(where).text, admin.post(where, {"url": "nonsense"}).text]

    for each in shown:
        numbers = re.findall(r'readonly"><a href=".*?state=waiting">(\d+)<', each)
        assert numbers == ["1"]
    assert "errorlist" in shown[1]


@pytest.mark.security
def test_a_report_of_an_error_has_nothing_of_the_form_that_is_secret(admin: Client) -> None:
    reports: list[str] = []

    def fail(**_about: Any) -> Never:
        # As a receiver of the project may.
        raise LookupError

    def report(request: HttpRequest, **_about: Any) -> None:
        reporter = ExceptionReporter(request, *sys.exc_info())
        reports.extend((reporter.get_traceback_text(), reporter.get_traceback_html()))

    secret = secret_keys.generate("v1")
    given = form(headers="X-Api-Key: k3y", secret=secret)
    admin.raise_request_exception = False
    got_request_exception.connect(report)
    pre_save.connect(fail, sender=Endpoint)
    try:
        answer = admin.post(url("endpoint_add"), given)
    finally:
        pre_save.disconnect(fail, sender=Endpoint)
        got_request_exception.disconnect(report)

    assert answer.status_code == 500
    for each in reports:
        assert "https://a.example/" in each
        assert "k3y" not in each
        assert secret.removeprefix("whsec_").rstrip("=") not in each
    assert len(reports) == 2
