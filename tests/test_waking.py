"""The hook: an engine is woken once for a commit, in no request's time, for no rollback."""

import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from django.conf import settings
from django.core import checks
from django.db import connection, transaction
from django.test import TestCase, override_settings

from drf_webhooks import waking
from drf_webhooks.models import Delivery, Endpoint
from drf_webhooks.pipeline import release_due
from drf_webhooks.registry import registry
from drf_webhooks.resources import ModelSerializerWebhook
from drf_webhooks.session import disable_webhooks, webhook_signal_session
from drf_webhooks.waking import Waker, flush
from tests.app.models import Deposit, Tenant
from tests.app.serializers import TenantSerializer
from tests.factories import make_deposit


class Noting:
    """Notes when it is woken, and does what a test tells it to."""

    woken: ClassVar[list[str]] = []
    act: ClassVar[Callable[[], object]] = staticmethod(lambda: None)

    def wake(self, using: str) -> None:
        self.woken.append(using)
        type(self).act()


class Sleepless:
    """Cannot be woken: it has no method for that."""


def with_engine(path: str) -> Any:
    return override_settings(DRF_WEBHOOKS={**settings.DRF_WEBHOOKS, "ENGINE": path})


NOTING = f"{__name__}.Noting"


@pytest.fixture
def woken() -> Iterator[list[str]]:
    """What the engine was woken for."""
    flush()
    Noting.woken.clear()
    Noting.act = staticmethod(lambda: None)
    with with_engine(NOTING):
        yield Noting.woken
        Noting.act = staticmethod(lambda: None)
        assert flush(timedelta(seconds=10))


@pytest.fixture
def deposit(transactional_db: None, everything: Endpoint) -> Deposit:
    with disable_webhooks():
        return make_deposit()


def told(woken: list[str]) -> list[str]:
    assert flush(timedelta(seconds=10))
    return list(woken)


def test_an_engine_is_woken_once_for_a_transaction(deposit: Deposit, woken: list[str]) -> None:
    with transaction.atomic():
        for amount in range(5):
            deposit.amount = amount
            deposit.save()
        deposit.landlord.name = "Somebody"
        deposit.landlord.save()
        assert told(woken) == []

    assert told(woken) == ["default"]

    deposit.save()

    assert told(woken) == ["default", "default"]


def test_nothing_is_woken_for_what_was_rolled_back(deposit: Deposit, woken: list[str]) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        deposit.save()
        raise ZeroDivisionError
    with transaction.atomic(), webhook_signal_session():
        deposit.save()
        transaction.set_rollback(True)

    assert told(woken) == []


def test_nothing_is_woken_for_a_savepoint_that_was_rolled_back(
    deposit: Deposit, woken: list[str]
) -> None:
    with transaction.atomic():
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            with webhook_signal_session():
                # Its events are written as the session ends, inside the savepoint.
                deposit.save()
            raise ZeroDivisionError
        with transaction.atomic():
            pass

    assert told(woken) == []


def test_what_a_released_savepoint_has_stored_wakes_at_the_commit(
    deposit: Deposit, woken: list[str]
) -> None:
    with transaction.atomic():
        with transaction.atomic(), webhook_signal_session():
            deposit.save()
        assert told(woken) == []

    assert told(woken) == ["default"]


def test_nothing_is_woken_for_what_nobody_wants_to_hear(
    transactional_db: None, woken: list[str]
) -> None:
    make_deposit()

    assert told(woken) == []


def test_held_events_wake_once_when_they_are_released(deposit: Deposit, woken: list[str]) -> None:
    with webhook_signal_session():
        for amount in range(3):
            deposit.amount = amount
            deposit.save()
        assert told(woken) == []

    assert told(woken) == ["default"]


def test_what_is_left_to_the_worker_wakes_it(deposit: Deposit, woken: list[str]) -> None:
    with registry.isolated():
        type(
            "SomeWebhook",
            (ModelSerializerWebhook,),
            {"serializer_class": TenantSerializer, "serialize": "deferred"},
        )
        Tenant.objects.create(name="Ada")
        assert told(woken) == ["default"]
        release_due()

    assert told(woken) == ["default", "default"]


def test_a_commit_by_hand_wakes(deposit: Deposit, woken: list[str]) -> None:
    transaction.set_autocommit(False)
    try:
        with webhook_signal_session():
            deposit.save()
        assert told(woken) == []
    finally:
        transaction.commit()
        transaction.set_autocommit(True)

    assert told(woken) == ["default"]


@pytest.mark.skipif(connection.vendor == "postgresql", reason="its driver refuses that")
def test_turning_autocommit_on_is_a_commit(deposit: Deposit, woken: list[str]) -> None:
    transaction.set_autocommit(False)
    with webhook_signal_session():
        deposit.save()
    transaction.set_autocommit(True)

    assert told(woken) == ["default"]


def test_a_callback_of_others_that_raises_is_no_hindrance(
    deposit: Deposit, woken: list[str]
) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), transaction.atomic():
        deposit.save()
        transaction.on_commit(fail)

    assert told(woken) == ["default"]


def test_sending_again_wakes_when_it_is_committed(deposit: Deposit, woken: list[str]) -> None:
    deposit.save()
    assert told(woken) == ["default"]

    with transaction.atomic():
        assert Delivery.objects.all().send_again() == 1
        assert told(woken) == ["default"]

    assert told(woken) == ["default", "default"]


def test_waking_costs_no_statement(deposit: Deposit, woken: list[str]) -> None:
    deposit.save()  # what is asked for once
    counts = []
    for engine in (None, NOTING):
        with with_engine(engine):
            seen: list[str] = []

            def note(execute: Any, sql: str, *rest: Any, seen: list[str] = seen) -> Any:
                seen.append(sql)
                return execute(sql, *rest)

            with connection.execute_wrapper(note):
                deposit.save()
            counts.append(len(seen))
            flush(timedelta(seconds=10))

    assert counts[0] == counts[1]


class InATestCase(TestCase):
    """Whose transactions never commit: its blocks count."""

    def setUp(self) -> None:
        Endpoint.objects.create(url="https://receiver.example/", event_types=["*"])
        with disable_webhooks():
            self.deposit = make_deposit()
        assert flush(timedelta(seconds=10))
        Noting.woken.clear()

    def test_the_end_of_a_block_wakes(self) -> None:
        with with_engine(NOTING):
            with transaction.atomic():
                self.deposit.save()
                assert told(Noting.woken) == []
            Tenant.objects.count()  # the end is seen at the next statement

            assert told(Noting.woken) == ["default"]

    def test_a_save_wakes(self) -> None:
        with with_engine(NOTING):
            self.deposit.save()

            assert told(Noting.woken) == ["default"]

    def test_the_release_of_held_events_wakes_once(self) -> None:
        with with_engine(NOTING):
            with webhook_signal_session():
                self.deposit.save()
                self.deposit.save()
                assert told(Noting.woken) == []

            assert told(Noting.woken) == ["default"]

    def test_a_block_that_is_rolled_back_wakes_nobody(self) -> None:
        with with_engine(NOTING):
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                self.deposit.save()
                raise ZeroDivisionError
            Tenant.objects.count()

            assert told(Noting.woken) == []


def test_an_engine_that_hangs_delays_nobody(deposit: Deposit, woken: list[str]) -> None:
    is_over = threading.Event()
    Noting.act = staticmethod(lambda: is_over.wait(30))
    deposit.save()
    started = time.monotonic()
    for _ in range(20):
        deposit.save()
    took = time.monotonic() - started
    is_waiting = not flush(timedelta(0))
    is_over.set()

    assert is_waiting
    assert took < 10
    # All that came meanwhile is one wake-up.
    assert told(woken) == ["default", "default"]


def test_an_engine_that_fails_is_woken_again(
    deposit: Deposit, woken: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    failures = [ZeroDivisionError("no broker"), ZeroDivisionError("no broker")]

    def fail() -> None:
        if failures:
            raise failures.pop()

    Noting.act = staticmethod(fail)
    caplog.set_level(logging.WARNING)
    deposit.save()

    assert told(woken) == ["default"] * 3
    said = [each.getMessage() for each in caplog.records if each.name == "drf_webhooks.waking"]
    assert ["could not be woken" in said[0], "is woken again" in said[1]] == [True, True]
    assert len(said) == 2


def test_an_engine_that_was_turned_off_meanwhile_is_forgotten(
    deposit: Deposit, woken: list[str]
) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    Noting.act = staticmethod(fail)
    deposit.save()
    while not woken:
        flush(timedelta(milliseconds=10))
    with override_settings(DRF_WEBHOOKS={**settings.DRF_WEBHOOKS, "ENGINE": None}):
        assert flush(timedelta(seconds=10))


def test_without_threads_nothing_breaks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    waker = Waker()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        waker.wake("default")

    assert "can't start new thread" in caplog.text
    # And the next one finds the thread.
    waker.wake("default")
    assert waker.flush(timedelta(seconds=10))


def test_a_child_keeps_its_parents_engine_alive(woken: list[str]) -> None:
    waker = Waker()
    waker.wake("default")
    assert waker.flush(timedelta(seconds=10))
    engine = waker._engine
    waker.begin_anew()

    assert engine is not None
    assert waker._engine is None
    assert waker._inherited == [engine]


def test_a_process_that_ends_does_not_wait_for_an_engine_that_fails() -> None:
    waker = Waker()
    with with_engine("tests.there_is.NoSuchEngine"):
        waker.wake("default")
        started = time.monotonic()
        is_told = waker.flush(timedelta(seconds=30), is_last=True)

    assert not is_told
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("failures", [0, 1, 2, 5, 1000])
def test_pauses_are_bounded(failures: int) -> None:
    assert 0 < waking._pause(failures) <= 30


#: What a process of a test does: an engine that writes into a file whom it has woken.
_PROGRAM = """
import os, sys, threading, time
from django.conf import settings
settings.configure(DRF_WEBHOOKS={{"ENGINE": "engine_of_a_test.Writing"}})
from drf_webhooks import waking

class Writing:
    def wake(self, using):
        {act}
        with open(os.environ["WOKEN"], "a") as file:
            file.write(f"{{os.getpid() == PARENT}} {{using}}\\n")

sys.modules["engine_of_a_test"] = sys.modules["__main__"]
PARENT = os.getpid()
"""


def run(code: str, path: Any, *, act: str = "pass") -> list[str]:
    program = _PROGRAM.format(act=act) + textwrap.dedent(code)
    done = subprocess.run(  # noqa: S603  # our own code
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        env={**os.environ, "PYTHONPATH": "src:.", "WOKEN": str(path)},
        timeout=60,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return path.read_text().split("\n")[:-1] if path.exists() else []


def test_a_process_that_ends_hands_over_its_last_wake_up(tmp_path: Any) -> None:
    code = "waking.wake('other')"

    assert run(code, tmp_path / "woken", act="time.sleep(0.3)") == ["True other"]


def test_a_process_ends_although_its_engine_hangs(tmp_path: Any) -> None:
    started = time.monotonic()

    assert run("waking.wake()", tmp_path / "woken", act="time.sleep(60)") == []
    assert time.monotonic() - started < 30


def test_a_process_that_was_forked_has_a_thread_of_its_own(tmp_path: Any) -> None:
    code = """
        waking.wake("parent")
        waking.flush()
        if os.fork() == 0:
            waking.wake("child")
            os._exit(0 if waking.flush() else 1)
        assert os.wait()[1] == 0
        waking.wake("parent again")
    """

    assert run(code, tmp_path / "woken") == ["True parent", "False child", "True parent again"]


def test_a_fork_while_the_engine_hangs_leaves_the_child_free(tmp_path: Any) -> None:
    code = """
        waking.wake("hangs")
        while not waking._waker._is_telling:
            time.sleep(0.01)
        with waking._waker._changed:
            child = os.fork()
        if child == 0:
            waking.wake("child")
            os._exit(0 if waking.flush() else 1)
        assert os.waitpid(child, 0)[1] == 0
        os._exit(0)
    """

    act = "using == 'hangs' and time.sleep(60)"
    assert run(code, tmp_path / "woken", act=act) == ["False child"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("tests.there_is.NoSuchEngine", "ModuleNotFoundError"),
        ("tests.test_waking.NoSuchEngine", "ImportError"),
        ("tests.test_waking.Sleepless", "AttributeError"),
        ("nothing", "ImportError"),
    ],
)
def test_what_is_no_engine_is_named(path: str, said: str) -> None:
    with with_engine(path):
        (found,) = checks.run_checks(tags=["drf_webhooks"], app_configs=None)[-1:]

    assert found.id == "drf_webhooks.E110"
    assert repr(path) in found.msg
    assert said in found.msg


def test_an_engine_may_find_mistakes_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    own = checks.Warning("Somewhat tired.", id="tests.W001")
    monkeypatch.setattr(Noting, "check", lambda _: [own], raising=False)

    with with_engine(NOTING):
        assert own in checks.run_checks(tags=["drf_webhooks"])
    with override_settings(DRF_WEBHOOKS={"ENGINE": 1}):
        assert own not in checks.run_checks(tags=["drf_webhooks"])
