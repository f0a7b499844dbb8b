"""When to try again, for any schedule and any answer."""

import base64
import itertools
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drf_webhooks.conf import Config
from drf_webhooks.delivery.retries import (
    LONGEST_RETRY_AFTER,
    attempt_times,
    retry_after,
    wait_before_next,
)
from drf_webhooks.delivery.sender import judge
from drf_webhooks.delivery.signing import sign
from drf_webhooks.delivery.transport import Answer, Failure
from drf_webhooks.models import Delivery

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@given(
    attempts=st.integers(1, 12),
    chance=st.floats(0, 1),
    age=st.timedeltas(timedelta(0), 5 * DAY),
    asked=st.none() | st.timedeltas(timedelta(0), DAY),
)
def test_a_wait_lies_within_its_step_and_the_greatest_age(
    attempts: int, chance: float, age: timedelta, asked: timedelta | None
) -> None:
    settings = Config()

    wait = wait_before_next(attempts, age=age, chance=chance, asked=asked, settings=settings)

    if wait is None:
        steps = settings.RETRY_SCHEDULE
        last = max(steps[min(attempts, 9) - 1] * 1.2, asked or timedelta(0))
        assert attempts > len(steps) or age + last > settings.MAX_AGE
    else:
        step = settings.RETRY_SCHEDULE[attempts - 1]
        assert step <= wait <= max(step * 1.2, asked or timedelta(0)) + timedelta(microseconds=1)
        assert wait >= (asked or timedelta(0))
        assert age + wait <= settings.MAX_AGE


def test_the_whole_schedule_takes_a_little_over_three_days() -> None:
    settings = Config()
    age = timedelta(0)
    for attempts in range(1, 10):
        wait = wait_before_next(attempts, age=age, chance=0, asked=None, settings=settings)
        assert wait is not None
        age += wait

    assert age == timedelta(hours=75, minutes=35, seconds=5)
    assert wait_before_next(10, age=age, chance=0, asked=None, settings=settings) is None


def attempted_at(settings: Config, chances: list[float]) -> list[timedelta]:
    """Fail until a delivery is given up, and return when each attempt was."""
    at = [timedelta(0)]
    for chance in chances:
        verdict = judge(
            Answer(500, (), b""),
            attempts=len(at),
            age=at[-1],
            now=NOON + at[-1],
            chance=chance,
            settings=settings,
        )
        if verdict.wait is None:
            assert verdict.state == Delivery.State.DEAD
            assert f"after {len(at)} attempts" in verdict.reason
            return at
        at.append(at[-1] + verdict.wait)
    raise AssertionError


@given(
    chances=st.lists(st.floats(0, 1), min_size=13, max_size=13),
    schedule=st.lists(st.timedeltas(timedelta(0), DAY), max_size=12),
    jitter=st.floats(0, 1),
    max_age=st.timedeltas(timedelta(0), 5 * DAY),
)
def test_d48_a_whole_life_keeps_to_the_schedule_and_ends_with_it_or_with_the_greatest_age(
    chances: list[float], schedule: list[timedelta], jitter: float, max_age: timedelta
) -> None:
    settings = Config(RETRY_SCHEDULE=tuple(schedule), RETRY_JITTER=jitter, MAX_AGE=max_age)
    second = timedelta(microseconds=2)

    at = attempted_at(settings, chances)

    for wait, step in zip(
        (later - sooner for sooner, later in itertools.pairwise(at)), schedule, strict=False
    ):
        assert step <= wait <= step * (1 + jitter) + second
    assert at[-1] <= max_age
    number = len(at)
    if number <= len(schedule):
        assert at[-1] + schedule[number - 1] * (1 + jitter) + second > max_age
    # What is announced when the worker starts is what comes, whatever chance does.
    announced = attempt_times(settings)
    assert len(announced) <= number
    for (early, late), moment in zip(announced, at, strict=False):
        assert early <= moment <= late + 12 * second


@pytest.mark.parametrize(
    ("chance", "last"),
    [
        (0, timedelta(hours=75, minutes=35, seconds=5)),
        (1, timedelta(hours=90, minutes=42, seconds=6)),
    ],
)
def test_d48_the_table_of_the_settings_as_they_are(chance: float, last: timedelta) -> None:
    at = attempted_at(Config(), [chance] * 10)

    assert len(at) == 10
    assert at[-1] == last
    assert attempt_times(Config())[-1][int(chance)] == last


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("0", timedelta(0)),
        (" 30 ", timedelta(seconds=30)),
        ("999999", LONGEST_RETRY_AFTER),
        ("9" * 400, LONGEST_RETRY_AFTER),
        (format_datetime(NOON + timedelta(hours=1), usegmt=True), timedelta(hours=1)),
        (format_datetime(NOON - timedelta(hours=1), usegmt=True), timedelta(0)),
        ("Tue, 24 Nov 2026 12:00:30", timedelta(seconds=30)),
        ("Tue, 24 Nov 9999 12:00:30 GMT", LONGEST_RETRY_AFTER),
    ],
)
def test_retry_after_is_read_and_clamped(text: str | None, asked: timedelta | None) -> None:
    assert retry_after(text, now=NOON) == asked


@given(st.text(max_size=50))
def test_retry_after_never_raises(text: str) -> None:
    asked = retry_after(text, now=NOON)

    assert asked is None or timedelta(0) <= asked <= LONGEST_RETRY_AFTER


@pytest.mark.parametrize("status", [429, 503])
def test_a_receiver_may_put_a_delivery_off(status: int) -> None:
    answer = Answer(status, (("Retry-After", "7200"),), b"")

    verdict = judge(answer, attempts=1, age=timedelta(0), now=NOON, chance=0, settings=Config())

    assert (verdict.state, verdict.wait) == (Delivery.State.WAITING, timedelta(hours=2))


def test_what_failed_too_often_is_given_up() -> None:
    verdict = judge(
        Failure("dns_error", "…"), attempts=10, age=DAY, now=NOON, chance=0, settings=Config()
    )

    assert verdict.state == Delivery.State.DEAD
    assert (
        verdict.reason == "Given up after 10 attempts over 1 day, 0:00:00; the last one: dns_error."
    )


def test_a_signature_is_that_of_the_standard() -> None:
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = sign(
        key,
        event_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        sent_at=datetime.fromtimestamp(1614265330, tz=UTC),
        body=b'{"test": 2432232314}',
    )

    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="naive"):
        sign(b"x" * 24, event_id="evt_1", sent_at=datetime(2026, 1, 1), body=b"")  # noqa: DTZ001  # the point
