"""Make, list and transfer endpoints from a shell."""

from argparse import ArgumentParser
from typing import Any

from django.apps import apps
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from drf_webhooks import custom_headers, endpoints
from drf_webhooks.conf import config
from drf_webhooks.delivery.formats import problem
from drf_webhooks.event_types import OPERATIONAL, is_pattern, patterns, refusal
from drf_webhooks.management import arguments
from drf_webhooks.models import Endpoint, owner_model
from drf_webhooks.registry import registered_event_types

__all__ = ["Command"]


class Command(BaseCommand):
    """``manage.py webhooks_endpoint add``, ``list`` and ``transfer``."""

    help = "Make an endpoint, list the endpoints there are, or give one to another owner."

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
        give = actions.add_parser(
            "transfer", help="Give an endpoint to another owner, and print its new secret, once."
        )
        give.add_argument("endpoint", help="Its key, from 'webhooks_endpoint list'.")
        give.add_argument("--owner", required=True, help="The owner's primary key, or a name.")

    def handle(self, **options: Any) -> None:
        if options["action"] == "add":
            self._add(options)
        elif options["action"] == "transfer":
            self._transfer(options)
        else:
            self._list(options["database"])

    def _add(self, options: dict[str, Any]) -> None:
        types = options["events"]
        _check(types)
        if found := problem(options["format"], config()):
            raise CommandError(found)
        more = {} if options["secret"] is None else {"secret": options["secret"]}
        try:
            endpoint = endpoints.create(
                owner=_owner(options["owner"], options["database"]),
                using=options["database"],
                url=options["url"],
                event_types=types,
                description=options["description"],
                method=options["method"],
                format=options["format"],
                headers=custom_headers.parse("\n".join(options["header"])),
                **more,
            )
        except ValidationError as error:
            raise CommandError("\n".join(error.messages)) from error
        self.stdout.write(f"id      {endpoint.pk}")
        self.stdout.write(f"url     {endpoint.url}")
        self.stdout.write(f"events  {' '.join(endpoint.event_types)}")
        self.stdout.write(f"secret  {endpoint.secret}")
        self.stderr.write("Keep the secret: it is shown this once.")

    def _transfer(self, options: dict[str, Any]) -> None:
        using = options["database"]
        endpoint = arguments.endpoint(options["endpoint"], using)
        try:
            is_given = endpoints.transfer(endpoint, to=_owner(options["owner"], using), using=using)
        except ValidationError as error:
            raise CommandError("\n".join(error.messages)) from error
        if not is_given:
            msg = f"Endpoint {endpoint.pk} is that owner's already."
            raise CommandError(msg)
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
