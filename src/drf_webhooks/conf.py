"""The settings: a typed field for each key of ``settings.DRF_WEBHOOKS``, with its default."""

import base64
import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from ipaddress import ip_network
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from django.conf import settings
from django.core.signals import setting_changed

from drf_webhooks.addresses import ports
from drf_webhooks.endpoint_urls import host_pattern
from drf_webhooks.event_types import is_pattern, refusal
from drf_webhooks.exceptions import ConfigurationError

__all__ = ["FORMATS", "OF_EVENT_TYPES", "Config", "config", "given", "mistakes"]

NAME = "DRF_WEBHOOKS"
#: The formats that are always there, and where they are.
FORMATS = {
    "json": "drf_webhooks.delivery.formats.Json",
    "xml": "drf_webhooks.delivery.formats.Xml",
    "cloudevents": "drf_webhooks.delivery.formats.CloudEvents",
}

#: What an event type may have values of its own for.
OF_EVENT_TYPES = ("RETRY_SCHEDULE", "RETRY_JITTER", "MAX_AGE")

_COUNTS = (
    "CONCURRENCY",
    "ENDPOINT_CONCURRENCY",
    "ENGINE_CONCURRENCY",
    "BREAKER_FAILURES",
    "BREAKER_SAMPLE",
    "TYPE_FAILURES",
    "MAX_DEPTH",
    "ENDPOINTS_PER_OWNER",
    "TESTS_PER_MINUTE",
    "RESENDS_PER_MINUTE",
)
#: What reads each value of these, and how one looks.
_DESTINATIONS: dict[str, tuple[Callable[[Any], object], str]] = {
    "ALLOWED_NETWORKS": (ip_network, "'10.0.0.0/8'"),
    "DENIED_NETWORKS": (ip_network, "'10.0.0.0/8'"),
    "ALLOWED_HOSTS": (host_pattern, "'hooks.example.com', '.example.com' or '*'"),
    "DENIED_HOSTS": (host_pattern, "'hooks.example.com', '.example.com' or '*'"),
    "ALLOWED_PORTS": (ports, "443 or '1024-65535'"),
    "DENIED_PORTS": (ports, "443 or '1024-65535'"),
}
_FERNET_BYTES = 32
_LENGTHS = ("BREAKER_WINDOW", "BREAKER_PAUSE", "BREAKER_PAUSE_LIMIT", "RETRY_AFTER_LIMIT")


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
    #: did at the same time. Longer than transactions last. ``None`` does not look.
    RECHECK_AFTER: timedelta | None = timedelta(minutes=1)

    #: Scheme and host of absolute URLs in payloads, ``"https://api.example.com"``.
    #: ``None`` gives relative ones, as DRF does for ``request=None``.
    BASE_URL: str | None = None

    #: The ``source`` of CloudEvents, a URI reference; ``None`` means ``BASE_URL``.
    CLOUDEVENTS_SOURCE: str | None = None

    #: Formats besides ``json``, ``xml`` and ``cloudevents``: by name, the dotted path of a
    #: subclass of ``drf_webhooks.delivery.formats.Format``.
    FORMATS: dict[str, str] = dataclasses.field(default_factory=dict)

    #: Payloads above this many bytes are written to the log as a warning.
    PAYLOAD_WARN_BYTES: int = 20_000

    #: A whole attempt, from the first look-up to the last byte read, 1 to 30 s.
    REQUEST_TIMEOUT: timedelta = timedelta(seconds=15)

    #: The part of it that connecting may take.
    CONNECT_TIMEOUT: timedelta = timedelta(seconds=5)

    #: A file of CA certificates in PEM form, to trust instead of those of the system. What
    #: ``SSL_CERT_FILE`` or ``REQUESTS_CA_BUNDLE`` say in the environment does not count.
    CA_BUNDLE: str | None = None

    #: A proxy for all requests, ``"http://user:password@proxy.internal:3128"``, or ``https``.
    #: It looks names up, and so it, not the library, keeps requests from reaching the own
    #: network. What ``HTTPS_PROXY`` says in the environment does not count.
    PROXY: str | None = dataclasses.field(default=None, repr=False)

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

    #: How long a receiver can put its deliveries off at most with ``Retry-After``.
    RETRY_AFTER_LIMIT: timedelta = timedelta(days=1)

    #: Other values of ``RETRY_SCHEDULE``, ``RETRY_JITTER`` and ``MAX_AGE`` for event types, by
    #: pattern: ``{"core.code.*": {"MAX_AGE": timedelta(minutes=10)}}``. The narrowest pattern
    #: counts, and an endpoint's ``overrides`` before all.
    PER_EVENT_TYPE: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    #: So many failures in a row pause an endpoint.
    BREAKER_FAILURES: int = 5

    #: So does this part of failures, 0 to 1, among at least ``BREAKER_SAMPLE`` results ...
    BREAKER_RATE: float = 0.7

    #: ... of which there must be so many ...
    BREAKER_SAMPLE: int = 10

    #: ... within this time, which begins with a failure.
    BREAKER_WINDOW: timedelta = timedelta(minutes=5)

    #: How long the first pause is. Each further one is twice as long ...
    BREAKER_PAUSE: timedelta = timedelta(minutes=1)

    #: ... up to this. After it one request probes, then 2, 4 ... go at once.
    BREAKER_PAUSE_LIMIT: timedelta = timedelta(hours=1)

    #: When the owner of an endpoint is warned, after its first failure since the last success.
    WARN_AFTER: tuple[timedelta, ...] = (
        timedelta(hours=1),
        timedelta(hours=24),
        timedelta(hours=72),
    )

    #: An endpoint that took nothing for so long is disabled. ``None`` never disables.
    DISABLE_AFTER: timedelta | None = timedelta(days=5)

    #: But only if its first and its last failure lie so far apart.
    DISABLE_SPREAD: timedelta = timedelta(hours=12)

    #: So many 4xx in a row for one event type, while others are taken, are reported.
    TYPE_FAILURES: int = 5

    #: A function that is called with each notice about an endpoint, as ``"package.module.name"``,
    #: and again later if it raises. ``"drf_webhooks.mail.mail_owner"`` sends an e-mail.
    NOTICE_HANDLER: str | None = None

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

    #: What is woken when something is due: the dotted path of a class with ``wake(using)``, as
    #: ``"drf_webhooks.contrib.celery.Engine"``. ``None`` leaves everything to ``webhooks_worker``.
    ENGINE: str | None = None

    #: How many tasks of an engine deliver at once, on one machine and for one database.
    ENGINE_CONCURRENCY: int = 2

    #: How long a task of an engine goes on while there is something to deliver; then it makes
    #: way for others and is enqueued again. What is in the air is finished, which takes up to
    #: ``REQUEST_TIMEOUT`` more.
    ENGINE_TIME_LIMIT: timedelta = timedelta(seconds=20)

    #: Longest response body that is kept in the attempt log, in bytes. Not much more is read.
    RESPONSE_LOG_BYTES: int = 4096

    #: How long an event's message and its attempts are kept. ``None`` keeps them as long as
    #: the event.
    PAYLOAD_RETENTION: timedelta | None = timedelta(days=30)

    #: How long events and their deliveries are kept. Never forgotten is what still waits to be
    #: delivered. ``None`` keeps them for ever.
    EVENT_RETENTION: timedelta | None = timedelta(days=90)

    #: Let workers forget what is older, a little at a time. ``False`` leaves it to
    #: ``webhooks_prune``.
    PRUNE_IN_WORKER: bool = True

    #: Who sends this as ``Authorization: Bearer …`` may read the metrics. ``None`` lets only staff
    #: who may see deliveries.
    METRICS_TOKEN: str | None = dataclasses.field(default=None, repr=False)

    #: Where each worker serves what it has counted, as ``"0.0.0.0:9108"``. ``None``: nowhere.
    METRICS_BIND: str | None = None

    #: Networks that a receiver may have besides the public internet, as ``"10.0.0.0/8"``.
    #: For development: ``("127.0.0.0/8", "::1/128")``.
    ALLOWED_NETWORKS: tuple[str, ...] = ()

    #: Networks that no receiver may have, whatever else allows it.
    DENIED_NETWORKS: tuple[str, ...] = ()

    #: Hosts that receivers may have, written as in Django's own ``ALLOWED_HOSTS``: a host,
    #: ``".example.com"`` for a domain and all below it, ``"*"`` for all. A name without a dot,
    #: as ``"localhost"``, counts only if it stands here by itself.
    ALLOWED_HOSTS: tuple[str, ...] = ("*",)

    #: Hosts that no receiver may have, written likewise: the project's own, for example.
    DENIED_HOSTS: tuple[str, ...] = ()

    #: Ports that receivers may have, as ``443`` or ``"1024-65535"``.
    ALLOWED_PORTS: tuple[int | str, ...] = (80, 443, "1024-65535")

    #: Ports that no receiver may have, written likewise.
    DENIED_PORTS: tuple[int | str, ...] = ()

    #: Refuse endpoints that have no TLS: what is sent to them can be read and changed on the
    #: way. Addresses in ``ALLOWED_NETWORKS`` may do without, names may not.
    HTTPS_ONLY: bool = True

    #: Which owners may receive still, asked when their deliveries are sent: the dotted path of a
    #: function that takes a queryset of owners and returns those that may. By default those whose
    #: column ``is_active`` is true, if they have one. ``None`` lets everybody.
    OWNER_MAY_RECEIVE: str | None = "drf_webhooks.delivery.access.active"

    #: How many endpoints an owner may have; ``None`` for any number.
    ENDPOINTS_PER_OWNER: int | None = 20

    #: How many tests an owner may ask for in a minute; ``None`` for any number.
    TESTS_PER_MINUTE: int | None = 5

    #: How often an owner may ask in a minute that deliveries be sent again.
    RESENDS_PER_MINUTE: int | None = 5

    #: A change that so many webhooks have led to is recorded, and not sent any more.
    MAX_DEPTH: int = 10

    #: Fernet keys, which encrypt secrets and custom headers in the database: the first one
    #: encrypts, all decrypt. Without any they are stored as they are.
    ENCRYPTION_KEYS: tuple[str, ...] = dataclasses.field(default=(), repr=False)


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
    secret = {each.name for each in dataclasses.fields(Config) if not each.repr}
    found = []
    for key, value in written.items():
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            found.append(f"{NAME} has no setting {key!r}.{hint}")
        elif not _fits(value, hints[key]):
            wanted = _name(hints[key])
            shown = f"of type {type(value).__name__}" if key in secret else repr(value)
            found.append(f"{NAME}[{key!r}] is {shown}. It must be {wanted}.")
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
    if timedelta(0) >= read.ENGINE_TIME_LIMIT:
        found.append(
            f"{NAME}['ENGINE_TIME_LIMIT'] is {read.ENGINE_TIME_LIMIT}. It must be more than 0."
        )
    if not 0 <= read.RETRY_JITTER <= 1:
        found.append(f"{NAME}['RETRY_JITTER'] is {read.RETRY_JITTER}. It must be 0 to 1.")
    if read.CLOUDEVENTS_SOURCE is not None and not _is_reference(read.CLOUDEVENTS_SOURCE):
        found.append(
            f"{NAME}['CLOUDEVENTS_SOURCE'] is {read.CLOUDEVENTS_SOURCE!r}. It must be a URI "
            "reference, like 'https://api.example.com' or '/shop'."
        )
    if read.PROXY is not None and not _is_proxy(read.PROXY):
        # Without the value, which has a password in it.
        found.append(f"{NAME}['PROXY'] must be like 'http://user:password@proxy.internal:3128'.")
    if not 0 < read.BREAKER_RATE <= 1:
        found.append(
            f"{NAME}['BREAKER_RATE'] is {read.BREAKER_RATE}. It must be above 0, and 1 at most."
        )
    if read.METRICS_BIND is not None and not re.fullmatch(r".*:[0-9]{1,5}", read.METRICS_BIND):
        found.append(
            f"{NAME}['METRICS_BIND'] is {read.METRICS_BIND!r}. It must be an address and a port, "
            "as '0.0.0.0:9108'."
        )
    for key in ("PAYLOAD_RETENTION", "EVENT_RETENTION"):
        kept = getattr(read, key)
        if kept is not None and kept <= timedelta(0):
            found.append(f"{NAME}[{key!r}] is {kept}. It must be longer than 0, or None.")
    found += [
        f"{NAME}[{key!r}] is {getattr(read, key)!r}. It must be at least 1."
        for key in _COUNTS
        if (value := getattr(read, key)) is not None and value < 1
    ]
    found += [
        f"{NAME}[{key!r}] is {getattr(read, key)}. It must be longer than 0."
        for key in _LENGTHS
        if getattr(read, key) <= timedelta(0)
    ]
    if any(each < timedelta(0) for each in read.RETRY_SCHEDULE):
        found.append(f"{NAME}['RETRY_SCHEDULE'] has a wait below 0.")
    if read.ENDPOINT_RATE is not None and read.ENDPOINT_RATE <= 0:
        found.append(f"{NAME}['ENDPOINT_RATE'] is {read.ENDPOINT_RATE}. It must be more than 0.")
    found += [
        f"{NAME}['ENCRYPTION_KEYS'][{place}] is no Fernet key, the base64 of 32 random bytes. "
        "Fernet.generate_key() of the package cryptography makes one."
        for place, key in enumerate(read.ENCRYPTION_KEYS)
        if not _is_fernet_key(key)
    ]
    return (
        found
        + _contradictions_of_warnings(read)
        + _mistakes_of_types(read)
        + _mistakes_of_destinations(read)
    )


def _contradictions_of_warnings(read: Config) -> list[str]:
    if list(read.WARN_AFTER) != sorted(set(read.WARN_AFTER)):
        return [f"{NAME}['WARN_AFTER'] does not rise from one to the next."]
    if read.DISABLE_AFTER is None:
        return []
    if not read.WARN_AFTER:
        msg = (
            f"{NAME}['WARN_AFTER'] is empty. No endpoint is disabled without a warning before: "
            "give one, or set DISABLE_AFTER to None."
        )
        return [msg]
    last = read.WARN_AFTER[-1]
    if last >= read.DISABLE_AFTER:
        msg = (
            f"{NAME}['DISABLE_AFTER'] is {read.DISABLE_AFTER}. It must be longer than the last "
            f"of WARN_AFTER, {last}, or nobody is warned in time."
        )
        return [msg]
    return []


def _mistakes_of_types(read: Config) -> list[str]:
    hints = typing.get_type_hints(Config)
    found = []
    for pattern, values in read.PER_EVENT_TYPE.items():
        where = f"{NAME}['PER_EVENT_TYPE'][{pattern!r}]"
        if not is_pattern(pattern):
            found.append(f"{where}: {refusal(pattern)}")
        wrong = [key for key in values if key not in OF_EVENT_TYPES]
        found += [f"{where} has {key!r}. It may have {', '.join(OF_EVENT_TYPES)}." for key in wrong]
        found += [
            f"{where}[{key!r}] is {value!r}. It must be {_name(hints[key])}."
            for key, value in values.items()
            if key not in wrong and not _fits(value, hints[key])
        ]
        if not found:
            changed = dataclasses.replace(read, PER_EVENT_TYPE={}, **values)
            found += [f"{where}: {each}" for each in _contradictions(changed)]
    return found


def _mistakes_of_destinations(read: Config) -> list[str]:
    return [
        f"{NAME}[{key!r}] has {each!r}. It must be like {example}."
        for key, (is_right, example) in _DESTINATIONS.items()
        for each in getattr(read, key)
        if not _is_right(is_right, each)
    ]


def _is_right(read: Callable[[Any], object], value: object) -> bool:
    try:
        read(value)
    except ValueError:
        return False
    return True


def _is_fernet_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, altchars=b"-_", validate=True)) == _FERNET_BYTES
    except ValueError:
        return False


def _is_reference(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def _is_proxy(text: str) -> bool:
    try:
        parts = urlsplit(text)
        has_port = parts.port != 0
    except ValueError:
        return False
    is_bare = parts.path in {"", "/"} and not parts.query and not parts.fragment
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and has_port and is_bare


def _fits(value: object, hint: Any) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in args
    if origin is types.UnionType:
        return any(_fits(value, arg) for arg in args)
    if origin is dict:
        return isinstance(value, dict) and all(
            _fits(part, arg) for pair in value.items() for part, arg in zip(pair, args, strict=True)
        )
    if origin is tuple:
        return isinstance(value, list | tuple) and all(_fits(part, args[0]) for part in value)
    if hint is Any:
        return True
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _name(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal or origin is types.UnionType:
        return " or ".join(repr(arg) if origin is Literal else _name(arg) for arg in args)
    if origin is dict:
        return f"a dict of {_name(args[0])} to {_name(args[1])}"
    if origin is tuple:
        return f"a list of {_name(args[0])}"
    return "None" if hint is type(None) else str(hint.__name__)
