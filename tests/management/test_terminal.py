"""A line that is written over, elsewhere a line now and then, and the pace of work."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management.base import OutputWrapper
from hypothesis import given
from hypothesis import strategies as st

from drf_webhooks.management.terminal import Line, Pace, age, bar
from tests.terminals import terminal


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def test_a_terminal_shows_the_last_line_only() -> None:
    with terminal() as shown, open(shown.descriptor, "w", closefd=False) as stream:
        line = Line(OutputWrapper(stream))
        line.show("a long first line")
        line.show("short")
        line.clear()
        line.clear()
        stream.write("done\n")

    assert line.is_live
    assert "a long first line" in shown.text
    assert shown.screen == ["done", ""]


def test_a_line_is_never_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    with terminal(20) as shown, open(shown.descriptor, "w", closefd=False) as stream:
        Line(OutputWrapper(stream)).show("x" * 100)

    assert shown.screen == ["x" * 19]


def test_elsewhere_there_is_a_line_now_and_then() -> None:
    clock, out = Clock(), StringIO()
    line = Line(OutputWrapper(out), every=timedelta(seconds=60), clock=clock)

    for second in range(0, 180, 20):
        clock.now = second
        line.show(f"at {second}")
    line.clear()

    assert not line.is_live
    assert out.getvalue() == "at 60\nat 120\n"


@given(st.lists(st.integers(0, 500), min_size=1, max_size=20), st.integers(1, 1000))
def test_a_pace_is_never_exceeded(lots: list[int], rate: int) -> None:
    clock = Clock()
    pace = Pace(rate, clock=clock, wait=clock.wait)

    for done, lot in enumerate(lots, 1):
        pace.keep(lot)
        clock.now += 0.01
        assert sum(lots[:done]) <= rate * (clock.now + 0.001)


def test_without_a_rate_nobody_waits() -> None:
    clock = Clock()

    Pace(None, clock=clock, wait=clock.wait).keep(1_000_000)

    assert clock.now == 0


@pytest.mark.parametrize(
    ("done", "total", "shown"),
    [
        (0, 10, "[------------------------] 0/10    0%"),
        (5, 10, "[############------------] 5/10   50%"),
        (12, 10, "[########################] 12/10  100%"),
        (0, 0, "[########################] 0/0  100%"),
    ],
)
def test_a_bar_shows_how_far_it_is(done: int, total: int, shown: str) -> None:
    assert bar(done, total) == shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (172_800, "2d"), (172_799, "47h")],
)
def test_a_length_isage(seconds: int, text: str) -> None:
    assert age(timedelta(seconds=seconds)) == text
