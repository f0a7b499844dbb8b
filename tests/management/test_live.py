"""What a worker shows: on a terminal a line that changes, elsewhere a line now and then."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any, Self

import pytest
from django.core.management.base import OutputWrapper
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from drf_webhooks.management.live import Live
from drf_webhooks.management.terminal import Line
from drf_webhooks.models import Delivery, Endpoint
from drf_webhooks.session import disable_webhooks
from drf_webhooks.testing import WebhookReceiver
from tests.app.models import Deposit
from tests.e2e.test_death import _SETUP, environment, wait_until
from tests.factories import make_deposit
from tests.terminals import terminal
from tests.test_status import MINUTE, make_deliveries, make_endpoint

pytestmark = pytest.mark.django_db(transaction=True)

MILLISECOND = timedelta(milliseconds=1)


class Work:
    """A worker as far as it is shown."""

    attempts = 0
    in_air = 7


def show(live: Live, until: Callable[[], bool]) -> None:
    async def main() -> None:
        task = asyncio.create_task(live.run())
        async with asyncio.timeout(30):
            while not until():  # noqa: ASYNC110  # of another thread
                await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())


class Statements:
    """Counts the statements of every connection that is opened from now on."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        connection_created.connect(self._follow)
        return self

    def __exit__(self, *_: object) -> None:
        connection_created.disconnect(self._follow)

    def _follow(self, connection: BaseDatabaseWrapper, **_: object) -> None:
        connection.execute_wrappers.append(self._count)

    def _count(self, execute: Any, sql: str, *arguments: Any) -> Any:
        self.count += "drf_webhooks" in sql
        return execute(sql, *arguments)


def test_a_line_is_redrawn_often_and_the_database_asked_seldom() -> None:
    make_deliveries(make_endpoint(), 3, due=5 * MINUTE)
    with (
        terminal() as shown,
        open(shown.descriptor, "w", closefd=False) as stream,
        Statements() as statements,
    ):
        line = Line(OutputWrapper(stream))
        live = Live(Work(), line, using="default", redrawn=MILLISECOND)
        show(live, lambda: shown.text.count("in the air") > 20)

    assert "0/s, 7 in the air, 3 waiting, oldest 5m" in shown.text
    # What stood there is gone when it ends.
    assert shown.screen == [""]
    # Of a terminal's line each second, one in five asks, by one statement.
    assert statements.count == 4  # once, one for each lane


def test_a_rate_is_that_since_the_line_before() -> None:
    work, clock = Work(), iter([0.0, 2.0, 4.0])
    out = StringIO()
    line = Line(OutputWrapper(out), every=timedelta(0))
    live = Live(work, line, using="default", clock=lambda: next(clock), asked=MINUTE)
    work.attempts = 50

    asyncio.run(live._show())
    work.attempts = 60
    asyncio.run(live._show())
    live.close()

    assert [each.split(",")[0] for each in out.getvalue().splitlines()] == ["25/s", "5/s"]


def test_a_database_that_fails_leaves_its_part_out(monkeypatch: pytest.MonkeyPatch) -> None:
    out = StringIO()
    live = Live(Work(), Line(OutputWrapper(out), every=timedelta(0)), using="default")

    with monkeypatch.context() as patch:
        patch.setattr(Delivery._meta, "db_table", "there_is_no_such_table")
        asyncio.run(live._show())
    live.close()

    assert out.getvalue() == "0/s, 7 in the air\n"


def test_where_no_terminal_is_nothing_is_asked_until_a_line_is_due() -> None:
    out = StringIO()
    logged: list[str] = []
    with Statements() as statements:
        quiet = Live(Work(), Line(OutputWrapper(out)), using="default", redrawn=MILLISECOND)
        show(quiet, iter([False] * 20 + [True]).__next__)
        asked = statements.count
        line = Line(OutputWrapper(out), every=timedelta(0), log=logged.append)
        show(Live(Work(), line, using="default", redrawn=MILLISECOND), lambda: bool(logged))

    assert asked == 0
    assert out.getvalue() == ""
    assert logged[0].startswith("0/s, 7 in the air, 0 waiting")


def test_a_worker_in_a_terminal_shows_what_it_does() -> None:
    with disable_webhooks():
        tenant = make_deposit().tenant
    with WebhookReceiver() as receiver, terminal(100) as shown:
        receiver.respond(delay=timedelta(minutes=1))
        Endpoint.objects.create(url=receiver.url, event_types=["core.deposit.*"])
        for _ in range(12):
            Deposit.objects.create(tenant=tenant, amount=1)
        process = subprocess.Popen(  # noqa: S603  # our own code
            [
                sys.executable,
                "-c",
                _SETUP + "from django.core.management import call_command\n"
                "call_command('webhooks_worker', '--concurrency', '10')\n",
            ],
            env=environment(),
            stderr=shown.descriptor,
        )
        try:
            wait_until(lambda: "10 in the air, 12 waiting" in shown.text)
        finally:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGINT)
            process.wait(30)

    assert not [each for each in shown.screen if "in the air" in each]
    assert shown.screen[-2].startswith("Stopped after 1")
