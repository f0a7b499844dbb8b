"""The benchmark of the guarantee measures what its page says."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from benchmarks.guarantee import VARIANTS, units
from benchmarks.sides import Unit, Variant, set_up, statements
from drf_webhooks.session import disable_webhooks
from drf_webhooks.testing import isolated_registry
from tests.app.models import Deposit
from tests.factories import make_deposit

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/explanation/performance.md"


def documented(unit: Unit, variant: Variant) -> tuple[int, int]:
    """Return the statements of a unit without the library, and those that a variant adds."""
    rows = re.findall(r"^\| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    table = {cells[0].strip(): cells for cells in (row.split(" | ") for row in rows)}
    names = [each.strip() for each in table["ratio, statements more"]]
    cells = table[unit.name]
    return int(cells[1].split(",")[1]), int(cells[names.index(variant.name)].split(",")[1])


@pytest.fixture
def deposits(settings: Any) -> list[Deposit]:
    settings.ROOT_URLCONF = "benchmarks.project"
    settings.MIDDLEWARE = ["drf_webhooks.middleware.WebhooksMiddleware"]
    with disable_webhooks():
        first = make_deposit()
        return [first, *(make_deposit(tenant=first.tenant, unit=first.unit) for _ in range(9))]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("unit", units(1000)[:-1], ids=lambda unit: unit.way)
def test_statements_are_those_of_the_page(
    unit: Unit, deposits: list[Deposit], settings: Any
) -> None:
    some = deposits[: unit.saves]

    found = {}
    for variant in VARIANTS:
        with isolated_registry():
            set_up(variant)
            settings.DRF_WEBHOOKS = {"RECHECK_AFTER": None}
            with disable_webhooks():
                plain = statements(unit, some)
            settings.DRF_WEBHOOKS = {"RECHECK_AFTER": variant.recheck_after}
            found[variant.name] = plain, statements(unit, some) - plain

    page = {variant.name: documented(unit, variant) for variant in VARIANTS}
    if connection.vendor == "postgresql":
        assert found == page
    else:
        # What takes PostgreSQL one statement takes others two.
        assert all(0 <= found[name][1] - page[name][1] <= 2 for name in page)


@pytest.mark.skipif("DRF_WEBHOOKS_TEST_DB" in os.environ, reason="once, on SQLite, is enough")
def test_each_unit_is_measured_in_each_variant() -> None:
    printed = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.guarantee",
            "--database=sqlite",
            "--rows=10",
            "--rounds=1",
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "src:."},
        check=True,
        capture_output=True,
        text=True,
        timeout=180,
    ).stdout

    for unit in units(10):
        cells = rf"(\| +\d+\.\d\d, \+\d+ ){{{len(VARIANTS)}}}"
        assert re.search(
            rf"^\| {unit.name} +\| +\d+\.\d\d ms, \d+ {cells}\|$", printed, re.MULTILINE
        )
