"""``manage.py webhooks_prune``, as an operator types it."""

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from drf_webhooks.models import Endpoint, Event
from tests.management.test_commands import run
from tests.terminals import terminal
from tests.test_retention import DAY, endpoint, make_events  # noqa: F401  # a fixture

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_dry_run_counts_and_forgets_nothing(endpoint: Endpoint) -> None:  # noqa: F811
    make_events(40 * DAY)

    out, _ = run("webhooks_prune", "--dry-run")

    assert out == "1 messages and 0 events are old.\n"
    assert Event.objects.exclude(body=None).exists()


def test_what_is_older_than_the_settings_is_forgotten(endpoint: Endpoint, settings: Any) -> None:  # noqa: F811
    settings.DRF_WEBHOOKS = {**settings.DRF_WEBHOOKS, "EVENT_RETENTION": timedelta(days=50)}
    make_events(40 * DAY)
    make_events(60 * DAY)

    out, _ = run("webhooks_prune", "--rate", "100000")

    assert out == "Forgotten: 2 messages, 2 attempts, 1 deliveries, 1 events, 0 notices.\n"


def test_ages_can_be_named(endpoint: Endpoint) -> None:  # noqa: F811
    make_events(2 * DAY)
    make_events(10 * DAY)

    out, _ = run("webhooks_prune", "--payloads", "1d", "--events", "1w")

    assert out == "Forgotten: 2 messages, 2 attempts, 1 deliveries, 1 events, 0 notices.\n"


def test_it_ends_when_its_time_is_over(endpoint: Endpoint) -> None:  # noqa: F811
    make_events(40 * DAY)

    assert "0 messages, 1 attempts" in run("webhooks_prune", "--for", "0s")[0]
    assert "1 messages, 0 attempts" in run("webhooks_prune", "--for", "1h")[0]


def test_a_terminal_shows_how_far_it_is(endpoint: Endpoint) -> None:  # noqa: F811
    make_events(40 * DAY)
    with terminal() as shown, open(shown.descriptor, "w", closefd=False) as stream:
        call_command("webhooks_prune", stdout=StringIO(), stderr=stream)

    assert "1 messages, 1 attempts" in shown.text
    assert shown.screen == [""]
