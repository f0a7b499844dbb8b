"""What every test may rely on."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.management import create_permissions
from django.contrib.contenttypes.management import create_contenttypes
from django.contrib.contenttypes.models import ContentType
from django.db import connections
from django.db.models.signals import post_migrate

from drf_webhooks.models import Endpoint
from tests.attacks import Attacks, summary
from tests.schemas import judged

#: Files whose tests do the same whatever the database is.
_ANYWHERE = (
    "browser/",
    "contrib/test_generated_client.py",
    "delivery/test_hostile.py",
    "e2e/test_demo.py",
    "management/test_schema.py",
    "test_benchmarks.py",
    "test_documentation.py",
    "test_receivers_page.py",
    "test_reference.py",
    "test_schema_",
    "test_translations.py",
    "test_tutorial.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that are the same on each database."""
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).as_posix().startswith(_ANYWHERE):
            item.add_marker("anywhere")


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> None:
    """Make permissions and content types once, not anew after each test that commits.

    They are most of what such a test costs, and none needs them: content types are made where
    they are asked for.
    """
    post_migrate.disconnect(
        create_permissions, dispatch_uid="django.contrib.auth.management.create_permissions"
    )
    post_migrate.disconnect(create_contenttypes)
    post_migrate.connect(_forget_contenttypes, dispatch_uid="tests")


def _forget_contenttypes(**_: object) -> None:
    ContentType.objects.clear_cache()


@pytest.fixture(autouse=True)
def messages_are_as_documented(request: Any) -> Iterator[None]:
    """Judge the messages that a test leaves in the database by their schemas."""
    mark = request.node.get_closest_marker("django_db")
    if mark is None and not {"db", "transactional_db"} & set(request.fixturenames):
        yield
        return
    databases = ["default"] if mark is None else mark.kwargs.get("databases", ["default"])
    # Asked for, so that it goes after this.
    request.getfixturevalue("db")
    with judged(connections if databases == "__all__" else databases) as wrong:
        yield
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def everything(db: None) -> Endpoint:
    """An endpoint that subscribes to everything."""
    del db
    return Endpoint.objects.create(url="https://receiver.example/", event_types=["*"])


@pytest.fixture
def attacks(record_property: Any) -> Iterator[Attacks]:
    """Counts the attacks of a test that tries several; one that succeeded fails the test."""
    counted = Attacks()
    # The same dictionary is in the test's report.
    record_property("security", counted.counts)
    yield counted
    assert not counted.names, f"These attacks succeeded: {counted.names}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what the oracle, the chaos and the attacks have found, summed over their tests."""
    for kind in ("oracle", "chaos"):
        totals: Counter[str] = Counter()
        for reports in terminalreporter.stats.values():
            for report in reports:
                if getattr(report, "when", "") == "call":
                    totals.update(dict(report.user_properties).get(kind, {}))
        if totals:
            found = ", ".join(f"{name} {count}" for name, count in totals.items())
            terminalreporter.write_line(f"{kind}: {found}")
    attacked = summary(terminalreporter.stats)
    if attacked:
        found = ", ".join(f"{name} {count}" for name, count in attacked.items())
        terminalreporter.write_line(f"security: {found}")
