"""The whole story of recording: find base objects, number them, serialize, store."""

import uuid
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from django.db import connections, transaction
from django.db.models import Model

from drf_webhooks import holding, learning, rechecks, waiting
from drf_webhooks.changes import Changes, Form, Held, Operation, Subject
from drf_webhooks.conf import config
from drf_webhooks.entries import batches, entries_of
from drf_webhooks.event_types import Interest
from drf_webhooks.exceptions import PayloadError
from drf_webhooks.recording import Entry, park, store
from drf_webhooks.silence import is_disabled
from drf_webhooks.tracing.index import index
from drf_webhooks.tracing.resolver import CHUNK
from drf_webhooks.transactions import Log, log_of

__all__ = ["Pipeline", "Source", "keep_house", "recheck_due", "release_due", "sources"]


class Source(Protocol):
    """Who else knows of changes, beside what the ORM's own writes note."""

    def complete(self, noted: Mapping[Hashable, Changes], log: Log) -> None:
        """Add what the open transaction did and nobody noted, before it is recorded.

        Args:
            noted: What is about to be recorded, by session; at least one.
            log: What else the transaction has noted.

        """

    def relay(self, using: str) -> int:
        """Record what was committed and nobody has taken; return how many rows that were."""


#: In the order in which they are asked.
sources: list[Source] = []


class Pipeline:
    """What sessions call when there is something to store."""

    def complete(self, noted: Mapping[Hashable, Changes], log: Log) -> None:
        """Add what the open transaction did and only other sources know."""
        # What a source could not add, it relays later.
        with _guarded(log.using, lambda _: None):
            for source in sources:
                source.complete(noted, log)

    def record(
        self,
        changes: Changes,
        log: Log,
        forms: Mapping[Subject, Form],
        *,
        is_last_resort: bool = False,
    ) -> None:
        """Store the final events of some changes in the open transaction."""
        with _guarded(log.using, lambda error: park(changes, error, log.using)):
            entries = entries_of(changes, log.using, log.interest, forms)
            _store(entries, log.using, log.interest, is_last_resort=is_last_resort)
            _keep(log.using)

    def hold(
        self,
        changes: Changes,
        log: Log,
        *,
        session: uuid.UUID,
        held: dict[Subject, Held],
        interest: Interest,
    ) -> dict[Subject, Held | None]:
        """Store events without payload that wait for the end of their session.

        Each is removed and written again when the session says more of its object, so that
        its hold always ends after the last change.
        """
        with _guarded(log.using, lambda error: park(changes, error, log.using)):
            entries = entries_of(changes, log.using, interest, {})
            return holding.hold(entries, log.using, session=session, held=held)
        return {}

    def release(
        self,
        held: dict[Subject, Held],
        using: str,
        forms: Mapping[Subject, Form],
        interest: Interest,
    ) -> None:
        """Serialize held events as their objects are now, and make their deliveries."""
        events = waiting.take([each for row in held.values() for each in row.events], using)
        _store(holding.released(events, using, forms), using, interest)
        _keep(using)

    def withdraw(self, changes: Changes, log: Log) -> None:
        """Leave out second looks at objects that changed and are not to be said.

        One statement if no such object had an event of late.
        """
        # What cannot be withdrawn is said, and true.
        with _guarded(log.using, lambda _: None):
            rechecks.withdraw(changes, log.using)

    def note(self, changes: Changes, model: type[Model], pk: Any, operation: Operation) -> None:
        """Note that an object changed, as its signals would."""
        concrete: Any = model._meta.concrete_model
        for resource in index().bases.get(concrete, ()):
            if not is_disabled(resource):
                changes.note_base(resource, pk, operation)
        for path in index().nested.get(concrete, ()):
            if is_disabled(path.resource):
                continue
            changes.note_nested(path, [pk])


@contextmanager
def _guarded(using: str, otherwise: Callable[[Exception], None]) -> Iterator[None]:
    """Let a transaction go on without its events, if the project has asked for that.

    What was stored of them until then is undone. A form that cannot be serialized has a
    setting of its own.
    """
    if config().ON_RECORDING_ERROR == "raise":
        yield
        return
    try:
        with transaction.atomic(using=using):
            yield
    except PayloadError:
        raise
    except Exception as error:
        if connections[using].needs_rollback:
            # The database has undone the whole transaction, as SQLite does without room.
            raise
        otherwise(error)


def release_due(using: str = "default") -> int:
    """Serialize and release held events whose hold is over; return how many there were.

    These are the events of deferred resources, and those of sessions that never came to
    their end because their process died. What other sources know of is recorded first.
    """
    released = sum(source.relay(using) for source in sources)
    while True:
        with transaction.atomic(using=using):
            events = waiting.due(using, limit=CHUNK)
            _store(holding.released(events, using, {}), using, Interest(), is_last_resort=True)
            _keep(using)
        released += len(events)
        if len(events) < CHUNK:
            return released


def recheck_due(using: str = "default") -> int:
    """Look at objects once more, and say what was missed; return how many events were looked at.

    Two transactions at the same time do not see each other's part: one makes an object under a
    row, the other changes that row. Neither serializes both. When both are over, the object
    differs from what was last said of it, and only then an event says so.
    """
    count = 0
    while True:
        with transaction.atomic(using=using):
            events = waiting.due_rechecks(using, limit=CHUNK)
            interest = Interest()
            differing = rechecks.differing(events, using, interest)
            _store(differing, using, interest, is_last_resort=True)
        count += len(events)
        if len(events) < CHUNK:
            return count


def keep_house(using: str = "default") -> int:
    """Do what is due besides deliveries; return how much that was."""
    return release_due(using) + recheck_due(using)


def _store(
    entries: list[Entry], using: str, interest: Interest, *, is_last_resort: bool = False
) -> None:
    for batch in batches(entries):
        store(batch, using, interest, is_last_resort=is_last_resort)


def _keep(using: str) -> None:
    # What a test learns is rolled back with it, and would be stored again by each.
    if not log_of(using).is_in_test_case:
        learning.keep()
