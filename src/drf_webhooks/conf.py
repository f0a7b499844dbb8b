"""The settings: a typed field for each key of ``settings.DRF_WEBHOOKS``, with its default."""

import dataclasses
import difflib
import types
import typing
from datetime import timedelta
from functools import cache
from typing import Any, Literal, cast

from django.conf import settings
from django.core.signals import setting_changed

from drf_webhooks.exceptions import ConfigurationError

__all__ = ["Config", "config", "given", "mistakes"]

NAME = "DRF_WEBHOOKS"


@dataclasses.dataclass(frozen=True)
class Config:
    """What ``DRF_WEBHOOKS`` may hold."""

    #: The model that owns endpoints, as ``"app_label.Model"``. Read by the first migration:
    #: choose it before ``migrate``. ``None`` means ``settings.AUTH_USER_MODEL``.
    OWNER_MODEL: str | None = None

    #: The module that is imported from each installed app at start-up, like ``admin``.
    MODULE: str = "webhooks"

    #: Outside any session, each transaction is its own session. ``False`` records only in sessions.
    IMPLICIT_SESSIONS: bool = True

    #: Notice also what sends no signal: ``QuerySet.update()``, ``bulk_create()`` and the like.
    CAPTURE_BULK: bool = True

    #: How many objects of a resource are said to be updated at most when a row changes of a
    #: table that its code reads as a whole. With more, a warning in the log says so instead.
    WHOLE_TABLE_LIMIT: int = 1000

    #: Record also what ``loaddata`` writes (``raw=True``).
    RECORD_RAW: bool = False

    #: What becomes of an object that cannot be serialized: ``"park"`` stores its event with the
    #: reason and lets the save succeed, ``"raise"`` makes the commit fail.
    ON_PAYLOAD_ERROR: Literal["park", "raise"] = "park"

    #: What becomes of a transaction whose events cannot be recorded, by a defect or by an error
    #: of the database: ``"raise"`` makes its commit fail, ``"park"`` lets it succeed and stores
    #: parked events that name the objects and the reason.
    ON_RECORDING_ERROR: Literal["raise", "park"] = "raise"

    #: How long the events of a session of several transactions wait for its end, should the
    #: process die before it. Then the worker serializes and releases them.
    SESSION_HOLD: timedelta = timedelta(minutes=15)

    #: How long after an event its object is looked at once more, for what another transaction
    #: did at the same time. Longer than transactions last; a minute is a good value. What was
    #: changed meanwhile in a ``disable_webhooks()`` block is said too. ``None`` does not look.
    RECHECK_AFTER: timedelta | None = None

    #: Scheme and host of absolute URLs in payloads, ``"https://api.example.com"``.
    #: ``None`` gives relative ones, as DRF does for ``request=None``.
    BASE_URL: str | None = None

    #: Payloads above this many bytes are written to the log as a warning.
    PAYLOAD_WARN_BYTES: int = 20_000

    #: A whole attempt, from the first look-up to the last byte read, 1 to 30 s.
    REQUEST_TIMEOUT: timedelta = timedelta(seconds=15)

    #: The part of it that connecting may take.
    CONNECT_TIMEOUT: timedelta = timedelta(seconds=5)

    #: Waits between attempts; their number plus one is the number of attempts.
    RETRY_SCHEDULE: tuple[timedelta, ...] = (
        timedelta(seconds=5),
        timedelta(minutes=5),
        timedelta(minutes=30),
        timedelta(hours=2),
        timedelta(hours=5),
        timedelta(hours=10),
        timedelta(hours=14),
        timedelta(hours=20),
        timedelta(hours=24),
    )

    #: Added to each wait, as a part of it, at random between 0 and this, 0 to 1.
    RETRY_JITTER: float = 0.2

    #: A delivery older than this is given up.
    MAX_AGE: timedelta = timedelta(days=4)

    #: How long a worker holds a delivery. Longer than ``REQUEST_TIMEOUT``.
    LEASE: timedelta = timedelta(seconds=60)

    #: Requests in the air at once, for one worker.
    CONCURRENCY: int = 100

    #: Requests in the air at once for one endpoint, for one worker. An endpoint's own
    #: ``concurrency`` goes before it.
    ENDPOINT_CONCURRENCY: int = 10

    #: Requests a second for one endpoint, of all workers together; ``None`` for any number. An
    #: endpoint's own ``rate`` goes before it.
    ENDPOINT_RATE: float | None = None

    #: How often a worker looks for due deliveries when nothing wakes it.
    POLL_INTERVAL: timedelta = timedelta(seconds=1)

    #: Longest response body that is read and kept in the attempt log, in bytes.
    RESPONSE_LOG_BYTES: int = 4096

    #: Networks that a receiver may have besides the public internet, as ``"10.0.0.0/8"``.
    #: For development: ``("127.0.0.0/8", "::1/128")``.
    ALLOWED_NETWORKS: tuple[str, ...] = ()


def given() -> object:
    """Return what the project has written, unchecked."""
    return getattr(settings, NAME, {})


def config() -> Config:
    """Return the settings in force.

    Raises:
        ConfigurationError: a name is unknown or a value has the wrong type.

    """
    return _read()


@cache
def _read() -> Config:
    written = given()
    for mistake in mistakes(written):
        raise ConfigurationError(mistake)
    return Config(**cast("dict[str, Any]", written))


def _forget(*, setting: str, **_: object) -> None:
    if setting == NAME:
        _read.cache_clear()


setting_changed.connect(_forget, dispatch_uid="drf_webhooks.conf")


def mistakes(written: object) -> list[str]:
    """Say what is wrong with a value of ``settings.DRF_WEBHOOKS``, a sentence each."""
    if not isinstance(written, dict):
        return [f"{NAME} is {written!r}. It must be a dict."]
    hints = typing.get_type_hints(Config)
    found = []
    for key, value in written.items():
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            found.append(f"{NAME} has no setting {key!r}.{hint}")
        elif not _fits(value, hints[key]):
            wanted = _name(hints[key])
            found.append(f"{NAME}[{key!r}] is {value!r}. It must be {wanted}.")
    return found or _contradictions(Config(**written))


def _contradictions(read: Config) -> list[str]:
    found = []
    if not timedelta(seconds=1) <= read.REQUEST_TIMEOUT <= timedelta(seconds=30):
        found.append(
            f"{NAME}['REQUEST_TIMEOUT'] is {read.REQUEST_TIMEOUT}. It must be 1 to 30 seconds."
        )
    if read.LEASE <= read.REQUEST_TIMEOUT:
        found.append(
            f"{NAME}['LEASE'] is {read.LEASE}. It must be longer than REQUEST_TIMEOUT, "
            f"{read.REQUEST_TIMEOUT}, or two workers send the same delivery."
        )
    if not 0 <= read.RETRY_JITTER <= 1:
        found.append(f"{NAME}['RETRY_JITTER'] is {read.RETRY_JITTER}. It must be 0 to 1.")
    found += [
        f"{NAME}[{key!r}] is {getattr(read, key)!r}. It must be at least 1."
        for key in ("CONCURRENCY", "ENDPOINT_CONCURRENCY")
        if getattr(read, key) < 1
    ]
    if read.ENDPOINT_RATE is not None and read.ENDPOINT_RATE <= 0:
        found.append(f"{NAME}['ENDPOINT_RATE'] is {read.ENDPOINT_RATE}. It must be more than 0.")
    return found


def _fits(value: object, hint: Any) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in args
    if origin is types.UnionType:
        return any(_fits(value, arg) for arg in args)
    if origin is tuple:
        return isinstance(value, list | tuple) and all(_fits(part, args[0]) for part in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _name(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal or origin is types.UnionType:
        return " or ".join(repr(arg) if origin is Literal else _name(arg) for arg in args)
    if origin is tuple:
        return f"a list of {_name(args[0])}"
    return "None" if hint is type(None) else str(hint.__name__)
