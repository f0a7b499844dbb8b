"""Encrypt the secrets of all endpoints with the first of ``ENCRYPTION_KEYS``."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from drf_webhooks import resealing
from drf_webhooks.conf import config
from drf_webhooks.management import arguments
from drf_webhooks.management.terminal import Line, Pace

__all__ = ["Command"]

_NAMED = 10


class Command(BaseCommand):
    """``manage.py webhooks_rotate_keys``."""

    help = (
        "Encrypt the secrets and custom headers of all endpoints with the first of "
        "ENCRYPTION_KEYS: those in clear, and those of other keys. Can be broken off and run again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--decrypt", action="store_true", help="Store all in clear, to do without encryption."
        )
        parser.add_argument(
            "--rate", type=arguments.positive, help="So many endpoints a second at most."
        )
        parser.add_argument("--dry-run", action="store_true", help="Only count.")
        arguments.add_database(parser)

    def handle(self, **options: Any) -> None:
        using, decrypt = options["database"], options["decrypt"]
        arguments.check_database(using)
        if not config().ENCRYPTION_KEYS:
            msg = (
                "DRF_WEBHOOKS['ENCRYPTION_KEYS'] is empty: there is nothing to encrypt or decrypt "
                "with."
            )
            raise CommandError(msg)
        done = "decrypted" if decrypt else "encrypted with the first key"
        if options["dry_run"]:
            count = resealing.to_reseal(using, decrypt=decrypt).count()
            self.stdout.write(f"{count} endpoints would be {done}.")
            return
        line, pace, written = Line(self.stderr), Pace(options["rate"]), 0
        lost: list[Any] = []
        for batch in resealing.reseal(using, decrypt=decrypt):
            written += batch.written
            lost += batch.unreadable
            line.show(f"{written} endpoints are {done} …")
            pace.keep(batch.looked_at)
        line.clear()
        self.stdout.write(f"{written} endpoints are {done}.")
        if lost:
            named = ", ".join(map(str, lost[:_NAMED])) + (" …" if len(lost) > _NAMED else "")
            msg = (
                f"None of ENCRYPTION_KEYS decrypts the secrets of {len(lost)} endpoints: {named}. "
                "Add the key that they were encrypted with to the end, or give them new ones: "
                "'webhooks_endpoint rotate ID --replace'."
            )
            raise CommandError(msg)
