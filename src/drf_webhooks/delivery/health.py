"""What results say of an endpoint: when to pause it, when to warn, when to disable it.

Rules only: no database, no clock, no chance of their own. How they fit together is drawn in
``docs/explanation/patience.md``.
"""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from drf_webhooks.conf import Config
from drf_webhooks.delivery.failures import ERRORS
from drf_webhooks.delivery.retries import retry_after

__all__ = [
    "Charge",
    "FailingType",
    "Health",
    "Kind",
    "Ruling",
    "Verdict",
    "after",
    "weigh",
]

#: Answers that refuse one message: whoever gives them is up.
_OF_THE_MESSAGE = frozenset({400, 409, 413, 415, 422})
#: 4xx that say nothing of the event's type: slow, gone, too early, too many.
_NOT_OF_THE_TYPE = frozenset({408, 410, 425, 429})
_PUT_OFF = frozenset({429, 503})

#: How many event types of one endpoint are watched at most.
_MOST_TYPES = 20
_SHORTEST_PAUSE = timedelta(seconds=1)
#: Doubling so often passes every limit.
_MOST_DOUBLINGS = 32


class Kind(enum.Enum):
    """What one result says of the endpoint."""

    SUCCESS = "success"
    #: Up, but it does not take this message.
    REFUSED = "refused"
    FAILED = "failed"
    #: It asks to be left alone for a while.
    PUT_OFF = "put off"
    #: It asks never to be called again.
    GONE = "gone"
    #: Nothing: it was our fault, the proxy's, or nothing was sent.
    NEUTRAL = "neutral"


@dataclass(frozen=True)
class Charge:
    """A result, as far as it concerns the endpoint's health.

    ``round`` is the round of the ramp that the request belonged to, if it belonged to one.
    """

    kind: Kind
    what: str = ""
    event_type: str = ""
    status: int | None = None
    asked: timedelta | None = None
    round: int | None = None


@dataclass(frozen=True)
class FailingType:
    """An event type that an endpoint answers with 4xx, and has not taken since."""

    failures: int
    since: datetime
    failed_at: datetime
    status: int
    is_said: bool = False


@dataclass(frozen=True)
class Health:
    """What is remembered of an endpoint. As it is made: well.

    The breaker is closed while ``ramp`` is ``None``. Else it is open until ``paused_until``,
    and then lets rounds of so many requests through, one round after the other.
    """

    #: Failures in a row, for the breaker.
    failures: int = 0
    window_started_at: datetime | None = None
    window_total: int = 0
    window_failures: int = 0
    #: The first and the last failure since the last success.
    failing_since: datetime | None = None
    failed_at: datetime | None = None
    #: How many of the warnings were given, and when the last one.
    warned: int = 0
    warned_at: datetime | None = None
    #: How often the breaker has opened without closing.
    openings: int = 0
    paused_until: datetime | None = None
    ramp: int | None = None
    round: int = 0
    #: Requests of the round that have no result yet.
    round_left: int = 0
    types: Mapping[str, FailingType] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """Whether a success would change nothing."""
        return self == Health(round=self.round)


class Verdict(enum.Enum):
    """What is to be done, or said."""

    OPENED = "opened"
    CLOSED = "closed"
    FAILING = "failing"
    TYPE_FAILING = "type failing"
    DISABLED = "disabled"


@dataclass(frozen=True)
class Ruling:
    """One thing to do or say, and why."""

    verdict: Verdict
    reason: str
    event_type: str = ""
    failing_since: datetime | None = None


def weigh(
    *,
    status: int | None,
    error: str,
    headers: Iterable[tuple[str, str]],
    disables: str,
    now: datetime,
    settings: Config,
    event_type: str = "",
    round: int | None = None,  # noqa: A002  # the word for it
) -> Charge:
    """Say what an answer, or the lack of one, means for the endpoint.

    Args:
        status: ``None`` if no answer came.
        error: Why not, as the transport names it; empty if nothing was sent.
        headers: Of the answer.
        disables: Why the receiver wants to hear nothing any more, if it does.
        now: For a ``Retry-After`` that is a date.
        settings: Hold how long a receiver may ask for.
        event_type: Of the message.
        round: The round of the ramp that the request belonged to.

    """
    asked = None
    what = f"status {status}" if error == "" else error
    if disables:
        kind, what = Kind.GONE, disables
    elif status is None:
        is_ours = not error or (error in ERRORS and ERRORS[error].is_ours)
        kind = Kind.NEUTRAL if is_ours else Kind.FAILED
    elif 200 <= status < 300:  # noqa: PLR2004  # HTTP's class of success
        kind = Kind.SUCCESS
    elif (_header(headers, "webhook-delivery") or "").strip().lower() == "abort-message":
        # It knows what it does, and so it is up; but nothing was taken either.
        kind = Kind.NEUTRAL
    elif status in _PUT_OFF:
        kind = Kind.PUT_OFF
        text = _header(headers, "retry-after")
        asked = retry_after(text, now=now, longest=settings.RETRY_AFTER_LIMIT)
    else:
        kind = Kind.REFUSED if status in _OF_THE_MESSAGE else Kind.FAILED
    return Charge(kind, what, event_type, status, asked, round)


def _header(headers: Iterable[tuple[str, str]], name: str) -> str | None:
    return next((value for key, value in headers if key.lower() == name), None)


def after(
    health: Health, charge: Charge, *, now: datetime, chance: float, settings: Config
) -> tuple[Health, list[Ruling]]:
    """Return the health after one result, and what is to be done.

    Args:
        health: As it was.
        charge: The result.
        now: When it came.
        chance: 0 to 1, for the jitter of pauses.
        settings: Hold every number.

    """
    if charge.kind is Kind.GONE:
        return health, [Ruling(Verdict.DISABLED, charge.what)]
    health, rulings = _breaker(health, charge, now=now, chance=chance, settings=settings)
    if charge.kind is Kind.SUCCESS:
        types = {
            name: each
            for name, each in health.types.items()
            # What was not tried for so long has no retry left either.
            if name != charge.event_type and now - each.failed_at <= settings.MAX_AGE
        }
        health = replace(
            health, failing_since=None, failed_at=None, warned=0, warned_at=None, types=types
        )
    elif charge.kind is not Kind.NEUTRAL:
        health = replace(health, failing_since=health.failing_since or now, failed_at=now)
        health, more = _types(health, charge, now=now, settings=settings)
        rulings += more
        health, more = _streak(health, charge, now=now, settings=settings)
        rulings += more
    return health, rulings


def _breaker(
    health: Health, charge: Charge, *, now: datetime, chance: float, settings: Config
) -> tuple[Health, list[Ruling]]:
    is_closed = health.ramp is None
    is_of_round = not is_closed and health.round_left > 0 and charge.round == health.round
    is_down = charge.kind in {Kind.FAILED, Kind.PUT_OFF}
    if charge.kind is Kind.NEUTRAL:
        return (_landed(health, settings, grows=False) if is_of_round else health), []
    if is_closed:
        health = _counted(health, is_down=is_down, now=now, settings=settings)
    if not is_down:
        health = replace(health, failures=0)
        if not is_of_round:
            return health, []
        health = _landed(health, settings, grows=True)
        closed = Ruling(Verdict.CLOSED, "It answers again.")
        return health, [closed] if health.ramp is None else []
    health = replace(health, failures=health.failures + 1)
    if is_of_round or (is_closed and _is_enough(health, charge, settings)):
        health = _opened(health, charge, now=now, chance=chance, settings=settings)
        why = f"{health.failures} failures in a row; the last one: {charge.what}."
        return health, [Ruling(Verdict.OPENED, why)]
    if charge.asked is not None and not health.round_left and health.paused_until is not None:
        # Open already, by an answer that asked for less.
        until = max(health.paused_until, now + max(charge.asked, _SHORTEST_PAUSE))
        health = replace(health, paused_until=until)
    return health, []


def _counted(health: Health, *, is_down: bool, now: datetime, settings: Config) -> Health:
    """Count a result in the window, which begins with a failure."""
    started_at = health.window_started_at
    total, failures = health.window_total, health.window_failures
    if started_at is not None and now - started_at >= settings.BREAKER_WINDOW:
        started_at, total, failures = None, 0, 0
    if started_at is None and is_down:
        started_at = now
    if started_at is not None:
        total, failures = total + 1, failures + is_down
    return replace(
        health, window_started_at=started_at, window_total=total, window_failures=failures
    )


def _is_enough(health: Health, charge: Charge, settings: Config) -> bool:
    return (
        charge.kind is Kind.PUT_OFF
        or health.failures >= settings.BREAKER_FAILURES
        or (
            health.window_total >= settings.BREAKER_SAMPLE
            and health.window_failures >= settings.BREAKER_RATE * health.window_total
        )
    )


def _opened(
    health: Health, charge: Charge, *, now: datetime, chance: float, settings: Config
) -> Health:
    openings = health.openings
    if charge.asked is not None:
        pause = max(charge.asked, _SHORTEST_PAUSE)
    else:
        doubled = settings.BREAKER_PAUSE * 2 ** min(openings, _MOST_DOUBLINGS)
        pause = min(doubled, settings.BREAKER_PAUSE_LIMIT)
        pause *= 1 + settings.RETRY_JITTER * chance
        openings += 1
    return replace(
        health,
        window_started_at=None,
        window_total=0,
        window_failures=0,
        openings=openings,
        paused_until=now + pause,
        ramp=1,
        # What is still in the air of the round before says nothing of the next one.
        round=health.round + 1,
        round_left=0,
    )


def _landed(health: Health, settings: Config, *, grows: bool) -> Health:
    """Take a result of a round that was no failure; the last one ends the round."""
    if health.round_left > 1:
        return replace(health, round_left=health.round_left - 1)
    ramp = (health.ramp or 1) * (2 if grows else 1)
    if ramp <= settings.ENDPOINT_CONCURRENCY:
        return replace(health, ramp=ramp, paused_until=None, round_left=0)
    return replace(health, ramp=None, paused_until=None, round_left=0, openings=0)


def _types(
    health: Health, charge: Charge, *, now: datetime, settings: Config
) -> tuple[Health, list[Ruling]]:
    """Watch each type that is refused, and name it if others were taken meanwhile."""
    status = charge.status
    if status is None or not 400 <= status < 500 or status in _NOT_OF_THE_TYPE:  # noqa: PLR2004  # HTTP's class of client errors
        return health, []
    known = health.types.get(charge.event_type)
    if known is None and len(health.types) >= _MOST_TYPES:
        return health, []
    known = known or FailingType(0, now, now, status)
    known = replace(known, failures=known.failures + 1, failed_at=now, status=status)
    # The streak is younger than the type's trouble: something was taken between.
    others_succeed = health.failing_since is not None and health.failing_since > known.since
    rulings = []
    if not known.is_said and known.failures >= settings.TYPE_FAILURES and others_succeed:
        known = replace(known, is_said=True)
        why = (
            f"{charge.event_type} was answered with {charge.what}, "
            f"{known.failures} times since {known.since:%Y-%m-%d %H:%M} UTC, "
            "while others were taken."
        )
        rulings.append(Ruling(Verdict.TYPE_FAILING, why, charge.event_type, known.since))
    return replace(health, types={**health.types, charge.event_type: known}), rulings


def _streak(
    health: Health, charge: Charge, *, now: datetime, settings: Config
) -> tuple[Health, list[Ruling]]:
    """Warn once at each threshold, and disable a good while after the last warning."""
    since = health.failing_since or now
    lasted = now - since
    why = f"Nothing was delivered since {since:%Y-%m-%d %H:%M} UTC; the last result: {charge.what}."
    level = sum(lasted >= each for each in settings.WARN_AFTER)
    if level > health.warned:
        health = replace(health, warned=level, warned_at=now)
        return health, [Ruling(Verdict.FAILING, why, failing_since=since)]
    if (
        settings.DISABLE_AFTER is not None
        and health.warned_at is not None
        and health.warned == len(settings.WARN_AFTER)
        and lasted >= max(settings.DISABLE_AFTER, settings.DISABLE_SPREAD)
        # Also where failures are rare, so that every threshold is noticed late.
        and now - health.warned_at >= settings.DISABLE_AFTER - settings.WARN_AFTER[-1]
    ):
        return health, [Ruling(Verdict.DISABLED, why, failing_since=since)]
    return health, []
