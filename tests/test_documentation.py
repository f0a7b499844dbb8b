"""The documentation's code runs, and its lists are complete."""

import dataclasses
import re
from pathlib import Path

import pytest
from django.core.management import get_commands

from drf_webhooks.conf import Config
from drf_webhooks.delivery.failures import ERRORS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WITH_CODE = [path for path in PAGES if "```python" in path.read_text()]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", WITH_CODE, ids=lambda path: path.stem)
def test_each_block_of_code_runs(path: Path) -> None:
    namespace: dict[str, object] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)

    for block in blocks:
        exec(compile(block, str(path), "exec"), namespace)  # noqa: S102  # our own pages


def test_each_setting_is_in_the_reference() -> None:
    page = (ROOT / "docs/reference/settings.md").read_text()

    listed = re.findall(r"^\| `([A-Z_]+)`", page, re.MULTILINE)

    assert listed == [each.name for each in dataclasses.fields(Config)]


def test_each_error_is_in_the_reference() -> None:
    page = (ROOT / "docs/reference/errors.md").read_text()

    listed = re.findall(r"^\| `([a-z_]+)` \| (.*?) \| (endpoint|ours) \|", page, re.MULTILINE)

    assert listed == [
        (name, kind.meaning, "ours" if kind.is_ours else "endpoint")
        for name, kind in ERRORS.items()
    ]


def test_each_check_is_in_the_reference() -> None:
    sources = (ROOT / "src").rglob("checks.py")
    source = "".join(path.read_text() for path in sources)
    page = (ROOT / "docs/reference/checks.md").read_text()

    ids = r"drf_webhooks\.[EW]\d{3}"

    assert set(re.findall(ids, source)) == set(re.findall(ids, page))


def test_each_command_is_in_the_reference() -> None:
    page = (ROOT / "docs/reference/commands.md").read_text()

    ours = {name for name, app in get_commands().items() if app == "drf_webhooks"}

    assert ours == {name for name in ours if f"`{name}" in page}
    assert ours


def test_each_test_that_a_page_names_is_there() -> None:
    pages = "".join(path.read_text() for path in (ROOT / "docs").rglob("*.md"))

    named = set(re.findall(r"`([\w/]+\.py)::(\w+)`", pages))

    assert len(named) > 30
    for file, name in named:
        source = (ROOT / "tests" / file).read_text()
        assert re.search(rf"^(async )?def {name}\(", source, re.MULTILINE), f"{file}::{name}"
