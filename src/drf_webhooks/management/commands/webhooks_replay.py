"""Send again what failed, or what an endpoint never heard."""

import time
from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import QuerySet

from drf_webhooks import replay
from drf_webhooks.management import arguments
from drf_webhooks.management.terminal import Line, Pace, bar
from drf_webhooks.models import Endpoint

__all__ = ["Command"]


class Command(BaseCommand):
    """``manage.py webhooks_replay``."""

    help = (
        "Send again what failed, or what an endpoint never heard: the same messages, or new "
        "ones of the objects as they are now. Killed and started again, it goes on."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--delivery", type=int, help="One delivery, whatever became of it.")
        what.add_argument(
            "--failed-since",
            type=arguments.moment,
            metavar="WHEN",
            help="Deliveries that died since: 2026-11-24T12:00, or 2h for two hours ago.",
        )
        what.add_argument(
            "--missing-since",
            type=arguments.moment,
            metavar="WHEN",
            help="Events since then that the endpoint would have heard, had it been there.",
        )
        parser.add_argument(
            "--until",
            type=arguments.moment,
            metavar="WHEN",
            help="Up to then; by default now. The same again goes on where a run was killed, "
            "and leaves alone what has died a second time since.",
        )
        parser.add_argument("--endpoint", help="Of this endpoint only.")
        parser.add_argument(
            "--anew",
            action="store_true",
            help="Say new events of the objects as they are now, marked 'replay': true.",
        )
        parser.add_argument("--rate", type=arguments.positive, help="So many a second at most.")
        parser.add_argument("--dry-run", action="store_true", help="Only count.")
        arguments.add_database(parser)

    def handle(self, **options: Any) -> None:
        using = options["database"]
        arguments.check_database(using)
        endpoint = None
        if options["endpoint"] is not None:
            endpoint = arguments.endpoint(options["endpoint"], using)
        if options["delivery"] is not None:
            self._one(options)
            return
        since = options["failed_since"] or options["missing_since"]
        within = replay.span(since, using=using)
        if options["until"] is not None:
            within = replay.Span(since, min(options["until"], within.until))
        rate = options["rate"]
        more = {"using": using, "is_anew": options["anew"]}
        size = min(replay.CHUNK, rate or replay.CHUNK)
        if options["failed_since"] is not None:
            endpoints = _only(endpoint)
            total = replay.count_failed(within, endpoints=endpoints, **more)
            lots = replay.replay_failed(within, endpoints=endpoints, size=size, **more)
            what = "deliveries that died"
        elif endpoint is not None:
            total = replay.count_missing(endpoint, within, **more)
            lots = replay.replay_missing(endpoint, within, size=size, **more)
            what = "events without a delivery"
        else:
            msg = "--missing-since needs --endpoint: what others missed is theirs to ask for."
            raise CommandError(msg)
        self._say(f"{total} {what} between {_iso(within.since)} and {_iso(within.until)}.")
        if options["dry_run"]:
            self.stdout.write(f"{total}")
            return
        if total:
            self._say(f"If this is killed, go on with --until {_iso(within.until)}")
        self._run(lots, total, rate)

    def _one(self, options: dict[str, Any]) -> None:
        if options["dry_run"]:
            msg = "--dry-run counts many. One delivery is sent or it is not."
            raise CommandError(msg)
        pk, is_anew = options["delivery"], options["anew"]
        if not replay.replay_one(pk, using=options["database"], is_anew=is_anew).replayed:
            why = (
                "its object is gone, belongs to somebody else, or cannot be serialized"
                if is_anew
                else "its message is not kept any more; --anew makes a new one"
            )
            msg = f"Delivery {pk} cannot be sent again: there is none, or {why}."
            raise CommandError(msg)
        self.stdout.write("1")

    def _run(self, lots: Iterator[replay.Lot], total: int, rate: float | None) -> None:
        line, pace = Line(self.stderr), Pace(rate)
        started_at = time.monotonic()
        done = replayed = 0
        for lot in lots:
            done += lot.looked_at
            replayed += lot.replayed
            speed = replayed / max(time.monotonic() - started_at, 0.001)
            line.show(f"{bar(replayed, total)}  {speed:.0f}/s")
            pace.keep(lot.replayed)
        line.clear()
        self._say(f"Replayed {replayed}; a worker sends them.")
        if replayed < total:
            self._say(
                f"{total - replayed} were not: somebody else did, or nothing can be said of "
                "their objects any more."
            )
        self.stdout.write(f"{replayed}")

    def _say(self, text: str) -> None:
        self.stderr.write(text, str)
        self.stderr.flush()


def _only(endpoint: Endpoint | None) -> QuerySet[Endpoint] | None:
    return None if endpoint is None else Endpoint.objects.filter(pk=endpoint.pk)


def _iso(moment: datetime) -> str:
    return moment.isoformat()
