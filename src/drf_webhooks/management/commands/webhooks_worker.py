"""Deliver webhooks until stopped."""

import asyncio
import logging
import signal
from argparse import ArgumentParser
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from drf_webhooks.conf import config
from drf_webhooks.delivery.loops import loop_factory
from drf_webhooks.delivery.worker import Worker
from drf_webhooks.pipeline import keep_house

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
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(self._run(using, options))

    async def _run(self, using: str, options: dict[str, Any]) -> None:
        worker = Worker(
            using,
            housekeeping=partial(keep_house, using),
            concurrency=options["concurrency"],
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.stop)
        settings = config()
        schedule = ", ".join(str(each) for each in settings.RETRY_SCHEDULE)
        self.stderr.write(
            f"Delivering from {using!r}: {options['concurrency'] or settings.CONCURRENCY} requests "
            f"at once, {settings.ENDPOINT_CONCURRENCY} for one endpoint; attempts after 0, "
            f"{schedule}; given up after {settings.MAX_AGE}."
        )
        self.stderr.flush()
        await worker.run(until_empty=options["until_empty"], once=options["once"])
        self.stderr.write(f"Stopped after {worker.attempts} attempts.")
