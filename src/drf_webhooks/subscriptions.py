"""Ask which event types endpoints subscribe to, and how, before anything is made for them."""

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db.models import Q

from drf_webhooks.event_types import Interest, Way, patterns
from drf_webhooks.models import Endpoint
from drf_webhooks.statements import fetch, table_of

__all__ = ["keep_all", "listeners", "wanted", "ways"]

#: Lists of event types that one query may bring; with more, each type is asked for.
_MOST_LISTS = 200

_keepers = 0
_keepers_lock = threading.Lock()


@contextmanager
def keep_all() -> Iterator[None]:
    """Store events although nobody subscribes, in the whole process: for tests."""
    global _keepers  # noqa: PLW0603  # for the whole process, threads included
    with _keepers_lock:
        _keepers += 1
    try:
        yield
    finally:
        with _keepers_lock:
            _keepers -= 1


def wanted(
    event_types: Iterable[str], using: str, interest: Interest, *, is_shared: bool = False
) -> set[str]:
    """Return those event types that an enabled endpoint subscribes to.

    Args:
        event_types: What may have to be said.
        using: The database.
        interest: What was asked before, in this unit of work; answers are added.
        is_shared: Whether each endpoint that subscribes hears of it: then :func:`ways` asks no
            more.

    """
    types = set(event_types)
    if _keepers:
        return types
    known = {each: interest.knows(each) for each in types}
    unknown = {each for each, answer in known.items() if answer is None}
    if unknown:
        _ask(unknown, using, interest, is_shared=is_shared)
        known = {each: interest.knows(each) for each in types}
    return {each for each, answer in known.items() if answer}


def ways(event_type: str, using: str, interest: Interest) -> set[Way]:
    """Return how enabled endpoints listen to a type of which all who subscribe hear."""
    found = interest.ways(event_type)
    if found is None:
        _ask({event_type}, using, interest, is_shared=True)
        found = interest.ways(event_type) or set()
    return found


def _ask(unknown: set[str], using: str, interest: Interest, *, is_shared: bool) -> None:
    """Read the lists of the enabled endpoints; with very many, ask for each type instead."""
    lists = fetch(
        using,
        f"SELECT event_types, version, is_thin FROM {table_of(using, Endpoint)} "  # noqa: S608  # a table's name
        f"WHERE state = 'enabled' LIMIT {_MOST_LISTS + 1}",
        [],
    )
    if len(lists) <= _MOST_LISTS:
        interest.heard = defaultdict(set)
        for text, version, is_thin in lists:
            for pattern in text.split():
                interest.heard[pattern].add(Way(version, bool(is_thin)))
        return
    enabled = Endpoint.objects.using(using).filter(state=Endpoint.State.ENABLED)
    for each in unknown:
        is_heard = Q()
        for pattern in patterns(each):
            is_heard |= Q(event_types__contains=f" {pattern} ")
        some = enabled.filter(is_heard)
        if is_shared:
            rows = some.values_list("version", "is_thin").distinct()
            interest.ways_asked[each] = {Way(*row) for row in rows}
            interest.asked[each] = bool(interest.ways_asked[each])
        else:
            # Only the ways of an owner's endpoints will matter; one row is enough to tell.
            interest.asked[each] = some.exists()


def listeners(event_types: Iterable[str], owners: Iterable[Any], using: str) -> dict[Any, set[Way]]:
    """Return the keys of those owners who have an enabled endpoint for one of some types.

    With each, how these endpoints listen.
    """
    owners = list(owners)
    found: dict[Any, set[Way]] = {each: set() for each in owners} if _keepers else {}
    endpoints = Endpoint.objects.using(using).filter(owner__in=owners, state=Endpoint.State.ENABLED)
    asked = {pattern for each in event_types for pattern in patterns(each)}
    for owner, heard, version, is_thin in endpoints.values_list(
        "owner", "event_types", "version", "is_thin"
    ):
        if not asked.isdisjoint(heard):
            found.setdefault(owner, set()).add(Way(version, is_thin))
    return found
