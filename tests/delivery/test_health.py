"""What results do to an endpoint's health: rules, with a clock that the tests turn."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drf_webhooks.conf import Config
from drf_webhooks.delivery.failures import ERRORS
from drf_webhooks.delivery.health import (
    Charge,
    Health,
    Kind,
    Ruling,
    Verdict,
    after,
    weigh,
)

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
LEASE = Config().LEASE

FAILURE = Charge(Kind.FAILED, "status 500", "a.b", 500)
SUCCESS = Charge(Kind.SUCCESS, "status 200", "a.b", 200)
REFUSED = Charge(Kind.REFUSED, "status 422", "a.b", 422)


class Clinic:
    """One endpoint, its clock, and everything that was said of it."""

    def __init__(self, **settings: Any) -> None:
        self.health = Health()
        self.now = NOON
        self.settings = Config(**settings)
        self.said: list[tuple[Verdict, timedelta]] = []

    def hear(self, *charges: Charge, chance: float = 0) -> list[Ruling]:
        found = []
        for each in charges:
            self.health, rulings = after(
                self.health, each, now=self.now, chance=chance, settings=self.settings
            )
            found += rulings
        self.said += [(each.verdict, self.now - NOON) for each in found]
        return found

    def is_paused(self) -> bool:
        until = self.health.paused_until
        return until is not None and until > self.now

    def wait(self) -> timedelta:
        """Wait until the pause is over; return how long it was."""
        assert self.health.paused_until is not None
        pause = self.health.paused_until - self.now
        self.now = self.health.paused_until
        return pause

    def begin(self, waiting: int = 10_000) -> int:
        """Lease a round; return how many go at once."""
        assert self.health.ramp is not None
        assert not self.is_paused()
        count = min(self.health.ramp, waiting)
        # As a claim stores it.
        self.health = replace(
            self.health,
            paused_until=self.now + LEASE,
            round=self.health.round + 1,
            round_left=count,
        )
        return count

    def of_round(self, charge: Charge) -> Charge:
        return replace(charge, round=self.health.round)


def test_c39_every_other_answer_than_2xx_is_a_failure() -> None:
    kinds = {
        status: weigh(
            status=status, error="", headers=(), disables="", now=NOON, settings=Config()
        ).kind
        for status in range(200, 600)
    }

    success = {status for status, kind in kinds.items() if kind is Kind.SUCCESS}
    assert success == set(range(200, 300))
    refused = {status for status, kind in kinds.items() if kind is Kind.REFUSED}
    assert refused == {400, 409, 413, 415, 422}
    assert {status for status, kind in kinds.items() if kind is Kind.PUT_OFF} == {429, 503}
    assert set(kinds.values()) == {Kind.SUCCESS, Kind.REFUSED, Kind.PUT_OFF, Kind.FAILED}


def test_c39_what_refuses_a_message_does_not_pause_the_others() -> None:
    clinic = Clinic()

    clinic.hear(*[REFUSED] * 50)

    assert clinic.health.ramp is None
    assert clinic.health.failing_since == NOON
    assert clinic.said == []


def test_c39_who_refuses_every_message_is_warned_and_disabled_in_the_end() -> None:
    clinic = Clinic()
    while not any(verdict is Verdict.DISABLED for verdict, _ in clinic.said):
        clinic.hear(REFUSED)
        clinic.now += HOUR

    assert clinic.said == [
        (Verdict.FAILING, HOUR),
        (Verdict.FAILING, DAY),
        (Verdict.FAILING, 3 * DAY),
        (Verdict.DISABLED, 5 * DAY),
    ]


def test_c39_gone_disables_at_once_whatever_was_before() -> None:
    clinic = Clinic()
    charge = weigh(
        status=410, error="", headers=(), disables="It is gone.", now=NOON, settings=Config()
    )

    assert clinic.hear(charge) == [Ruling(Verdict.DISABLED, "It is gone.")]
    assert clinic.health.is_clean


@pytest.mark.parametrize(
    ("text", "pause"),
    [
        pytest.param("120", 2 * MINUTE, id="seconds"),
        pytest.param(format_datetime(NOON + HOUR, usegmt=True), HOUR, id="date"),
        pytest.param(format_datetime(NOON - HOUR, usegmt=True), SECOND, id="past"),
        pytest.param("0", SECOND, id="zero"),
        pytest.param("99999999999", DAY, id="huge"),
        pytest.param("-7", MINUTE, id="negative"),
        pytest.param("soon", MINUTE, id="garbage"),
        pytest.param(None, MINUTE, id="none"),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_c40_the_endpoint_is_paused_for_as_long_as_it_asks(
    status: int, text: str | None, pause: timedelta
) -> None:
    clinic = Clinic()
    headers = () if text is None else (("Retry-After", text),)

    clinic.hear(
        weigh(
            status=status,
            error="",
            headers=headers,
            disables="",
            now=NOON,
            settings=clinic.settings,
        )
    )

    assert clinic.wait() == pause
    assert clinic.begin() == 1


def test_c40_a_longer_wish_extends_a_pause_and_a_shorter_one_does_not() -> None:
    clinic = Clinic()
    put_off = Charge(Kind.PUT_OFF, "status 429", status=429, asked=HOUR)

    clinic.hear(put_off, replace(put_off, asked=2 * HOUR), replace(put_off, asked=MINUTE))

    assert clinic.wait() == 2 * HOUR
    clinic.begin()
    clinic.hear(replace(put_off, asked=3 * HOUR))
    assert clinic.wait() == LEASE


@pytest.mark.parametrize("status", [400, 500])
def test_c41_a_message_that_the_receiver_aborts_says_nothing_of_it(status: int) -> None:
    charge = weigh(
        status=status,
        error="",
        headers=(("Webhook-Delivery", " Abort-Message "),),
        disables="",
        now=NOON,
        settings=Config(),
    )

    assert charge.kind is Kind.NEUTRAL


@pytest.mark.parametrize("error", ["", *(name for name, each in ERRORS.items() if each.is_ours)])
def test_c43_what_is_not_the_endpoints_fault_is_not_charged(error: str) -> None:
    clinic = Clinic()
    charge = weigh(status=None, error=error, headers=(), disables="", now=NOON, settings=Config())

    clinic.hear(*[charge] * 20)

    assert charge.kind is Kind.NEUTRAL
    assert clinic.health.is_clean


@pytest.mark.parametrize(
    "error", [name for name, each in ERRORS.items() if not each.is_ours] + ["of_another_version"]
)
def test_what_it_could_mend_is_charged(error: str) -> None:
    charge = weigh(status=None, error=error, headers=(), disables="", now=NOON, settings=Config())

    assert charge.kind is Kind.FAILED


def test_d51_five_failures_in_a_row_pause() -> None:
    clinic = Clinic()

    assert clinic.hear(*[FAILURE] * 4) == []
    (ruling,) = clinic.hear(FAILURE)

    assert ruling.verdict is Verdict.OPENED
    assert ruling.reason == "5 failures in a row; the last one: status 500."
    assert clinic.wait() == MINUTE


def test_d51_a_high_rate_of_failures_pauses_though_some_succeed() -> None:
    clinic = Clinic()
    four = [FAILURE, FAILURE, FAILURE, SUCCESS]

    clinic.hear(*four, *four, FAILURE)
    assert not clinic.is_paused()
    clinic.hear(FAILURE)

    assert clinic.is_paused()


def test_d51_a_rate_counts_within_its_window_only() -> None:
    clinic = Clinic()
    four = [FAILURE, FAILURE, FAILURE, SUCCESS]

    clinic.hear(*four, *four)
    clinic.now += clinic.settings.BREAKER_WINDOW
    clinic.hear(*four, SUCCESS)

    assert clinic.health.window_total == 5
    assert not clinic.is_paused()
    clinic.now += clinic.settings.BREAKER_WINDOW
    clinic.hear(SUCCESS)
    assert clinic.health.is_clean


def test_d51_a_failed_probe_doubles_the_pause_up_to_its_limit() -> None:
    clinic = Clinic()
    clinic.hear(*[FAILURE] * 5)
    pauses = [clinic.wait()]
    for _ in range(8):
        assert clinic.begin() == 1
        clinic.hear(clinic.of_round(FAILURE))
        pauses.append(clinic.wait())

    assert pauses == [each * MINUTE for each in (1, 2, 4, 8, 16, 32, 60, 60, 60)]


def test_d51_the_ramp_is_1_2_4_8_and_then_open_to_all() -> None:
    clinic = Clinic()
    clinic.hear(*[FAILURE] * 5)
    clinic.wait()
    sizes = []
    while clinic.health.ramp is not None:
        sizes.append(clinic.begin())
        for left in range(sizes[-1], 0, -1):
            # Nobody may begin another round until the last of this one is back.
            assert clinic.is_paused()
            assert clinic.health.round_left == left
            clinic.hear(clinic.of_round(SUCCESS))

    assert sizes == [1, 2, 4, 8]
    assert clinic.health.is_clean
    assert clinic.said[-1][0] is Verdict.CLOSED


def test_d51_a_failure_in_a_round_pauses_and_the_rest_of_it_counts_no_more() -> None:
    clinic = Clinic()
    clinic.hear(*[FAILURE] * 5)
    clinic.wait()
    clinic.begin()
    clinic.hear(clinic.of_round(SUCCESS))
    clinic.begin()
    of_second = clinic.of_round(FAILURE)

    clinic.hear(of_second)
    paused_until = clinic.health.paused_until
    clinic.hear(of_second, replace(SUCCESS, round=of_second.round))

    assert clinic.health.paused_until == paused_until == clinic.now + 2 * MINUTE
    assert clinic.health.ramp == 1


def test_d51_what_was_sent_before_the_pause_does_not_double_it() -> None:
    clinic = Clinic()

    clinic.hear(*[FAILURE] * 10)
    assert clinic.wait() == MINUTE
    clinic.begin()
    clinic.hear(FAILURE, SUCCESS)

    assert clinic.health.ramp == 1
    assert clinic.health.round_left == 1


def test_d51_a_round_that_nobody_finished_is_over_with_its_lease() -> None:
    clinic = Clinic()
    clinic.hear(*[FAILURE] * 5)
    clinic.wait()
    clinic.begin()
    of_lost = clinic.of_round(SUCCESS)

    assert clinic.wait() == LEASE
    assert clinic.begin() == 1
    clinic.hear(of_lost)

    assert clinic.health.ramp == 1


def test_d51_a_round_that_says_nothing_is_tried_again() -> None:
    clinic = Clinic()
    clinic.hear(*[FAILURE] * 5)
    clinic.wait()
    clinic.begin()

    clinic.hear(clinic.of_round(Charge(Kind.NEUTRAL)))

    assert not clinic.is_paused()
    assert clinic.begin() == 1


def test_d51_pauses_are_spread_by_chance() -> None:
    clinic = Clinic()

    clinic.hear(*[FAILURE] * 5, chance=1)

    assert clinic.wait() == MINUTE * 1.2


def test_d52_one_success_resets_what_was_counted() -> None:
    clinic = Clinic()

    for _ in range(10):
        clinic.hear(FAILURE, FAILURE, SUCCESS, SUCCESS)
    clinic.now += DAY
    clinic.hear(FAILURE)

    assert clinic.said == []
    assert clinic.health.failures == 1
    assert clinic.health.failing_since == clinic.now


def test_d54_each_warning_comes_once_and_then_the_endpoint_is_disabled() -> None:
    clinic = Clinic()
    for _ in range(5 * 24 * 12 + 1):
        clinic.hear(FAILURE)
        clinic.now += 5 * MINUTE

    assert [each for each in clinic.said if each[0] is not Verdict.OPENED] == [
        (Verdict.FAILING, HOUR),
        (Verdict.FAILING, DAY),
        (Verdict.FAILING, 3 * DAY),
        (Verdict.DISABLED, 5 * DAY),
    ]


def test_d54_who_fails_seldom_is_warned_two_days_before_too() -> None:
    clinic = Clinic()
    clinic.hear(FAILURE)
    clinic.now += 6 * DAY
    clinic.hear(FAILURE)
    assert clinic.said == [(Verdict.FAILING, 6 * DAY)]
    clinic.now += 2 * DAY - SECOND
    clinic.hear(FAILURE)
    assert len(clinic.said) == 1
    clinic.now += SECOND
    clinic.hear(FAILURE)

    assert clinic.said[1:] == [(Verdict.DISABLED, 8 * DAY)]


def test_d54_warnings_begin_anew_after_a_success() -> None:
    clinic = Clinic()
    clinic.hear(FAILURE)
    clinic.now += HOUR
    clinic.hear(FAILURE, SUCCESS, FAILURE)
    clinic.now += HOUR
    clinic.hear(FAILURE)

    assert clinic.said == [(Verdict.FAILING, HOUR), (Verdict.FAILING, 2 * HOUR)]


def test_an_endpoint_need_never_be_disabled() -> None:
    clinic = Clinic(DISABLE_AFTER=None)
    for _ in range(200):
        clinic.hear(FAILURE)
        clinic.now += HOUR

    assert {verdict for verdict, _ in clinic.said} == {Verdict.OPENED, Verdict.FAILING}


def test_a_few_failures_in_a_short_time_never_disable() -> None:
    clinic = Clinic(WARN_AFTER=(MINUTE,), DISABLE_AFTER=HOUR)
    for _ in range(12):
        clinic.hear(REFUSED)
        clinic.now += HOUR
    assert [verdict for verdict, _ in clinic.said] == [Verdict.FAILING]
    clinic.hear(REFUSED)

    assert clinic.said[-1] == (Verdict.DISABLED, 12 * HOUR)


def test_d57_one_bad_type_among_good_ones_is_named_once() -> None:
    clinic = Clinic()
    bad = Charge(Kind.REFUSED, "status 422", "a.bad", 422)
    for _ in range(200):
        clinic.hear(bad, SUCCESS)
        clinic.now += HOUR

    (ruling,) = [each for each in clinic.said if each[0] is not Verdict.OPENED]
    assert ruling == (Verdict.TYPE_FAILING, 4 * HOUR)
    assert clinic.health.types["a.bad"].is_said
    clinic.hear(replace(bad, kind=Kind.SUCCESS, status=200))
    assert clinic.health.types == {}


def test_d57_the_type_is_not_blamed_if_nothing_else_is_taken() -> None:
    clinic = Clinic()
    for _ in range(30):
        clinic.hear(Charge(Kind.REFUSED, "status 404", "a.bad", 404))
        clinic.now += MINUTE

    assert clinic.said == []


def test_d57_the_report_says_which_type_and_why() -> None:
    clinic = Clinic(TYPE_FAILURES=2)
    bad = Charge(Kind.FAILED, "status 404", "a.bad", 404)
    clinic.hear(bad, SUCCESS)
    clinic.now += MINUTE

    (ruling,) = clinic.hear(bad)

    assert (ruling.event_type, ruling.failing_since) == ("a.bad", NOON)
    assert ruling.reason == (
        "a.bad was answered with status 404, 2 times since 2026-11-24 12:00 UTC, "
        "while others were taken."
    )


def test_d57_types_are_forgotten_and_bounded() -> None:
    clinic = Clinic()
    clinic.hear(*[Charge(Kind.REFUSED, "x", f"a.t{number}", 400) for number in range(30)])
    clinic.hear(Charge(Kind.FAILED, "x", "a.slow", 429), Charge(Kind.FAILED, "x", "a.down", 500))

    assert set(clinic.health.types) == {f"a.t{number}" for number in range(20)}
    clinic.now += clinic.settings.MAX_AGE + SECOND
    clinic.hear(SUCCESS, SUCCESS)
    assert clinic.health.is_clean


kinds = st.sampled_from([each for each in Kind if each is not Kind.GONE])
steps = st.lists(
    st.tuples(
        kinds,
        st.booleans(),
        st.timedeltas(timedelta(0), 2 * HOUR),
        st.none() | st.timedeltas(timedelta(0), DAY),
        st.sampled_from([200, 404, 422, 429, 500]),
    ),
    max_size=60,
)


@given(steps)
def test_d51_whatever_happens_no_round_is_larger_than_the_ramp(
    steps: list[tuple[Kind, bool, timedelta, timedelta | None, int]],
) -> None:
    clinic = Clinic()
    in_air = 0
    for kind, is_of_round, pause, asked, status in steps:
        if clinic.health.ramp is not None and not clinic.is_paused():
            limit = clinic.health.ramp
            in_air = clinic.begin()
            assert in_air <= limit <= clinic.settings.ENDPOINT_CONCURRENCY
        charge = Charge(kind, kind.value, "a.b", status, asked if kind is Kind.PUT_OFF else None)
        before = clinic.health
        clinic.hear(clinic.of_round(charge) if is_of_round else charge)
        health = clinic.health
        assert health.round >= before.round
        assert 0 <= health.round_left <= (health.ramp or 0)
        assert health.ramp is None or health.ramp & (health.ramp - 1) == 0
        if health.ramp is None:
            assert health.paused_until is None
        if kind is Kind.SUCCESS:
            assert health.failing_since is None
            assert health.failures == 0
        longest = max(clinic.settings.RETRY_AFTER_LIMIT, clinic.settings.BREAKER_PAUSE_LIMIT)
        assert health.paused_until is None or health.paused_until - clinic.now <= longest
        clinic.now += pause


@given(steps)
def test_d54_whatever_happens_nobody_is_disabled_without_a_warning_before(
    steps: list[tuple[Kind, bool, timedelta, timedelta | None, int]],
) -> None:
    clinic = Clinic()
    warned_at = None
    for kind, _, pause, _, status in steps:
        charge = Charge(kind, kind.value, "a.b", status)
        for ruling in clinic.hear(charge):
            if ruling.verdict is Verdict.FAILING:
                warned_at = clinic.now
            if ruling.verdict is Verdict.DISABLED:
                assert warned_at is not None
                assert clinic.now - warned_at >= 2 * DAY
        if kind is Kind.SUCCESS:
            warned_at = None
        clinic.now += pause * 12
