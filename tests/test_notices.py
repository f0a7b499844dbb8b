"""Notices about endpoints: nobody misses one, and nobody gets one twice."""

import contextlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.db import DatabaseError, connection
from django.dispatch import Signal
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from drf_webhooks import endpoints, signals
from drf_webhooks.event_types import OPERATIONAL
from drf_webhooks.mail import mail_owner
from drf_webhooks.models import Delivery, Endpoint, Event, Notice
from drf_webhooks.notices import Teller, tell
from tests.e2e.test_death import wait_until
from tests.factories import make_user

pytestmark = pytest.mark.django_db(transaction=True)

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

handled: list[str] = []
failures: list[Exception] = []


def handler(notice: Notice) -> None:
    """A project's function, whose mail server may be down."""
    if failures:
        raise failures.pop()
    handled.append(notice.kind)


@pytest.fixture(autouse=True)
def forgotten() -> None:
    handled.clear()
    failures.clear()


by_handler = override_settings(
    DRF_WEBHOOKS={"NOTICE_HANDLER": f"{__name__}.handler", "ALLOWED_NETWORKS": ["127.0.0.0/8"]}
)


def make_endpoint(**fields: Any) -> Endpoint:
    return Endpoint.objects.create(**{"url": "https://a.example/", "event_types": ["*"], **fields})


def make_notice(endpoint: Endpoint, kind: str = "failing", **fields: Any) -> Notice:
    common = {"reason": "Why.", "failing_since": NOON, "created_at": NOON, "due_at": NOON}
    return Notice.objects.create(endpoint=endpoint, kind=kind, **{**common, **fields})


@contextlib.contextmanager
def heard(signal: Signal) -> Iterator[list[dict[str, Any]]]:
    """Give a list of what a signal said."""
    found: list[dict[str, Any]] = []

    def hear(sender: Any, **said: Any) -> None:
        found.append({"sender": sender, **said})

    signal.connect(hear)
    yield found
    signal.disconnect(hear)


def said() -> list[tuple[str, str]]:
    """Return what was recorded for whom."""
    rows = Delivery.objects.order_by("pk").select_related("event", "endpoint")
    return [(each.event.type, each.endpoint.url) for each in rows]


@pytest.mark.parametrize(
    ("kind", "signal"),
    [
        ("failing", signals.endpoint_failing),
        ("type_failing", signals.endpoint_type_failing),
        ("disabled", signals.endpoint_disabled),
        ("enabled", signals.endpoint_enabled),
    ],
)
@by_handler
def test_each_kind_has_a_signal_an_event_and_the_handler(kind: str, signal: Signal) -> None:
    owner = make_user()
    endpoint = make_endpoint(owner=owner, url="https://a.example/hook?token=1")
    make_endpoint(owner=owner, url="https://b.example/", event_types=[f"webhooks.endpoint.{kind}"])
    notice = make_notice(endpoint, kind)

    with heard(signal) as found:
        assert tell() == 1
        assert tell() == 0

    assert found == [{"sender": Endpoint, "signal": signal, "endpoint": endpoint, "notice": notice}]
    assert handled == [kind]
    assert said() == [(f"webhooks.endpoint.{kind}", "https://b.example/")]
    event = Event.objects.get()
    assert event.type in OPERATIONAL
    assert event.sequence == 1
    assert event.owner_id == owner.pk
    assert event.data["id"] == str(endpoint.pk)
    assert event.data["url"] == "https://a.example/hook"
    assert event.data["reason"] == "Why."


def test_the_event_goes_to_other_endpoints_of_the_same_owner_only() -> None:
    ada, bob = make_user(username="ada"), make_user(username="bob")
    failing = make_endpoint(owner=ada)
    make_endpoint(owner=ada, url="https://b.example/", state="disabled")
    make_endpoint(owner=ada, url="https://c.example/", event_types=["core.*"])
    make_endpoint(owner=ada, url="https://d.example/", event_types=["webhooks.*"])
    make_endpoint(owner=bob, url="https://e.example/")
    make_endpoint(url="https://f.example/")
    make_notice(failing)

    tell()

    assert said() == [("webhooks.endpoint.failing", "https://d.example/")]


def test_of_an_endpoint_without_an_owner_only_those_without_one_hear() -> None:
    failing = make_endpoint()
    make_endpoint(owner=make_user(), url="https://e.example/")
    make_endpoint(url="https://f.example/")
    make_notice(failing)

    tell()

    assert said() == [("webhooks.endpoint.failing", "https://f.example/")]


@by_handler
def test_d54_nothing_is_lost_when_the_handler_fails_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    make_endpoint(url="https://b.example/")
    notice = make_notice(make_endpoint(), "disabled")
    failures.append(OSError("no mail server"))
    with heard(signals.endpoint_disabled) as found:
        assert tell(now=NOON) == 0
        notice.refresh_from_db()
        assert notice.due_at == NOON + MINUTE
        assert notice.error == "OSError: no mail server"
        assert tell(now=NOON + MINUTE / 2) == 0
        assert tell(now=NOON + MINUTE) == 1
        assert tell(now=NOON + MINUTE * 1000) == 0

    assert handled == ["disabled"]
    assert len(found) == 1
    assert len(said()) == 1
    stored = Notice.objects.get()
    assert (stored.due_at, stored.error, stored.tries) == (None, "", 2)
    assert "tried again" in caplog.text


@by_handler
def test_d54_a_handler_that_never_works_is_tried_ever_more_seldom() -> None:
    notice = make_notice(make_endpoint())
    now = NOON
    waits = []
    for _ in range(6):
        failures.append(OSError())
        tell(now=now)
        notice.refresh_from_db()
        assert notice.due_at is not None
        waits.append((notice.due_at - now) // MINUTE)
        now = notice.due_at

    assert waits == [1, 5, 15, 60, 60, 60]


def test_d54_a_receiver_of_a_signal_that_raises_holds_nobody_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    make_notice(make_endpoint())

    def broken(**_: Any) -> None:
        raise ZeroDivisionError

    signals.endpoint_failing.connect(broken)
    try:
        assert tell() == 1
    finally:
        signals.endpoint_failing.disconnect(broken)

    assert "ZeroDivisionError" in caplog.text


@by_handler
def test_d54_of_two_processes_one_tells() -> None:
    make_notice(make_endpoint())
    calls: list[int] = []

    def meanwhile(execute: Any, sql: str, params: Any, many: Any, context: Any) -> Any:
        rows = execute(sql, params, many, context)
        if sql.startswith("SELECT") and "drf_webhooks_notice" in sql and not calls:
            calls.append(1)
            assert tell() == 1
        return rows

    with connection.execute_wrapper(meanwhile):
        assert tell() == 0

    assert handled == ["failing"]


@by_handler
def test_d54_whoever_dies_while_telling_is_followed_by_another() -> None:
    make_notice(make_endpoint())

    class KilledError(BaseException):
        pass

    def die(**_: Any) -> None:
        raise KilledError

    signals.endpoint_failing.connect(die)
    try:
        with pytest.raises(KilledError):
            tell(now=NOON)
    finally:
        signals.endpoint_failing.disconnect(die)

    assert tell(now=NOON + MINUTE) == 0
    assert tell(now=NOON + 5 * MINUTE) == 1
    assert handled == ["failing"]


def test_nothing_to_tell_costs_one_query() -> None:
    with CaptureQueriesContext(connection) as queries:
        assert tell() == 0

    assert len(queries) == 1


@by_handler
def test_a_teller_tells_in_a_thread_of_its_own() -> None:
    endpoint = make_endpoint()
    make_notice(endpoint)
    with Teller("default", interval=timedelta(seconds=0.01)):
        wait_until(lambda: handled == ["failing"])
        assert "drf_webhooks_notices" in {each.name for each in threading.enumerate()}
    make_notice(endpoint, "disabled")

    with Teller("default", interval=timedelta(hours=1)):
        pass

    assert handled == ["failing", "disabled"]


@pytest.mark.parametrize("error", [DatabaseError("gone"), ZeroDivisionError()])
@by_handler
def test_a_teller_goes_on_after_an_error(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    errors = [error]

    class Failing(Teller):
        def _tell_all(self) -> None:
            if errors:
                raise errors.pop()
            super()._tell_all()

    make_notice(make_endpoint())
    with Failing("default", interval=timedelta(seconds=0.01)):
        wait_until(lambda: handled == ["failing"])

    assert "later" in caplog.text or "tried again" in caplog.text


class BrokenOnce(EmailBackend):
    """A mail server that is down once."""

    is_down = True

    def send_messages(self, messages: Any) -> int:
        if BrokenOnce.is_down:
            BrokenOnce.is_down = False
            msg = "connection refused"
            raise OSError(msg)
        return super().send_messages(messages)


@override_settings(
    EMAIL_BACKEND=f"{__name__}.BrokenOnce",
    DRF_WEBHOOKS={"NOTICE_HANDLER": "drf_webhooks.mail.mail_owner"},
)
def test_d54_the_owner_gets_the_mail_though_the_server_fails_once() -> None:
    BrokenOnce.is_down = True
    endpoint = make_endpoint(
        owner=make_user(email="ada@example.org"), url="https://a.example/?key=secret"
    )
    make_notice(endpoint, "disabled", reason="Nothing was delivered.")

    assert tell(now=NOON) == 0
    assert tell(now=NOON + MINUTE) == 1

    (message,) = mail.outbox
    assert message.to == ["ada@example.org"]
    assert message.subject == "Your webhooks to a.example were disabled"
    assert "Nothing was delivered." in message.body
    assert "enable it again" in message.body
    assert "secret" not in message.body + message.subject


@pytest.mark.parametrize(
    ("kind", "subject"),
    [
        ("failing", "Your webhooks to a.example fail"),
        ("type_failing", "Your webhooks to a.example fail for one event type"),
        ("enabled", "Your webhooks to a.example were enabled"),
    ],
)
def test_each_kind_has_its_mail(kind: str, subject: str) -> None:
    mail_owner(make_notice(make_endpoint(owner=make_user(email="a@b.example")), kind, reason=""))

    (message,) = mail.outbox
    assert message.subject == subject
    assert ("2026-11-29" in message.body) is (kind == "failing")


@override_settings(DRF_WEBHOOKS={"DISABLE_AFTER": None})
def test_a_warning_names_no_day_if_nothing_is_ever_disabled() -> None:
    mail_owner(make_notice(make_endpoint(owner=make_user(email="a@b.example"))))

    assert "at the earliest" not in mail.outbox[0].body


@pytest.mark.parametrize("has_owner", [True, False])
def test_who_has_no_address_gets_no_mail(*, has_owner: bool) -> None:
    mail_owner(make_notice(make_endpoint(owner=make_user() if has_owner else None)))

    assert mail.outbox == []


def test_what_a_person_does_is_said_too() -> None:
    endpoint = make_endpoint()
    with heard(signals.endpoint_disabled) as disabled, heard(signals.endpoint_enabled) as enabled:
        endpoints.disable(endpoint, "Not needed.")
        endpoints.enable(endpoint)
        tell()

    assert [each["notice"].reason for each in disabled] == ["Not needed."]
    assert len(enabled) == 1
