"""Receive webhooks on this machine and print them: for trying things out."""

import json
import time
from argparse import ArgumentParser
from contextlib import ExitStack, suppress
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from drf_webhooks.management import arguments
from drf_webhooks.receiver import verify
from drf_webhooks.receiver_server import Received, WebhookReceiver

__all__ = ["Command"]

_FOR_EVER = timedelta(days=365)


class Command(BaseCommand):
    """``manage.py webhooks_listen``."""

    help = "Receive webhooks on this machine and print them. For trying things out."
    requires_system_checks: list[str] = []  # noqa: RUF012  # Django's attribute

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("port", nargs="?", type=int, default=9000)
        parser.add_argument("--secret", help="The endpoint's secret or public key, to verify.")
        parser.add_argument("--count", type=int, help="End after so many.")
        parser.add_argument("--fail", type=int, metavar="STATUS", help="Answer so: 500.")
        parser.add_argument(
            "--delay", type=arguments.length, metavar="TIME", help="Answer after so long: 2s."
        )

    def handle(self, **options: Any) -> None:
        key = options["secret"]
        if key is not None:
            try:
                verify(b"", {}, key)
            except ValueError as error:
                raise CommandError(str(error)) from error
        receiver = WebhookReceiver(options["port"])
        delay = options["delay"] or timedelta(0)
        # Before it listens: the first request is answered so too.
        receiver.respond(200 if options["fail"] is None else options["fail"], delay=delay)
        # An interrupt is how it is ended.
        with suppress(KeyboardInterrupt), ExitStack() as stack:
            try:
                stack.enter_context(receiver)
            except OSError as error:
                msg = f"Nothing can listen on port {receiver.port}: {error}. Name another port."
                raise CommandError(msg) from error
            self.stderr.write(f"Listening on {receiver.url}")
            self.stderr.flush()
            self._listen(receiver, key, options["count"])
            # The last one is answered as slowly as the others.
            time.sleep(delay.total_seconds())

    def _listen(self, receiver: WebhookReceiver, key: str | None, count: int | None) -> None:
        shown = 0
        while count is None or shown < count:
            received = receiver.wait_for(shown + 1, timeout=_FOR_EVER)
            for each in received[shown:]:
                self._show(each, key)
            shown = len(received)

    def _show(self, received: Received, key: str | None) -> None:
        verdict = ""
        if key is not None:
            is_signed = verify(received.body, received.headers, key, now=received.received_at)
            verdict = "  verified" if is_signed else "  NOT VERIFIED"
        webhook_id = received.headers.get("webhook-id", "no webhook-id")
        at = timezone.localtime(received.received_at)
        self.stdout.write(f"{at:%H:%M:%S} {received.method} {received.path} {webhook_id}{verdict}")
        for name, value in received.headers.items():
            self.stdout.write(f"  {name}: {value}")
        self.stdout.write(f"{_pretty(received.body)}\n")
        self.stdout.flush()


def _pretty(body: bytes) -> str:
    text = body.decode(errors="replace")
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text
