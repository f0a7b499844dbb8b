"""Receive webhooks on this machine and print them: for trying things out."""

from argparse import ArgumentParser
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from drf_webhooks import secret_keys
from drf_webhooks.delivery.signing import sign
from drf_webhooks.receiver_server import Received, WebhookReceiver

__all__ = ["Command"]

_FOR_EVER = timedelta(days=365)


class Command(BaseCommand):
    """``manage.py webhooks_listen``."""

    help = "Receive webhooks on this machine and print them. For trying things out."
    requires_system_checks: list[str] = []  # noqa: RUF012  # Django's attribute

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("port", nargs="?", type=int, default=9000)
        parser.add_argument("--secret", help="The endpoint's secret, to verify signatures.")
        parser.add_argument("--count", type=int, help="End after so many.")

    def handle(self, **options: Any) -> None:
        key = None
        if options["secret"] is not None:
            try:
                key = secret_keys.decode(options["secret"])
            except ValueError as error:
                raise CommandError(str(error)) from error
        with WebhookReceiver(options["port"]) as receiver:
            self.stderr.write(f"Listening on {receiver.url}")
            self.stderr.flush()
            shown = 0
            while options["count"] is None or shown < options["count"]:
                received = receiver.wait_for(shown + 1, timeout=_FOR_EVER)
                for each in received[shown:]:
                    self._show(each, key)
                shown = len(received)

    def _show(self, received: Received, key: bytes | None) -> None:
        verdict = ""
        if key is not None:
            verdict = "  verified" if _is_signed(received, key) else "  NOT VERIFIED"
        webhook_id = received.headers.get("webhook-id", "no webhook-id")
        kind = received.headers.get("content-type", "no content-type")
        body = received.body.decode(errors="replace")
        self.stdout.write(f"{webhook_id}{verdict}  {received.method} {kind}\n{body}\n")
        self.stdout.flush()


def _is_signed(received: Received, key: bytes) -> bool:
    try:
        sent_at = datetime.fromtimestamp(int(received.headers["webhook-timestamp"]), tz=UTC)
        webhook_id = received.headers["webhook-id"]
    except (KeyError, ValueError, OverflowError):
        return False
    expected = sign(key, event_id=webhook_id, sent_at=sent_at, body=received.body)
    return expected in received.headers.get("webhook-signature", "").split()
