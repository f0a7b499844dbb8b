"""Count attacks: how many were tried, and what came of them. ``make security`` prints it."""

from collections import Counter
from typing import Any

import pytest

__all__ = ["Attacks", "summary"]


class Attacks:
    """What a test that tries more than one attack says of each.

    A test with the marker ``security`` that does not ask for this counts as one attack.
    """

    def __init__(self) -> None:
        self.counts = {"tried": 0, "held": 0, "broken": 0}
        self.names: list[str] = []

    def held(self, name: str) -> None:
        """Say that an attack came to nothing."""
        del name
        self.counts["tried"] += 1
        self.counts["held"] += 1

    def broken(self, name: str) -> None:
        """Say that an attack succeeded. The test fails at its end."""
        self.counts["tried"] += 1
        self.counts["broken"] += 1
        self.names.append(name)

    def judge(self, name: str, *, is_held: bool) -> None:
        """Say what came of an attack."""
        (self.held if is_held else self.broken)(name)


def summary(stats: dict[str, list[Any]]) -> dict[str, int]:
    """Sum what pytest's reports say of the tests with the marker."""
    totals: Counter[str] = Counter()
    for report in (each for reports in stats.values() for each in reports):
        if not isinstance(report, pytest.TestReport) or "security" not in report.keywords:
            continue
        properties: dict[str, Any] = dict(report.user_properties)
        counted: dict[str, int] = properties.get("security", {})
        if report.when == "setup":
            # A test that could not begin has shown nothing.
            totals.update({"tried": int(report.failed), "broken": int(report.failed)})
        elif report.when == "call" and not report.skipped:
            totals.update(counted)
            if not counted.get("tried") or (report.failed and not counted["broken"]):
                totals.update({"tried": 1, "broken" if report.failed else "held": 1})
    return {each: totals[each] for each in ("tried", "held", "broken")} if totals["tried"] else {}
