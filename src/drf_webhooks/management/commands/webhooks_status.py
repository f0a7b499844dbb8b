"""Show how far deliveries are, and fail if they are too late."""

import dataclasses
import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.core.serializers.json import DjangoJSONEncoder

from drf_webhooks import status
from drf_webhooks.management import arguments
from drf_webhooks.management.terminal import age
from drf_webhooks.status import Status

__all__ = ["Command"]


class Command(BaseCommand):
    """``manage.py webhooks_status``."""

    help = "Show what waits, fails and is dead, how old it is, and how fast it goes."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="For programs.")
        parser.add_argument(
            "--fail-after",
            type=arguments.length,
            metavar="AGE",
            help="Exit with 1 if a delivery to an enabled endpoint has been due for longer: 10m.",
        )
        parser.add_argument(
            "--limit",
            type=arguments.positive,
            default=status.LIMIT,
            help="How many rows each query reads at most; beyond, numbers are marked.",
        )
        arguments.add_database(parser)

    def handle(self, **options: Any) -> None:
        using = options["database"]
        arguments.check_database(using)
        found = status.read(using=using, limit=options["limit"])
        if options["json"]:
            self.stdout.write(json.dumps(_plain(found), cls=DjangoJSONEncoder))
        else:
            self.stdout.write("\n".join(_lines(found)))
        late, longest = found.backlog.oldest_age, options["fail_after"]
        if longest is not None and late > longest:
            msg = f"The oldest delivery has been due for {age(late)}. Are workers running?"
            raise CommandError(msg, returncode=1)


def _lines(found: Status) -> list[str]:
    waits = found.backlog
    is_due = waits.oldest_due_at is not None
    lines = [
        f"endpoints    {', '.join(f'{count} {state}' for state, count in found.endpoints.items())}",
        f"waiting      {waits.waiting}, {waits.failing} of them failing",
        f"oldest due   {age(waits.oldest_age) if is_due else 'none'}",
        f"dead         {found.dead}, {found.dead_last_hour} in the last hour",
        f"last minute  {found.last_minute}",
        f"last hour    {found.last_hour}",
    ]
    if found.behind:
        lines += ["", f"{'due':>7} {'failing':>7} {'oldest':>7}  {'state':8}  endpoint"]
    lines += [
        f"{each.due:>7} {each.failing:>7} {age(waits.at - each.oldest_due_at):>7}  "
        f"{each.state:8}  {each.endpoint} {each.url}"
        for each in found.behind
    ]
    return lines


def _plain(found: Status) -> dict[str, Any]:
    waits = found.backlog
    return {
        "at": waits.at,
        "endpoints": found.endpoints,
        "waiting": dataclasses.asdict(waits.waiting),
        "failing": dataclasses.asdict(waits.failing),
        "oldest_due_at": waits.oldest_due_at,
        "oldest_age_seconds": waits.oldest_age.total_seconds(),
        "dead": dataclasses.asdict(found.dead),
        "dead_last_hour": dataclasses.asdict(found.dead_last_hour),
        "last_minute": _rate(found.last_minute),
        "last_hour": _rate(found.last_hour),
        "behind": [dataclasses.asdict(each) for each in found.behind],
    }


def _rate(rate: status.Rate) -> dict[str, Any]:
    return {
        "per_second": round(rate.per_second, 3),
        "failed_per_second": round(rate.failed_per_second, 3),
        "is_estimate": rate.is_estimate,
    }
