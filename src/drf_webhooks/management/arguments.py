"""What several commands take as arguments."""

import re
from argparse import ArgumentParser, ArgumentTypeError
from datetime import datetime, timedelta

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError
from django.db import connections
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from drf_webhooks.models import Endpoint

__all__ = ["add_database", "check_database", "endpoint", "length", "moment", "positive"]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_LENGTH = re.compile(r"([0-9]{1,6})([smhdw])")


def add_database(parser: ArgumentParser) -> None:
    """Add ``--database``."""
    parser.add_argument("--database", default="default", help="The alias of the database.")


def check_database(using: str) -> None:
    """Refuse an alias that is none.

    Raises:
        CommandError: as it says.

    """
    if using not in connections:
        known = ", ".join(connections)
        msg = f"There is no database {using!r} in DATABASES. Known: {known}."
        raise CommandError(msg)


def length(text: str) -> timedelta:
    """Read a length of time: ``90s``, ``10m``, ``2h``, ``7d``, ``4w``."""
    found = _LENGTH.fullmatch(text)
    if found is None:
        msg = f"{text!r} is no length of time. Write 90s, 10m, 2h, 7d or 4w."
        raise ArgumentTypeError(msg)
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def moment(text: str) -> datetime:
    """Read a moment: ``2026-11-24T12:00``, or ``2h`` ago; in Django's time zone without another."""
    if _LENGTH.fullmatch(text):
        return timezone.now() - length(text)
    try:
        # Python's parser takes a date alone too.
        read = parse_datetime(text) or datetime.fromisoformat(text)
    except ValueError:
        read = None
    if read is None:
        msg = f"{text!r} is no moment. Write 2026-11-24T12:00, or 2h for two hours ago."
        raise ArgumentTypeError(msg)
    return timezone.make_aware(read) if timezone.is_naive(read) else read


def positive(text: str) -> int:
    """Read a whole number from 1."""
    if not text.isascii() or not text.isdigit() or not int(text):
        msg = f"{text!r} is not at least 1."
        raise ArgumentTypeError(msg)
    return int(text)


def endpoint(text: str, using: str) -> Endpoint:
    """Return an endpoint by its key.

    Raises:
        CommandError: there is none.

    """
    found: Endpoint | None
    try:
        found = Endpoint.objects.using(using).filter(pk=text).first()
    except ValidationError:
        found = None
    if not isinstance(found, Endpoint):
        msg = f"There is no endpoint {text!r}. 'webhooks_endpoint list' has their keys."
        raise CommandError(msg)
    return found
