"""The documentation's code runs, its lists are complete, and what it names is there."""

import argparse
import dataclasses
import pkgutil
import re
import sys
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_type_hints
from xml.etree import ElementTree as ET

import pytest
from django.conf import global_settings
from django.core.management import get_commands, load_command_class

from drf_webhooks.conf import Config
from drf_webhooks.contrib import celery
from drf_webhooks.delivery.failures import ERRORS
from drf_webhooks.models import Endpoint
from drf_webhooks.registry import registry
from drf_webhooks.testing import isolated_registry
from drf_webhooks.urls import urlpatterns
from tests.app.serializers import DocumentSerializer

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = "".join(path.read_text() for path in PAGES)
#: What the pages name by dots, and is no name of Python.
NAMED_OTHERWISE = {
    *re.findall(r"drf_webhooks\.[EW]\d{3}", TEXT),
    *(f"drf_webhooks.{name}" for name, _ in Endpoint._meta.permissions),
    celery.deliver.name,
    celery.sweep.name,
    # A migration, and a parameter of PostgreSQL.
    "drf_webhooks.0001_initial",
    "drf_webhooks.capture",
}
#: Of Celery, Django, the environment, this project's tests; of other packages and databases.
SETTINGS_OF_OTHERS = {
    "BASE_NAME",
    "CELERY_BROKER_TRANSPORT_OPTIONS",
    "CELERY_DB_REUSE_MAX",
    "COMPONENT_SPLIT_REQUEST",
    "DB_CASCADE",
    "DB_SET_NULL",
    "DEFAULT_JSON_RENDERER_CLASS",
    "DEFAULT_PERMISSION_CLASSES",
    "DJANGO_WEBHOOK",
    "DRF_WEBHOOKS",
    "DRF_WEBHOOKS_TEST_ALL",
    "EVENTS_RETENTION_DAYS",
    "EXCEPTION_HANDLER",
    "HOOK_CUSTOM_MODEL",
    "HOOK_EVENTS",
    "HOOK_SERIALIZERS",
    "HOOK_THREADING",
    "HTTPS_PROXY",
    "LC_MESSAGES",
    "LOG_RETENTION",
    "LONGEST_OVERLAP",
    "MAIN_APP",
    "MOST_OLD_SECRETS",
    "OAS_VERSION",
    "OWNER_FIELD",
    "PAYLOAD_ENCODER_CLASS",
    "POSTPROCESSING_HOOKS",
    "PROMETHEUS_MULTIPROC_DIR",
    "REQUESTS_CA_BUNDLE",
    "REST_FRAMEWORK",
    "SPECTACULAR_SETTINGS",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "STORE_EVENTS",
    "USE_CACHE",
}
WITH_CODE = [path for path in PAGES if "```python" in path.read_text()]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", WITH_CODE, ids=lambda path: path.stem)
def test_each_block_of_code_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The app that the first page declares a resource for.
    shop = ModuleType("shop.serializers")
    shop.__dict__["OrderSerializer"] = DocumentSerializer
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.serializers", shop)
    namespace: dict[str, object] = {"__name__": path.stem}
    blocks = re.findall(r"^```python\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)

    known = list(registry)
    with isolated_registry():
        for resource in known:
            registry.add(resource)
        for block in blocks:
            exec(compile(block, str(path), "exec"), namespace)  # noqa: S102  # our own pages


def test_each_setting_is_in_the_reference() -> None:
    page = (ROOT / "docs/reference/settings.md").read_text()

    listed = re.findall(r"^\| `([A-Z_]+)` \| (.*?) \| (.*?) \|", page, re.MULTILINE)

    kinds = get_type_hints(Config)
    assert [(name, _kind(kind), _default(default)) for name, kind, default in listed] == [
        (each.name, kinds[each.name], getattr(Config(), each.name))
        for each in dataclasses.fields(Config)
    ]


def _kind(cell: str) -> Any:
    """Read a type as the page of settings writes it: the values that it has, or its name."""
    if '"' in cell:
        return _value(f"Literal[{cell.replace('`', '')}]")
    return _value(cell.strip("`").replace(" or ", " | "))


def _default(cell: str) -> Any:
    """Read a default value: Python, or durations with their units."""
    if cell.startswith("`"):
        return _value(cell.strip("`"))
    units = {"s": "seconds", "min": "minutes", "h": "hours"}
    pairs = [each.split() for each in cell.split(", ")]
    return tuple(timedelta(**{units[unit]: int(number)}) for number, unit in pairs)


def _value(text: str) -> Any:
    return eval(text, {"timedelta": timedelta, "Literal": Literal, "Any": Any})  # noqa: S307  # our own page


def test_each_error_is_in_the_reference() -> None:
    page = (ROOT / "docs/reference/errors.md").read_text()

    listed = re.findall(r"^\| `([a-z_]+)` \| (.*?) \| (endpoint|ours) \|", page, re.MULTILINE)

    assert listed == [
        (name, kind.meaning, "ours" if kind.is_ours else "endpoint")
        for name, kind in ERRORS.items()
    ]


def test_each_check_is_in_the_reference() -> None:
    sources = (ROOT / "src").rglob("*.py")
    source = "".join(path.read_text() for path in sources)
    page = (ROOT / "docs/reference/checks.md").read_text()

    ids = r"drf_webhooks\.[EW]\d{3}"

    assert set(re.findall(ids, source)) == set(re.findall(ids, page))


def test_each_command_is_in_the_reference() -> None:
    page = (ROOT / "docs/reference/commands.md").read_text()

    ours = {name for name, app in get_commands().items() if app == "drf_webhooks"}

    assert ours == {name for name in ours if f"`{name}" in page}
    assert ours


def test_each_route_of_the_api_is_in_the_reference() -> None:
    page = (ROOT / "docs/reference/api.md").read_text()

    listed = re.findall(r"^\| `([A-Z]+) (/\S*)` \|", page, re.MULTILINE)

    routes = {
        (method.upper(), "/" + re.sub(r"\(\?P<(\w+)>[^)]+\)", r"{\1}", path).strip("^$"))
        for each in urlpatterns
        for path in [str(each.pattern).replace("{pk}", "{id}").replace("<pk>", "<id>")]
        for method in getattr(each.callback, "actions", None) or {"get": ""}
        if method != "head"
    }
    assert len(listed) == len(set(listed))
    assert set(listed) == routes


def test_each_test_that_a_page_names_is_there() -> None:
    pages = "".join(path.read_text() for path in (ROOT / "docs").rglob("*.md"))

    named = set(re.findall(r"`([\w/]+\.py)::(\w+)`", pages))

    assert len(named) > 30
    for file, name in named:
        source = (ROOT / "tests" / file).read_text()
        assert re.search(rf"^(async )?def {name}\(", source, re.MULTILINE), f"{file}::{name}"


def test_each_dotted_name_of_the_library_is_there() -> None:
    named = set(re.findall(r"\bdrf_webhooks(?:\.\w+)+", TEXT)) - NAMED_OTHERWISE

    assert len(named) > 30
    for name in named:
        # Raises for one that is not there, with the name.
        pkgutil.resolve_name(name)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_each_command_that_a_page_types_is_there_with_its_options(path: Path) -> None:
    text = path.read_text()
    typed = re.findall(r"`(?:manage\.py )?(webhooks_[^`(\n]*)`", text)
    for block in re.findall(
        r"^ *```(?:\{code-block\} )?console\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE
    ):
        typed += re.findall(r"manage\.py (webhooks_.*)", block)

    for line in typed:
        command, *words = line.split()
        parser = argparse.ArgumentParser()
        load_command_class("drf_webhooks", command).add_arguments(parser)
        known = re.findall(r"--[a-z-]+", parser.format_help())
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction) and words:
                assert words[0] in action.choices, line
                known += re.findall(r"--[a-z-]+", action.choices[words[0]].format_help())
        assert set(re.findall(r"--[a-z-]+", " ".join(words))) <= set(known), line


def test_each_setting_that_a_page_names_is_there() -> None:
    named = {
        name
        for code in re.findall(r"`([^`\n]+)`", TEXT)
        for name in re.findall(r"\b[A-Z]{2,}(?:_[A-Z0-9]+)+\b", code)
    }

    ours = {each.name for each in dataclasses.fields(Config)}
    assert named - ours - set(dir(global_settings)) - SETTINGS_OF_OTHERS == set()


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.svg")), ids=lambda path: path.stem)
def test_a_drawing_can_be_read_as_text_and_fetches_nothing(path: Path) -> None:
    drawing = ET.parse(path).getroot()  # noqa: S314  # our own

    tags = {each.tag.partition("}")[2] for each in drawing.iter()}
    assert drawing.get("role") == "img"
    assert {"title", "desc"} <= tags
    assert tags.isdisjoint({"script", "image", "use", "foreignObject"})
    # But for the name of the format.
    assert path.read_text().count("http") == 1
    # Both schemes: a reader's choice is the system's.
    assert "prefers-color-scheme: dark" in path.read_text()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_each_link_of_a_page_that_is_not_built_leads_somewhere(page: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text())

    assert links
    assert [each for each in links if not (ROOT / each).exists()] == []


def test_each_image_is_made_by_a_test_in_the_browser_and_shown() -> None:
    sources = "".join(each.read_text() for each in (ROOT / "tests/browser").glob("test_*.py"))
    made = re.findall(r'snapshot\(\s*"([a-z-]+)"', sources)
    shown = re.findall(r"images/([a-z-]+)\.png", TEXT)

    kept = {each.stem for each in (ROOT / "docs/images").iterdir()}
    assert kept == set(made) == set(shown)
    assert len(made) == len(set(made))
