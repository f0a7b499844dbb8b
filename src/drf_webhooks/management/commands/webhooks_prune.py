"""Forget messages, attempts and events that are old."""

import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from drf_webhooks import retention
from drf_webhooks.conf import config
from drf_webhooks.management import arguments
from drf_webhooks.management.terminal import Line, Pace
from drf_webhooks.retention import Bite

__all__ = ["Command"]


class Command(BaseCommand):
    """``manage.py webhooks_prune``."""

    help = (
        "Forget messages and attempts older than PAYLOAD_RETENTION, and events and deliveries "
        "older than EVENT_RETENTION. What still waits to be delivered is kept."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--payloads", type=arguments.length, metavar="AGE", help="30d; by default the setting."
        )
        parser.add_argument(
            "--events", type=arguments.length, metavar="AGE", help="90d; by default the setting."
        )
        parser.add_argument(
            "--for",
            type=arguments.length,
            dest="at_most",
            metavar="TIME",
            help="End after so long, although there is more: 5m. The next run goes on.",
        )
        parser.add_argument(
            "--rate", type=arguments.positive, help="So many rows a second at most."
        )
        parser.add_argument("--dry-run", action="store_true", help="Only count.")
        arguments.add_database(parser)

    def handle(self, **options: Any) -> None:
        using = options["database"]
        arguments.check_database(using)
        now = timezone.now()
        payloads = options["payloads"] or config().PAYLOAD_RETENTION
        events = options["events"] or config().EVENT_RETENTION
        if options["dry_run"]:
            found = retention.count(using=using, now=now, payloads=payloads, events=events)
            self.stdout.write(f"{found.messages} messages and {found.events} events are old.")
            return
        line, pace, total = Line(self.stderr), Pace(options["rate"]), Bite()
        ends_at = None
        if options["at_most"] is not None:
            ends_at = time.monotonic() + options["at_most"].total_seconds()
        for bite in retention.prune(using=using, now=now, payloads=payloads, events=events):
            total += bite
            line.show(f"{_text(total)} …")
            if ends_at is not None and time.monotonic() >= ends_at:
                break
            pace.keep(bite.messages + bite.attempts + bite.deliveries + bite.events + bite.notices)
        line.clear()
        self.stdout.write(f"Forgotten: {_text(total)}.")


def _text(total: Bite) -> str:
    return (
        f"{total.messages} messages, {total.attempts} attempts, "
        f"{total.deliveries} deliveries, {total.events} events, {total.notices} notices"
    )
