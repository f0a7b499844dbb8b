"""Make, list and transfer endpoints from a shell, and replace their secrets."""

from argparse import ArgumentParser
from typing import Any, get_args

from django.apps import apps
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from drf_webhooks import custom_headers, endpoints, rotation, secret_keys
from drf_webhooks.conf import config
from drf_webhooks.delivery.formats import problem
from drf_webhooks.event_types import OPERATIONAL, is_pattern, patterns, refusal
from drf_webhooks.exceptions import RotationError, SecretError
from drf_webhooks.management import arguments
from drf_webhooks.models import Endpoint, owner_model
from drf_webhooks.registry import registered_event_types

__all__ = ["Command"]


class Command(BaseCommand):
    """``manage.py webhooks_endpoint add``, ``list``, ``transfer``, ``rotate`` and ``revoke``."""

    help = "Make an endpoint, list the endpoints there are, give one away, or replace its secret."

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
        _add_secret(add)
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

        rotate = actions.add_parser(
            "rotate", help="Give an endpoint a new secret and print it, once."
        )
        rotate.add_argument("endpoint", metavar="ENDPOINT")
        _add_secret(rotate)
        length = rotate.add_mutually_exclusive_group()
        length.add_argument(
            "--overlap",
            type=arguments.length,
            default=rotation.OVERLAP,
            metavar="TIME",
            help="Sign with the old one too for so long: 0s to 7d; by default 24h.",
        )
        length.add_argument(
            "--replace",
            action="store_true",
            help="At once, and forget all old ones too, whether they can be read or not.",
        )
        revoke = actions.add_parser("revoke", help="Sign with no old secret any more.")
        revoke.add_argument("endpoint", metavar="ENDPOINT")

    def handle(self, **options: Any) -> None:
        actions = {
            "add": self._add,
            "list": self._list,
            "transfer": self._transfer,
            "rotate": self._rotate,
            "revoke": self._revoke,
        }
        actions[options["action"]](options)

    def _add(self, options: dict[str, Any]) -> None:
        types = options["events"]
        _check(types)
        if found := problem(options["format"], config()):
            raise CommandError(found)
        more = {}
        if options["secret"] is not None:
            more["secret"] = options["secret"]
        elif options["signature"] is not None:
            more["secret"] = secret_keys.generate(options["signature"])
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
        self._show(endpoint)

    def _rotate(self, options: dict[str, Any]) -> None:
        using = options["database"]
        endpoint = arguments.endpoint(options["endpoint"], using)
        chosen: dict[str, Any] = {key: options[key] for key in ("secret", "signature")}
        try:
            if options["replace"]:
                rotation.replace_secret(endpoint, using=using, **chosen)
            else:
                overlap = options["overlap"]
                rotation.rotate_secret(endpoint, overlap=overlap, using=using, **chosen)
        except (RotationError, SecretError, ValueError) as error:
            raise CommandError(str(error)) from error
        for each in endpoint.old_secrets:
            self.stdout.write(f"old secret valid until {each.expires_at:%Y-%m-%d %H:%M:%S} UTC")
        self._show(endpoint)

    def _revoke(self, options: dict[str, Any]) -> None:
        endpoint = arguments.endpoint(options["endpoint"], options["database"])
        try:
            count = rotation.revoke_old_secrets(endpoint, using=options["database"])
        except (RotationError, SecretError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{count} old secrets are revoked.")

    def _show(self, endpoint: Endpoint) -> None:
        """Print what the receiver needs, which is no secret with ed25519."""
        if endpoint.public_key is not None:
            self.stdout.write(f"public  {endpoint.public_key}")
            return
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
        self._show(endpoint)

    def _list(self, options: dict[str, Any]) -> None:
        found = list(Endpoint.objects.using(options["database"]).order_by("created_at"))
        if not found:
            self.stderr.write("There are no endpoints. Make one with 'webhooks_endpoint add'.")
        for each in found:
            owner = "-" if each.owner_id is None else each.owner_id
            types = " ".join(each.event_types)
            self.stdout.write(f"{each.pk}  {each.state:8}  {owner}  {each.url}  {types}")


def _add_secret(parser: ArgumentParser) -> None:
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--secret", help="whsec_ and base64 of 24 to 64 bytes; else one is made.")
    given.add_argument(
        "--signature",
        choices=get_args(secret_keys.Signature),
        help="Have one made that signs so: v1 (HMAC), v1a (ed25519, with a public key).",
    )


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
