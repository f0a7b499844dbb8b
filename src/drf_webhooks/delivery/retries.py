"""When to try again, and when to give up. Time and chance are parameters."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from drf_webhooks.conf import Config

__all__ = ["attempt_times", "retry_after", "wait_before_next"]

#: A receiver cannot put its delivery off for longer than this.
LONGEST_RETRY_AFTER = timedelta(days=1)


def wait_before_next(
    attempts: int, *, age: timedelta, chance: float, asked: timedelta | None, settings: Config
) -> timedelta | None:
    """Return how long to wait for the next attempt, or ``None`` to give up.

    Args:
        attempts: How many there were, at least 1.
        age: How old the delivery is.
        chance: 0 to 1, for the jitter.
        asked: What the receiver asked for; a shorter wait becomes as long as this.
        settings: Hold the schedule, the jitter and the greatest age.

    """
    if attempts > len(settings.RETRY_SCHEDULE):
        return None
    wait = settings.RETRY_SCHEDULE[attempts - 1]
    wait = max(wait * (1 + settings.RETRY_JITTER * chance), asked or timedelta(0))
    return None if age + wait > settings.MAX_AGE else wait


def retry_after(
    text: str | None, *, now: datetime, longest: timedelta = LONGEST_RETRY_AFTER
) -> timedelta | None:
    """Return what a ``Retry-After`` header asks for, 0 to ``longest`` (RFC 9110, section 10.2.3).

    ``None`` for a missing header and for one that is neither seconds nor a date.
    """
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        # Longer numbers than any clock: no need to convert them.
        asked = timedelta(seconds=int(text[:9])) if len(text) < 10 else longest  # noqa: PLR2004  # 9 digits are 31 years
    else:
        try:
            at = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        asked = (at if at.tzinfo else at.replace(tzinfo=UTC)) - now
    return min(max(asked, timedelta(0)), longest)


def attempt_times(settings: Config) -> list[tuple[timedelta, timedelta]]:
    """Return the earliest and the latest time of each attempt, after a delivery was made.

    The last is the last that is sure to come: a later one may be over ``MAX_AGE``.
    """
    times = [(timedelta(0), timedelta(0))]
    for wait in settings.RETRY_SCHEDULE:
        early, late = times[-1]
        late += wait * (1 + settings.RETRY_JITTER)
        if late > settings.MAX_AGE:
            break
        times.append((early + wait, late))
    return times
