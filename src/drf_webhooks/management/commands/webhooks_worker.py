"""Deliver webhooks until stopped."""

import asyncio
import logging
import signal
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error, connections

from drf_webhooks.conf import Config, config
from drf_webhooks.delivery.loops import loop_factory, rarely_collecting
from drf_webhooks.delivery.retries import attempt_times
from drf_webhooks.delivery.worker import Worker
from drf_webhooks.housekeeping import Housekeeper
from drf_webhooks.management.live import Live
from drf_webhooks.management.terminal import Line
from drf_webhooks.notices import Teller
from drf_webhooks.resealing import unreadable
from drf_webhooks.signals import worker_started

__all__ = ["Command"]

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    """``manage.py webhooks_worker``."""

    help = "Deliver webhooks until stopped. SIGTERM and SIGINT finish what is in the air."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--database", default="default", help="The alias of the database.")
        parser.add_argument("--concurrency", type=int, help="Requests in the air at once.")
        ends = parser.add_mutually_exclusive_group()
        ends.add_argument("--once", action="store_true", help="End after one claim.")
        ends.add_argument(
            "--until-empty", action="store_true", help="End when nothing is due any more."
        )

    def handle(self, **options: Any) -> None:
        using = options["database"]
        if using not in connections:
            known = ", ".join(connections)
            msg = f"There is no database {using!r} in DATABASES. Known: {known}."
            raise CommandError(msg)
        if options["concurrency"] is not None and options["concurrency"] < 1:
            msg = f"--concurrency is {options['concurrency']}. It must be at least 1."
            raise CommandError(msg)
        _check_secrets(using)
        worker_started.send_robust(Worker, using=using)
        with rarely_collecting(), asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(self._run(using, options))

    async def _run(self, using: str, options: dict[str, Any]) -> None:
        worker = Worker(
            using,
            housekeeping=Housekeeper(using),
            concurrency=options["concurrency"],
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.stop)
        settings = config()
        self.stderr.write(
            f"Delivering from {using!r}: {options['concurrency'] or settings.CONCURRENCY} requests "
            f"at once, {settings.ENDPOINT_CONCURRENCY} for one endpoint. {_schedule(settings)}"
        )
        self.stderr.flush()
        log = logger.info if logger.isEnabledFor(logging.INFO) else None
        live = asyncio.create_task(Live(worker, Line(self.stderr, log=log), using=using).run())
        try:
            with Teller(using, interval=settings.POLL_INTERVAL):
                await worker.run(until_empty=options["until_empty"], once=options["once"])
        finally:
            live.cancel()
            await asyncio.wait([live])
        self.stderr.write(f"Stopped after {worker.attempts} attempts.")


def _check_secrets(using: str) -> None:
    """Refuse to start where secrets cannot be decrypted: each delivery would be put off.

    Raises:
        CommandError: as it says.

    """
    try:
        count = unreadable(using).count()
    except Error:
        # It may be down for a moment: the worker goes on when it is back.
        return
    if count:
        msg = (
            f"None of ENCRYPTION_KEYS decrypts the secrets of {count} endpoints. Add the key that "
            "they were encrypted with to its end."
        )
        raise CommandError(msg)


def _schedule(settings: Config) -> str:
    """Say when attempts are made, as the settings together give it."""
    times = attempt_times(settings)
    last = f"the last after {times[-1][0]}"
    if times[-1][1] != times[-1][0]:
        last += f" to {times[-1][1]}"
    waits = ", ".join(str(early) for early, _ in times)
    said = f"{len(times)} attempts at the earliest after {waits}; {last}; none after "
    said += f"{settings.MAX_AGE}."
    more = len(settings.RETRY_SCHEDULE) + 1 - len(times)
    if more:
        said += f" {more} more of RETRY_SCHEDULE may come too late for MAX_AGE."
    others = ", ".join(settings.PER_EVENT_TYPE)
    return f"{said} Other values for {others}." if others else said
