"""Sessions: one unit of work that says each thing once."""

import logging
import threading
import uuid
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, ParamSpec, Protocol, TypeVar

from asgiref.sync import sync_to_async
from django.db import DatabaseError, connections, transaction
from django.db.models import Model, QuerySet

from drf_webhooks import transactions
from drf_webhooks.changes import Changes, Form, Held, Operation, Subject
from drf_webhooks.conf import config
from drf_webhooks.decorating import decorated
from drf_webhooks.event_types import Interest
from drf_webhooks.origins import NOWHERE, Origin, acting
from drf_webhooks.silence import disable_webhooks, is_all_disabled, is_disabled
from drf_webhooks.transactions import Log, log_of, open_logs

__all__ = ["Origin", "WebhookSignalSession", "disable_webhooks", "webhook_signal_session"]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

_current: ContextVar["WebhookSignalSession | None"] = ContextVar(
    "drf_webhooks_session", default=None
)
#: Stands for a session where changes are noted that are not said.
_SILENCE = object()


class Recorder(Protocol):
    """What sessions need of the half that stores events."""

    def complete(self, noted: Mapping[Hashable, Changes], log: Log) -> None:
        """Add what the open transaction did and no session noted."""

    def record(self, changes: Changes, log: Log, forms: Mapping[Subject, Form]) -> None:
        """Store the final events of some changes."""

    def hold(
        self,
        changes: Changes,
        log: Log,
        *,
        session: uuid.UUID,
        held: dict[Subject, Held],
        interest: Interest,
    ) -> dict[Subject, Held | None]:
        """Store events that wait for a session's end; return what is new about them."""

    def release(
        self,
        held: dict[Subject, Held],
        using: str,
        forms: Mapping[Subject, Form],
        interest: Interest,
    ) -> None:
        """Serialize and release held events."""

    def withdraw(self, changes: Changes, log: Log) -> None:
        """Leave out second looks at objects that changed and are not to be said."""

    def note(self, changes: Changes, model: type[Model], pk: Any, operation: Operation) -> None:
        """Note that an object changed, as its signals would."""


_recorders: list[Recorder] = []


def install(recorder: Recorder) -> None:
    """Say who stores events, and follow every connection from now on."""
    _recorders[:] = [recorder]
    transactions.install(_record_transaction)


class WebhookSignalSession:
    """One unit of work. Collects changes, and says one thing of each object at its end.

    Made by :func:`webhook_signal_session`.
    """

    def __init__(self) -> None:
        self.id = uuid.uuid4()
        self.is_open = True
        self._held: dict[str, dict[Subject, Held]] = {}
        self._interest: dict[str, Interest] = {}
        self._forms: dict[str, dict[Subject, Form]] = {}
        self._origins: list[Origin | Callable[[], Origin]] = []
        # Threads and tasks that were started with a copy of the context share the session.
        self._lock = threading.RLock()

    def created(self, objects: Model | QuerySet[Any]) -> None:
        """Note that objects were created, where no signal says so."""
        self._note(objects, Operation.CREATED)

    def updated(self, objects: Model | QuerySet[Any]) -> None:
        """Note that objects were changed, where no signal says so."""
        self._note(objects, Operation.UPDATED)

    def deleted(self, objects: Model | QuerySet[Any]) -> None:
        """Note that objects are about to be deleted, where no signal says so."""
        self._note(objects, Operation.DELETED)

    @property
    def origin(self) -> Origin:
        """Where the changes of the session come from."""
        found = NOWHERE
        for each in self._origins:
            found = found.joined(each if isinstance(each, Origin) else each())
        return found

    def add_origin(self, origin: Origin | Callable[[], Origin] | None) -> None:
        """Say where the changes of the session come from, besides what was said before.

        Args:
            origin: A function is called when something is stored, so that it may know more
                by then; ``None`` says nothing.

        """
        if origin is not None:
            self._origins.append(origin)

    def interest(self, using: str) -> Interest:
        """Return which event types somebody wants, as far as this session has asked."""
        return self._interest.setdefault(using, Interest())

    def forms(self, using: str) -> dict[Subject, Form]:
        """Return how base objects looked before this session, where that is compared."""
        return self._forms.setdefault(using, {})

    def forget_interest(self) -> None:
        """Ask again: an endpoint has changed."""
        self._interest.clear()

    def hold(self, changes: Changes, log: Log) -> Callable[[], None]:
        """Store events in the open transaction that wait for the session's end."""
        with self._lock, acting(self.origin):
            held = _recorder().hold(
                changes,
                log,
                session=self.id,
                held=self._held.get(log.using, {}),
                interest=self.interest(log.using),
            )

        def keep() -> None:
            with self._lock:
                mine = self._held.setdefault(log.using, {})
                for subject, now_held in held.items():
                    before = mine.pop(subject, None)
                    if now_held is not None:
                        mine[subject] = now_held.joined(before)

        return keep

    def finish(self, *, failed: bool) -> None:
        """Say what is left to say. Called once, in the thread that owns the connections."""
        self.is_open = False
        for log in open_logs():
            log.end_test_unit()
            # After an exception the open transaction may be broken or about to be undone:
            # what it noted is recorded before its commit, if there is one.
            if not failed and not log.connection.needs_rollback:
                self._finish_transaction(log)
        with self._lock:
            waiting, self._held = self._held, {}
        for using, held in waiting.items():
            if held and not connections[using].needs_rollback:
                self._release(held, using)
                log_of(using).end_test_unit()

    def _release(self, held: dict[Subject, Held], using: str) -> None:
        try:
            with transaction.atomic(using=using), acting(self.origin):
                _recorder().release(held, using, self.forms(using), self.interest(using))
        except DatabaseError:
            # The changes are committed and their events are stored: the work was done.
            logger.exception(
                "Session %s could not release %d events. They stay held; a worker releases "
                "them within %s.",
                self.id,
                len(held),
                config().SESSION_HOLD,
            )

    def _finish_transaction(self, log: Log) -> None:
        changes = log.take(self)
        if not changes:
            return
        # A signal that was sent by hand may come outside any transaction.
        with transaction.atomic(using=log.using):
            _recorder().complete({self: changes}, log)
            if not self._held.get(log.using):
                with acting(self.origin):
                    _recorder().record(changes, log, self.forms(log.using))
                return
            keep = self.hold(changes, log)
        keep()

    def _note(self, objects: Model | QuerySet[Any], operation: Operation) -> None:
        model, using, pks = identify(objects)
        with recording(using, session=self) as changes:
            for pk in pks:
                _recorder().note(changes, model, pk, operation)


def identify(objects: Model | QuerySet[Any]) -> tuple[type[Model], str, list[Any]]:
    """Return the model, the database and the primary keys of an object or a queryset."""
    if isinstance(objects, Model):
        if objects.pk is None:
            msg = f"{objects!r} has no primary key. Save it before webhooks are triggered for it."
            raise ValueError(msg)
        return type(objects), objects._state.db or "default", [objects.pk]
    return objects.model, objects.db, list(objects.values_list("pk", flat=True))


@contextmanager
def recording(using: str, *, session: WebhookSignalSession | None = None) -> Iterator[Changes]:
    """Give the place where what is said by hand is noted, in a transaction if none is open.

    Args:
        using: The database that changes.
        session: The session that it belongs to; by default the current one.

    """
    session = session if session is not None and session.is_open else current_session()
    with transactions.unit(using):
        yield log_of(using).changes(session)


def changes_now(using: str) -> Changes:
    """Return where changes are noted; ask :func:`is_recording` before."""
    return log_of(using).changes(current_session())


def silent_changes(using: str) -> Changes:
    """Return where changes are noted that are not to be said."""
    return log_of(using).changes(_SILENCE)


def interest_now(using: str) -> Interest:
    """Return which event types somebody wants, as far as it was asked in this unit of work."""
    session = current_session()
    return log_of(using).interest if session is None else session.interest(using)


def forms_now(using: str) -> dict[Subject, Form]:
    """Return how base objects looked before this unit of work, where that is compared."""
    session = current_session()
    return log_of(using).forms if session is None else session.forms(using)


def current_session() -> WebhookSignalSession | None:
    """Return the open session of this context.

    A task or a thread may outlive the session that it was started in: then it has none.
    """
    session = _current.get()
    return session if session is not None and session.is_open else None


def is_recording() -> bool:
    """Tell whether a change that happens now is noted."""
    return not is_all_disabled() and (current_session() is not None or config().IMPLICIT_SESSIONS)


def is_silent(resource: type[Any]) -> bool:
    """Tell whether a change of a resource's objects that happens now is not said."""
    return is_disabled(resource) or not is_recording()


def forget_interest(using: str) -> None:
    """Ask again who wants what: an endpoint has changed in this unit of work."""
    log_of(using).interest = Interest()
    session = current_session()
    if session is not None:
        session.forget_interest()


def _recorder() -> Recorder:
    return _recorders[0]


def _record_transaction(log: Log) -> Callable[[], None]:
    afterwards = []
    noted = log.take_all()
    silent = noted.pop(_SILENCE, None)
    if silent is not None:
        # First: what this transaction says itself is to be looked at again.
        _recorder().withdraw(silent, log)
    if noted:
        _recorder().complete(noted, log)
    for session, changes in noted.items():
        explicit = session if isinstance(session, WebhookSignalSession) else None
        if explicit is not None and explicit.is_open:
            afterwards.append(explicit.hold(changes, log))
        else:
            forms = log.forms if explicit is None else explicit.forms(log.using)
            with acting(NOWHERE if explicit is None else explicit.origin):
                _recorder().record(changes, log, forms)

    def after_commit() -> None:
        for act in afterwards:
            act()

    return after_commit


class webhook_signal_session:  # noqa: N801  # used like contextlib's managers
    """Open a session: ``with``, ``async with``, or a decorator of a function of either kind.

    A session inside a session joins the outer one.

    Args:
        origin: Where the changes come from. What an inner session says of it is added to what
            the outer one has said, for the whole session.

    """

    def __init__(self, *, origin: Origin | Callable[[], Origin] | None = None) -> None:
        self._origin = origin
        self._session: WebhookSignalSession | None = None
        self._token: Token[WebhookSignalSession | None] | None = None

    def __enter__(self) -> WebhookSignalSession:
        session = current_session()
        if session is None:
            session = self._session = WebhookSignalSession()
            self._token = _current.set(session)
        session.add_origin(self._origin)
        return session

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        session = self._leave()
        if session is not None:
            session.finish(failed=exc_type is not None)

    async def __aenter__(self) -> WebhookSignalSession:
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        session = self._leave()
        if session is not None:
            await sync_to_async(session.finish)(failed=exc_type is not None)

    def _leave(self) -> WebhookSignalSession | None:
        session, self._session = self._session, None
        token, self._token = self._token, None
        if token is not None:
            _current.reset(token)
        return session

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        return decorated(function, lambda: type(self)(origin=self._origin))
