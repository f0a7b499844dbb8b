"""What every test may rely on."""

from collections import Counter
from typing import Any

import pytest

from drf_webhooks.models import Endpoint


@pytest.fixture
def everything(db: None) -> Endpoint:
    """An endpoint that subscribes to everything."""
    del db
    return Endpoint.objects.create(url="https://receiver.example/", event_types=["*"])


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what the oracle has found, summed over all its tests."""
    totals: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call":
                totals.update(dict(report.user_properties).get("oracle", {}))
    if totals:
        found = ", ".join(f"{name} {count}" for name, count in totals.items())
        terminalreporter.write_line(f"oracle: {found}")
