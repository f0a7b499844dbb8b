"""Send a test event to one endpoint, and show what came of it."""

import asyncio
from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from drf_webhooks import numbering, payloads
from drf_webhooks.changes import Operation, object_key
from drf_webhooks.conf import config
from drf_webhooks.delivery.probe import probe
from drf_webhooks.delivery.results import Result
from drf_webhooks.event_types import ENDPOINT_TEST, Way
from drf_webhooks.exceptions import PayloadError
from drf_webhooks.json_text import encode
from drf_webhooks.management import arguments
from drf_webhooks.messages import Text, message, variants
from drf_webhooks.models import Delivery, Endpoint, Event
from drf_webhooks.registry import registered_event_types, registry

__all__ = ["Command"]


class Command(BaseCommand):
    """``manage.py webhooks_send``."""

    help = (
        "Send a test event to one endpoint, enabled or not, and print what came of it. Nothing "
        "is stored and nothing is sent again; exits with 1 if it was not taken."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("endpoint", help="Its key, from 'webhooks_endpoint list'.")
        parser.add_argument("--type", default=ENDPOINT_TEST, help=f"By default {ENDPOINT_TEST}.")
        parser.add_argument(
            "--object", metavar="KEY", help="The primary key of an object that the type tells of."
        )
        arguments.add_database(parser)

    def handle(self, **options: Any) -> None:
        using, kind = options["database"], options["type"]
        arguments.check_database(using)
        endpoint = arguments.endpoint(options["endpoint"], using)
        at = timezone.now()
        if kind == ENDPOINT_TEST and options["object"] is None:
            data = encode({"endpoint": endpoint.pk})
            body = message(kind, data=data, sequence=0, at=at)
        else:
            body = _body(endpoint, kind, options["object"], using, at)
        message_id = Event().message_id
        sent = probe(
            endpoint,
            message_id=message_id,
            object_key=options["object"] or object_key(endpoint.pk),
            body=body,
            settings=config(),
        )
        result = asyncio.run(sent)
        self._show(endpoint, message_id, result)

    def _show(self, endpoint: Endpoint, message_id: str, result: Result) -> None:
        what = str(result.status) if result.status is not None else result.error or result.reason
        took = result.duration.total_seconds()
        self.stdout.write(f"{endpoint.url}  {message_id}\n{what} after {took:.3f} s")
        if result.detail:
            self.stdout.write(result.detail)
        for name, value in result.headers:
            self.stdout.write(f"  {name}: {value}")
        if result.body:
            self.stdout.write(f"\n{result.body.decode(errors='replace')}")
        if result.state != Delivery.State.DELIVERED:
            msg = f"The endpoint did not take it: {what}."
            raise CommandError(msg, returncode=1)


def _body(endpoint: Endpoint, kind: str, key: str | None, using: str, at: datetime) -> bytes:
    """Return a message with an object's form as the endpoint's owner sees it."""
    if kind not in registered_event_types():
        known = ", ".join(sorted({ENDPOINT_TEST, *registered_event_types()}))
        msg = f"No resource emits {kind!r}. Event types: {known}."
        raise CommandError(msg)
    base_name, _, name = kind.rpartition(".")
    resource: Any = registry.get(base_name)
    if key is None:
        msg = f"{kind} tells of a {resource.model.__name__}. Name one with --object."
        raise CommandError(msg)
    try:
        pk = resource.model._meta.pk.to_python(key)
        (row,) = payloads.load(resource, [pk], using).values()
    except (ValueError, ValidationError) as error:
        msg = f"There is no {resource.model.__name__} {key!r}."
        raise CommandError(msg) from error
    owners = {payloads.owner_key(each): each for each in row.owners}
    owner = endpoint.owner_id if resource.is_scoped() else None
    if owner not in owners:
        msg = f"The endpoint's owner does not own {resource.model.__name__} {key!r}."
        raise CommandError(msg)
    subject = (resource.base_name, object_key(pk))
    sequence = numbering.counts([subject], using).get(subject, 0)
    version = resource.version_for(endpoint.version)
    try:
        data = (
            payloads.key_data(resource, pk, version)
            if name == Operation.DELETED
            else payloads.data_of(resource, row.instance, owners[owner], version=version, name=name)
        )
    except PayloadError as error:
        raise CommandError(str(error)) from error
    body = message(kind, data=data, sequence=sequence, at=at, version=version)
    way = Way(endpoint.version, endpoint.is_thin)
    found = variants(resource, pk, [Text(version, body)], {way}, name=name)
    return found.bodies.get(found.by_way.get(way, ""), body)
