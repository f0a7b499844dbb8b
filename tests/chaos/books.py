"""Check, when everything has come to rest, what was received against what is committed."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import Group

from drf_webhooks.models import Delivery, Endpoint, Event
from drf_webhooks.receiver_server import Received
from tests.app.models import Deposit, Landlord
from tests.app.serializers import DepositSerializer, LandlordWithUnitsSerializer, form

__all__ = ["Books", "check"]

#: As the writer makes them; those in the data are found wherever they are nested.
_TOKEN = re.compile(rb'"((?:undone|alone)?\d+-\d+-\d+)"')


@dataclass
class Books:
    """What is wrong: all of it must be empty."""

    #: Objects whose last event is not how they are.
    lost: list[Any] = field(default_factory=list)
    #: Received data of changes that were not committed.
    invented: list[Any] = field(default_factory=list)
    #: One ``webhook-id`` with two bodies.
    unequal: list[Any] = field(default_factory=list)
    #: Objects whose sequence numbers are not in the order of their commits.
    disordered: list[Any] = field(default_factory=list)
    #: Events and deliveries that are neither delivered nor visibly dead.
    stuck: list[Any] = field(default_factory=list)
    changes: int = 0
    events: int = 0
    duplicates: int = 0

    @property
    def wrong(self) -> dict[str, list[Any]]:
        """What is wrong, by its kind."""
        kinds = ("lost", "invented", "unequal", "disordered", "stuck")
        return {kind: getattr(self, kind) for kind in kinds if getattr(self, kind)}

    @property
    def totals(self) -> dict[str, int]:
        """The figures that are printed."""
        counted = {name: getattr(self, name) for name in ("changes", "events", "duplicates")}
        return {**counted, "lost": len(self.lost), "invented": len(self.invented)}


def check(
    requests: Iterable[Received], endpoint: Endpoint, before: dict[tuple[str, Any], Any]
) -> Books:
    """Compare.

    Args:
        requests: What the endpoint's receiver got.
        endpoint: The one that always comes up again.
        before: The objects that were there at the start, with their forms.

    """
    books = Books(changes=Group.objects.count(), events=Event.objects.count())
    messages = _messages(requests, books)
    _check_inventions(messages, books)
    _check_objects(messages, before, books)
    _check_rest(endpoint, books)
    return books


def forms() -> dict[tuple[str, Any], Any]:
    """Return how all objects are now, by resource and key."""
    found: dict[tuple[str, Any], Any] = {}
    for each in Deposit.objects.all():
        found["core.deposit", each.pk] = form(DepositSerializer, each)
    for landlord in Landlord.objects.all():
        found["core.landlord", landlord.pk] = form(LandlordWithUnitsSerializer, landlord)
    return found


def _messages(requests: Iterable[Received], books: Books) -> dict[str, Received]:
    found: dict[str, Received] = {}
    for each in requests:
        name = each.headers["webhook-id"]
        known = found.setdefault(name, each)
        books.duplicates += known is not each
        if known.body != each.body:
            books.unequal.append((name, known.body, each.body))
    return found


def _check_inventions(messages: dict[str, Received], books: Books) -> None:
    committed = set(Group.objects.values_list("name", flat=True))
    for name, each in messages.items():
        for found in _TOKEN.findall(each.body):
            token = found.decode()
            if not token.startswith("alone") and token not in committed:
                books.invented.append((name, token))


def _check_objects(
    messages: dict[str, Received], before: dict[tuple[str, Any], Any], books: Books
) -> None:
    said: dict[tuple[str, Any], dict[int, tuple[str, Any]]] = defaultdict(dict)
    for each in messages.values():
        message = each.json
        resource, _, operation = message["type"].rpartition(".")
        said[resource, message["data"]["id"]][message["sequence"]] = operation, message["data"]
    now = forms()
    for subject in {*said, *now, *before}:
        events = [said[subject][number] for number in sorted(said[subject])]
        last = events[-1] if events else ("created", before.get(subject))
        if subject not in now:
            # One that came and went unannounced has nothing to say.
            is_right = last[0] == "deleted" or last[1] is None
        else:
            is_right = last[0] != "deleted" and last[1] == now[subject]
        if not is_right:
            books.lost.append((subject, last, now.get(subject)))
        amounts = [Decimal(data["amount"]) for _, data in events if "amount" in data]
        if amounts != sorted(amounts):
            books.disordered.append((subject, amounts))


def _check_rest(endpoint: Endpoint, books: Books) -> None:
    books.stuck += Event.objects.filter(body=None, error="").values_list("type", "held_until")
    books.stuck += Delivery.objects.filter(endpoint=endpoint).exclude(state="delivered")
    books.stuck += Delivery.objects.filter(state="dead", reason="")
    books.stuck += Delivery.objects.filter(state="delivered", attempts=None)
