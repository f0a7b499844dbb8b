"""The settings: a typed field for each key of ``settings.DRF_WEBHOOKS``, with its default."""

import dataclasses
from datetime import timedelta
from typing import Any, Literal

__all__ = ["FORMATS", "NAME", "OF_EVENT_TYPES", "Config"]

NAME = "DRF_WEBHOOKS"
#: The formats that are always there, and where they are.
FORMATS = {
    "json": "drf_webhooks.delivery.formats.Json",
    "xml": "drf_webhooks.delivery.formats.Xml",
    "cloudevents": "drf_webhooks.delivery.formats.CloudEvents",
}

#: What an event type may have values of its own for.
OF_EVENT_TYPES = ("RETRY_SCHEDULE", "RETRY_JITTER", "MAX_AGE")


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

    #: Messages above this many bytes are sent in their thin form: with the key fields only.
    PAYLOAD_MAX_BYTES: int = 262_144

    #: The version of payloads that new endpoints are pinned to. ``None`` means the newest that a
    #: resource declares.
    DEFAULT_VERSION: str | None = None

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

    #: Whose endpoints a request to the REST API is about: the dotted path of a function that
    #: takes the request and returns an owner, or ``None``. ``None`` means ``request.user``, if
    #: users own endpoints.
    API_OWNER: str | None = None

    #: Which answers of receivers the REST API shows to owners: ``"public"`` those of addresses on
    #: the public internet, ``"all"`` or ``"none"``. The status is always shown.
    SHOW_ANSWERS: Literal["public", "all", "none"] = "public"

    #: What an endpoint that an owner makes has to show before anything is sent to it: the dotted
    #: path of a class, as ``"drf_webhooks.verification.Echo"``. ``None`` asks for nothing.
    ENDPOINT_VERIFIER: str | None = None

    #: Fernet keys, which encrypt secrets and custom headers in the database: the first one
    #: encrypts, all decrypt. Without any they are stored as they are.
    ENCRYPTION_KEYS: tuple[str, ...] = dataclasses.field(default=(), repr=False)
