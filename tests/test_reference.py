"""The pages under ``docs/reference`` say of the code what is so, and leave nothing out."""

import argparse
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.apps import apps
from django.core.management import get_commands, load_command_class

from drf_webhooks import event_types, exceptions, signals, testing
from drf_webhooks.contrib.prometheus import metrics
from drf_webhooks.owners import Owned
from drf_webhooks.resources import ModelSerializerWebhook

REFERENCE = Path(__file__).parent.parent / "docs/reference"
OURS = sorted(name for name, app in get_commands().items() if app == "drf_webhooks")
#: Modules that have other names for the rest of the library.
PARTLY_PUBLIC = {
    "drf_webhooks.delivery.formats",
    "drf_webhooks.dependencies",
    "drf_webhooks.encryption",
    "drf_webhooks.contrib.triggers.journal",
}


def page(name: str) -> str:
    return (REFERENCE / name).read_text()


def rows(text: str) -> Iterator[list[str]]:
    """Give the cells of each row of a page's tables, headings left out."""
    for line in text.splitlines():
        cells = [each.strip() for each in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and cells[0].startswith("`"):
            yield cells


def names(cell: str) -> list[str]:
    """Return what stands in backticks, without arguments."""
    return [re.split(r"[(\s]", each)[0] for each in re.findall(r"`([^`]+)`", cell)]


def modules() -> list[tuple[str, list[str], Path]]:
    found = []
    for module, listed, link in rows(page("modules.md")):
        target = re.search(r"\]\((.+?)\)", link)
        assert target, link
        found.append((names(module)[0], names(listed), REFERENCE / target[1]))
    return found


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """Return the long options of a parser, and of its actions."""
    found = set()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                found |= options_of(each)
        found |= {each for each in action.option_strings if each.startswith("--")}
    return found - {"--help"}


def own_options(command: str) -> set[str]:
    """Return the options that a command of ours has besides those of all commands."""
    parser = argparse.ArgumentParser()
    load_command_class("drf_webhooks", command).add_arguments(parser)
    return options_of(parser)


@pytest.mark.parametrize("command", OURS)
def test_each_option_of_a_command_is_in_the_reference(command: str) -> None:
    told = [cells for cells in rows(page("commands.md")) if names(cells[0]) == [command]]

    listed = set(re.findall(r"--[a-z-]+", " ".join(" ".join(cells) for cells in told)))

    assert listed == own_options(command)


@pytest.mark.parametrize(
    ("module", "listed", "target"), modules(), ids=[module for module, *_ in modules()]
)
def test_each_public_name_of_a_module_is_in_the_reference(
    module: str, listed: list[str], target: Path
) -> None:
    public = set(importlib.import_module(module).__all__)

    if module in PARTLY_PUBLIC:
        assert set(listed) < public
    else:
        assert set(listed) == public
    text = target.read_text()
    assert module in text
    assert [each for each in listed if not re.search(rf"\b{each}\b", text)] == []


@pytest.mark.parametrize(
    "model", [each.__name__ for each in apps.get_app_config("drf_webhooks").get_models()]
)
def test_each_field_of_a_model_is_below_its_heading(model: str) -> None:
    section = re.split(rf"^## {model}\n", page("models.md"), flags=re.MULTILINE)[1]

    listed = [name for cells in rows(section.split("\n## ")[0]) for name in names(cells[0])]

    fields = apps.get_model("drf_webhooks", model)._meta.concrete_fields
    assert sorted(listed) == sorted(each.name for each in fields)


def test_each_attribute_of_a_resource_is_in_the_reference() -> None:
    listed = {name for cells in rows(page("resources.md")) for name in names(cells[0])}

    members = {*vars(ModelSerializerWebhook), *ModelSerializerWebhook.__annotations__}
    assert {each for each in members if not each.startswith("_")} <= listed


def test_each_signal_is_in_the_reference() -> None:
    listed = {name for cells in rows(page("signals.md")) for name in names(cells[0])}

    assert set(signals.__all__) - {"SettledAttempt"} <= listed
    assert set(event_types.OPERATIONAL) <= set(re.findall(r"`([a-z_.]+)`", page("signals.md")))


def test_each_exception_is_in_the_reference() -> None:
    listed = [name for cells in rows(page("exceptions.md")) for name in names(cells[0])]

    assert set(listed) == set(exceptions.__all__)
    assert all(issubclass(getattr(exceptions, each), exceptions.WebhookError) for each in listed)


def test_each_helper_of_tests_is_in_the_reference() -> None:
    listed = {name for cells in rows(page("testing.md")) for name in names(cells[0])}

    members = {each for each in vars(testing.WebhookReceiver) if not each.startswith("_")}
    assert listed == set(testing.__all__) | members | {"requests"}


def test_each_member_of_owned_is_in_the_reference() -> None:
    listed = {name for cells in rows(page("owners.md")) for name in names(cells[0])}

    assert listed == {each for each in vars(Owned) if not each.startswith("_")}


@pytest.mark.django_db
def test_each_metric_is_in_the_reference() -> None:
    listed = {name for cells in rows(page("metrics.md")) for name in names(cells[0])}

    counters = {
        each.name if each.type == "histogram" else f"{each.name}_total"
        for counted in (metrics.ATTEMPTS, metrics.REFUSED, metrics.DURATION)
        for each in counted.describe()
    }
    gauges = {each.name for each in metrics.Gauges("default").collect()}
    assert listed == counters | gauges
