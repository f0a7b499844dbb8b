"""Follow each database connection: what its open transaction has noted, and its commit.

The one module that leans on an internal of Django: it replaces ``connect``, ``commit``,
``rollback`` and ``set_autocommit`` on connection instances, because Django has no hook
before a commit. ``docs/explanation/guarantees.md`` argues it.
"""

import re
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from drf_webhooks.changes import Changes, Form, Subject
from drf_webhooks.event_types import Interest
from drf_webhooks.exceptions import RecordingError
from drf_webhooks.waking import wake

__all__ = ["Log", "Questions", "install", "log_of", "open_logs", "unit"]

_SAVEPOINT = re.compile(
    r"\s*(SAVEPOINT|ROLLBACK\s+TO(?:\s+SAVEPOINT)?|RELEASE(?:\s+SAVEPOINT)?)\s+(.+?)\s*;?\s*$",
    re.IGNORECASE,
)
_READS = ("SELECT", "EXPLAIN", "SHOW", "PRAGMA")
_LOG = "_drf_webhooks_log"
_IN_ERROR = 3  # libpq's PQTRANS_INERROR


class Questions(Protocol):
    """What has to be asked of the database before the next write changes the answer."""

    def answer(self) -> None: ...


@dataclass
class Frame:
    """What was noted since a savepoint was made; the first one has no savepoint."""

    savepoint: str | None = None
    changes: dict[Hashable, Changes] = field(default_factory=dict)
    #: Whether something was stored that is due once it is committed.
    is_due: bool = False


class Log:
    """What the open transaction of one connection has noted, by session."""

    def __init__(
        self, connection: BaseDatabaseWrapper, record: Callable[["Log"], Callable[[], None]]
    ) -> None:
        self.connection = connection
        self.using = connection.alias
        self._record = record
        self._is_recording = False
        self.reset()

    def reset(self) -> None:
        """Forget everything, as a rollback does."""
        self._frames = [Frame()]
        self._questions: Questions | None = None
        self._unit: object = None
        #: Which event types somebody wants, as far as this transaction has asked.
        self.interest = Interest()
        #: How base objects looked before it, of resources that compare. A savepoint that is
        #: rolled back leaves them true: nothing of them had changed when they were taken.
        self.forms: dict[Subject, Form] = {}

    def __bool__(self) -> bool:
        return any(any(frame.changes.values()) for frame in self._frames)

    @property
    def is_due(self) -> bool:
        """Whether the open transaction has stored something that is due at its commit."""
        return any(frame.is_due for frame in self._frames)

    def note_due(self) -> None:
        """Have the engine woken when the open transaction is committed."""
        self._frames[-1].is_due = True
        self._unit = _unit(self.connection)

    @property
    def is_in_test_case(self) -> bool:
        """Whether the open transaction is a ``TestCase``'s, which never commits."""
        return _is_in_test_case(self.connection)

    def changes(self, session: Hashable) -> Changes:
        """Return where a session notes what happens now."""
        self.end_test_unit()
        self._unit = _unit(self.connection)
        return self._frames[-1].changes.setdefault(session, Changes())

    def ask(self, make: Callable[[], Questions]) -> Questions:
        """Return the questions that will be answered before the next write."""
        if self._questions is None:
            self._questions = make()
        return self._questions

    def noted(self) -> list[Changes]:
        """Return everything that is noted and not taken."""
        return [changes for frame in self._frames for changes in frame.changes.values()]

    def take(self, session: Hashable) -> Changes:
        """Hand out what a session noted and no savepoint still can undo by itself.

        Frames below the present one stay: were they written now and this savepoint rolled
        back, they would be lost.
        """
        self.answer()
        return self._frames[-1].changes.pop(session, Changes())

    def take_all(self) -> dict[Hashable, Changes]:
        """Hand out everything, the savepoints merged."""
        self.answer()
        merged: dict[Hashable, Changes] = {}
        for frame in self._frames:
            for session, changes in frame.changes.items():
                merged.setdefault(session, Changes()).extend(changes)
            frame.changes = {}
        return {session: changes for session, changes in merged.items() if changes}

    def answer(self) -> None:
        """Ask now what must be asked before the next write."""
        questions, self._questions = self._questions, None
        if questions is not None:
            questions.answer()

    def before_commit(self) -> Callable[[], None]:
        """Store the events of the open transaction, and return what to do once it is committed.

        Raises:
            RecordingError: the database reports an error that somebody swallowed, and would
                turn the commit into a rollback without a word.

        """
        if self._is_recording or not self or self.connection.needs_rollback:
            return _nothing
        self._is_recording = True
        try:
            return self._record(self)
        finally:
            self._is_recording = False

    def end_test_unit(self) -> None:
        """Inside a ``TestCase``, treat what was an outermost transaction as committed.

        A ``TestCase`` wraps each test in transactions that never commit. What would be the
        outermost one without it has ended when its ``Atomic`` is no longer open.
        """
        connection = self.connection
        if (
            self._is_recording
            or not self.is_in_test_case
            or (self._unit is not None and self._unit in connection.atomic_blocks)
            or not (self or self.is_due)
        ):
            return
        self.before_commit()()
        self._unit = None
        self.interest = Interest()
        self.forms = {}
        if self.is_due:
            for frame in self._frames:
                frame.is_due = False
            wake(self.using)

    def _watch(
        self,
        execute: Callable[..., Any],
        sql: Any,
        params: Any,
        many: bool,
        context: Any,  # Django's signature
    ) -> Any:
        text = sql if isinstance(sql, str) else ""
        if self._is_recording:
            return execute(sql, params, many, context)
        first = text[:1]
        found = _SAVEPOINT.match(text) if first in "SRsr " and "SELECT" not in text[:7] else None
        if found is None or not found[1].upper().startswith("ROLLBACK"):
            if self._questions is not None and not text.lstrip()[:7].upper().startswith(_READS):
                self.answer()
            if self._frames[-1].changes or self._frames[-1].is_due:
                self.end_test_unit()
        result = execute(sql, params, many, context)
        if found is not None:
            self._follow(found[1].upper(), found[2].strip("\"`'[]").lower())
        return result

    def _follow(self, verb: str, name: str) -> None:
        if verb == "SAVEPOINT":
            self._frames.append(Frame(name))
            return
        depths = [n for n, frame in enumerate(self._frames) if frame.savepoint == name]
        if not depths:
            return
        inner, self._frames = self._frames[depths[-1] :], self._frames[: depths[-1]]
        if verb.startswith("ROLLBACK"):
            self._questions = None
            self._frames.append(Frame(name))
            return
        for frame in inner:
            self._frames[-1].is_due |= frame.is_due
            for session, changes in frame.changes.items():
                mine = self._frames[-1].changes
                if session in mine:
                    mine[session].extend(changes)
                else:
                    mine[session] = changes


def log_of(using: str) -> Log:
    """Return the log of this thread's connection to a database."""
    connection = connections[using]
    log: Log | None = getattr(connection, _LOG, None)
    if log is None:
        # Not connected yet, or connected before the project's apps were ready.
        _follow_connection(sender=type(connection), connection=connection)
        log = getattr(connection, _LOG)
    return log


@contextmanager
def unit(using: str) -> Iterator[None]:
    """Give a write a transaction if none is open, so that row and event are stored together.

    In autocommit the database would commit the row before anything can be noted of it.
    """
    connection = connections[using]
    if connection.in_atomic_block or not connection.get_autocommit():
        yield
        log_of(using).end_test_unit()
    else:
        with transaction.atomic(using=using):
            yield


def open_logs() -> list[Log]:
    """Return the logs of this thread's connections."""
    logs = (getattr(each, _LOG, None) for each in connections.all(initialized_only=True))
    return [log for log in logs if log is not None]


_recorders: list[Callable[[Log], Callable[[], None]]] = []


def install(record: Callable[[Log], Callable[[], None]]) -> None:
    """Follow every connection from now on.

    Args:
        record: Called before each commit of a transaction that noted something. Stores the
            events and returns what is to be done once the commit has succeeded.

    """
    _recorders[:] = [record]
    connection_created.connect(_follow_connection, dispatch_uid="drf_webhooks.transactions")


def _follow_connection(*, connection: BaseDatabaseWrapper, **_: object) -> None:
    if hasattr(connection, _LOG):
        return
    log = Log(connection, _recorders[0])
    setattr(connection, _LOG, log)
    connection.execute_wrappers.append(log._watch)  # its own module
    for name, replacement in (
        ("commit", _commit),
        ("rollback", _rollback),
        ("set_autocommit", _set_autocommit),
        ("connect", _connect),
    ):
        setattr(connection, name, partial(replacement, log, getattr(connection, name)))


def _commit(log: Log, original: Callable[[], None]) -> None:
    connection = log.connection
    # Django's own check, before anything is stored: commit() inside atomic() is refused.
    connection.validate_no_atomic_block()
    with _undone_if_it_fails(log):
        afterwards = log.before_commit()
    is_due = log.is_due
    try:
        original()
    finally:
        log.reset()
    afterwards()
    if is_due:
        wake(log.using)


def _rollback(log: Log, original: Callable[[], None]) -> None:
    try:
        original()
    finally:
        log.reset()


def _connect(log: Log, original: Callable[[], None]) -> None:
    # What was open on a connection that got lost is gone. Before anything else: connect()
    # turns autocommit on, which counts as a commit below.
    log.reset()
    original()


def _set_autocommit(log: Log, original: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    # SQLite and MariaDB commit what is open when autocommit is turned on.
    turns_on = bool(args[0] if args else kwargs.get("autocommit"))
    connection = log.connection
    is_open = not connection.get_autocommit() and not connection.in_atomic_block
    if turns_on and is_open and (log or log.is_due):
        connection.commit()
    original(*args, **kwargs)


@contextmanager
def _undone_if_it_fails(log: Log) -> Iterator[None]:
    """Roll back when events cannot be stored: ``Atomic`` does so for database errors only."""
    connection = log.connection
    try:
        if log:
            # Makes on_commit() usable inside, and nested atomic() blocks plain savepoints.
            with transaction.atomic(using=log.using, savepoint=False):
                yield
            _check_is_usable(connection)
        else:
            yield
    except BaseException:
        connection.needs_rollback = False
        connection.rollback()
        raise


def _check_is_usable(connection: BaseDatabaseWrapper) -> None:
    info = getattr(connection.connection, "info", None)
    if connection.vendor == "postgresql" and int(info.transaction_status) == _IN_ERROR:  # type: ignore[union-attr]  # psycopg's connections have it
        msg = (
            "A database error was swallowed while events were stored, so PostgreSQL would "
            "undo this transaction at its commit. Let the error through, or wrap the query "
            "that may fail in transaction.atomic()."
        )
        raise RecordingError(msg)


def _nothing() -> None:
    return


def _is_in_test_case(connection: BaseDatabaseWrapper) -> bool:
    blocks = connection.atomic_blocks
    return bool(blocks) and bool(getattr(blocks[0], "_from_testcase", False))


def _unit(connection: BaseDatabaseWrapper) -> object:
    """Return what would be the outermost atomic block without the ``TestCase``."""
    return next(
        (
            block
            for block in connection.atomic_blocks
            if not getattr(block, "_from_testcase", False)
        ),
        None,
    )
