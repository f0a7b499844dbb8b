"""Find rows by what an operator has in hand: an event's id, an object's key, an endpoint's URL."""

import json
import uuid
from collections.abc import Iterator

from django.db import connections
from django.db.models import Q
from django.utils.text import smart_split

from drf_webhooks.models import Endpoint, Event

__all__ = ["as_uuid", "resources", "searched", "terms"]

#: Endpoints whose deliveries are looked for at once.
_MOST_ENDPOINTS = 100

_PREFIX = "evt_"

#: A longer number is in no column.
_DIGITS = 18

#: The names of all resources that have events: from one to the next in the index, however many
#: events each has.
_RESOURCES = """
WITH RECURSIVE found(name) AS (
    SELECT MIN(resource) FROM {table}
    UNION ALL
    SELECT (SELECT MIN(resource) FROM {table} WHERE resource > found.name)
    FROM found WHERE found.name IS NOT NULL
)
SELECT name FROM found WHERE name IS NOT NULL
"""


def resources(using: str) -> list[str]:
    """Return the names of all resources that have events, declared or not any more."""
    with connections[using].cursor() as cursor:
        cursor.execute(_RESOURCES.format(table=Event._meta.db_table))
        return [name for (name,) in cursor.fetchall()]


def searched(term: str, *, using: str, event: str, endpoint: str = "", number: str = "") -> Q:
    """Return the question for a term: the first meaning of it that something has.

    In this order: ``#17`` a delivery's number, ``evt_…`` or a UUID an event, a UUID an endpoint,
    a resource's name, an object's key, a part of an endpoint's URL. So the question is one that
    an index answers.

    Args:
        term: What was typed.
        using: The database.
        event: How the event is reached: ``"event"``, ``"pk"``.
        endpoint: How the endpoint is reached; empty if it is not looked for.
        number: How the delivery's number is reached; likewise.

    """
    nothing = Q(pk__in=())
    if number and term.startswith("#"):
        is_number = term[1:].isdecimal() and len(term) <= _DIGITS
        return Q(**{number: int(term[1:])}) if is_number else nothing
    is_id, key = term.startswith(_PREFIX), as_uuid(term)
    if is_id or (key is not None and Event.objects.using(using).filter(pk=key).exists()):
        return nothing if key is None else Q(**{event: key})
    hosts = Endpoint.objects.using(using)
    if endpoint and key is not None and hosts.filter(pk=key).exists():
        return Q(**{endpoint: key})
    prefix = "" if event == "pk" else f"{event}__"
    names = resources(using)
    if term in names:
        return Q(**{f"{prefix}resource": term})
    # A key is JSON, as the library writes it: a number as it is, a text with its quotes.
    keys = [term, json.dumps(term, ensure_ascii=False)]
    of_object = {"resource__in": names, "object_key__in": keys}
    if Event.objects.using(using).filter(**of_object).exists() or not endpoint:
        return Q(**{f"{prefix}{name}": value for name, value in of_object.items()})
    found = hosts.filter(url__icontains=term).order_by("pk")
    return Q(**{f"{endpoint}__in": list(found.values_list("pk", flat=True)[:_MOST_ENDPOINTS])})


def terms(text: str) -> Iterator[str]:
    """Return what is looked for, part by part; what stands in quotes is one part, with them."""
    return smart_split(text)


def as_uuid(term: str) -> uuid.UUID | None:
    """Read a key with or without the prefix of events."""
    try:
        return uuid.UUID(term.removeprefix(_PREFIX))
    except ValueError:
        return None
