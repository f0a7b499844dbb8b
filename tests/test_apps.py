"""Start-up: the project's modules are found, and their errors are their own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

_PROJECT = """
import sys
sys.path.insert(0, {folder!r})
from django.conf import settings
import tests.settings as base
settings.configure(**{{name: getattr(base, name) for name in dir(base) if name.isupper()}})
settings.INSTALLED_APPS = [*base.INSTALLED_APPS, *{apps!r}]
settings.DRF_WEBHOOKS = {settings!r}
import django
django.setup()
from drf_webhooks.registry import registry
print([each.__module__ for each in registry])
print("drf_webhooks.contrib.spectacular.views" in sys.modules)
print("drf_webhooks.api.views" in sys.modules)
"""


def start(
    folder: Path, settings: dict[str, object], apps: Sequence[str] = ("shop",)
) -> subprocess.CompletedProcess[str]:
    program = _PROJECT.format(folder=str(folder), settings=settings, apps=apps)
    return subprocess.run(  # noqa: S603  # our own code
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": "src:."},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/__init__.py").touch()
    return tmp_path


def test_the_module_is_found_in_each_app(folder: Path) -> None:
    started = start(folder, {})

    assert started.stdout.splitlines()[0] == str(["tests.app.webhooks"] * 3), started.stderr


def test_another_name_may_be_chosen(folder: Path) -> None:
    (folder / "shop/outgoing.py").write_text(
        "from drf_webhooks.utils import ModelSerializerWebhook\n"
        "from tests.app.serializers import TenantSerializer\n"
        "class TenantWebhook(ModelSerializerWebhook):\n"
        "    serializer_class = TenantSerializer\n"
    )

    started = start(folder, {"MODULE": "outgoing"})

    assert started.stdout.splitlines()[0] == "['shop.outgoing']"


def test_an_error_in_the_module_is_shown_whole(folder: Path) -> None:
    (folder / "shop/webhooks.py").write_text("import there_is_no_such_module\n")

    started = start(folder, {})

    assert started.returncode != 0
    assert "No module named 'there_is_no_such_module'" in started.stderr


def test_wrong_settings_do_not_hide_behind_a_traceback(folder: Path) -> None:
    started = start(folder, {"LEASSE": 1})

    assert started.stdout.splitlines()[0] == "[]"


@pytest.mark.parametrize(("app", "is_described"), [("shop", "False"), ("drf_spectacular", "True")])
def test_the_api_is_described_where_drf_spectacular_is_an_app(
    folder: Path, app: str, is_described: str
) -> None:
    started = start(folder, {}, apps=[app])

    # The views are not asked for yet: with them comes what the project's settings name.
    assert started.stdout.splitlines()[1:] == [is_described, "False"], started.stderr
