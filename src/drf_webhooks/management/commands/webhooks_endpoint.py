"""Make and list endpoints from a shell."""

from argparse import ArgumentParser
from typing import Any

from django.apps import apps
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from drf_webhooks import custom_headers
from drf_webhooks.conf import config
from drf_webhooks.delivery.formats import problem
from drf_webhooks.event_types import OPERATIONAL, is_pattern, patterns, refusal
from drf_webhooks.models import Endpoint, owner_model
from drf_webhooks.registry import registered_event_types

__all__ = ["Command"]


class Command(BaseCommand):
    """``manage.py webhooks_endpoint add`` and ``list``."""

    help = "Make an endpoint, or list the endpoints there are."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--database", default="default", help="The alias of the database.")
        actions = parser.add_subparsers(dest="action", required=True)
        add = actions.add_parser("add", help="Make an endpoint and print its secret, once.")
        add.add_argument("url")
        add.add_argument(
            "--events",
            nargs="+",
            required=True,
            metavar="TYPE",
            help="Event types: core.deposit.created, core.deposit.*, or * for all.",
        )
        add.add_argument("--owner", help="The owner's primary key, or a user's name.")
        add.add_argument("--secret", help="whsec_ and base64 of 24 to 64 bytes; else one is made.")
        add.add_argument("--description", default="")
        add.add_argument("--method", default="POST", choices=Endpoint.Method.values)
        add.add_argument("--format", default="json", help="json, xml, cloudevents, or your own.")
        add.add_argument(
            "--header",
            action="append",
            default=[],
            metavar="'NAME: VALUE'",
            help="A header to send with each request; several times for several.",
        )
        actions.add_parser("list", help="List endpoints, without their secrets.")

    def handle(self, **options: Any) -> None:
        if options["action"] == "add":
            self._add(options)
        else:
            self._list(options["database"])

    def _add(self, options: dict[str, Any]) -> None:
        types = options["events"]
        _check(types)
        if found := problem(options["format"], config()):
            raise CommandError(found)
        endpoint = Endpoint(
            url=options["url"],
            event_types=types,
            owner=_owner(options["owner"], options["database"]),
            description=options["description"],
            method=options["method"],
            format=options["format"],
        )
        if options["secret"] is not None:
            endpoint.secret = options["secret"]
        try:
            endpoint.headers = custom_headers.parse("\n".join(options["header"]))
            endpoint.full_clean(exclude=["owner"])
        except ValidationError as error:
            raise CommandError("\n".join(error.messages)) from error
        endpoint.save(using=options["database"])
        self.stdout.write(f"id      {endpoint.pk}")
        self.stdout.write(f"url     {endpoint.url}")
        self.stdout.write(f"events  {' '.join(endpoint.event_types)}")
        self.stdout.write(f"secret  {endpoint.secret}")
        self.stderr.write("Keep the secret: it is shown this once.")

    def _list(self, using: str) -> None:
        endpoints = list(Endpoint.objects.using(using).order_by("created_at"))
        if not endpoints:
            self.stderr.write("There are no endpoints. Make one with 'webhooks_endpoint add'.")
        for each in endpoints:
            owner = "-" if each.owner_id is None else each.owner_id
            types = " ".join(each.event_types)
            self.stdout.write(f"{each.pk}  {each.state:8}  {owner}  {each.url}  {types}")


def _check(types: list[str]) -> None:
    declared = registered_event_types()
    # "*" alone would be a mistake as long as no resource says anything.
    more = {pattern for known in OPERATIONAL for pattern in patterns(known)} - {"*"}
    for each in types:
        if not is_pattern(each):
            raise CommandError(refusal(each))
        if each not in more and not any(each in patterns(known) for known in declared):
            known = ", ".join(sorted(declared)) or "none; declare one in webhooks.py"
            msg = f"No resource emits {each!r}. Event types: {known}."
            raise CommandError(msg)


def _owner(text: str | None, using: str) -> Any:
    if text is None:
        return None
    model = apps.get_model(owner_model())
    names = [getattr(model, "USERNAME_FIELD", None), "pk"]
    for name in names:
        try:
            found = name and model._default_manager.using(using).filter(**{name: text}).first()
        except (ValueError, ValidationError):
            continue
        if found:
            return found
    msg = f"There is no {model._meta.verbose_name} {text!r}. Give a primary key or a user's name."
    raise CommandError(msg)
