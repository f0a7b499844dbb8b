"""Lengths of time, moments and endpoints, as an operator writes them."""

import uuid
from argparse import ArgumentTypeError
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management.base import CommandError
from django.utils import timezone

from drf_webhooks.management import arguments
from drf_webhooks.models import Endpoint


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90s", timedelta(seconds=90)),
        ("10m", timedelta(minutes=10)),
        ("2h", timedelta(hours=2)),
        ("7d", timedelta(days=7)),
        ("4w", timedelta(weeks=4)),
    ],
)
def test_a_length_of_time_has_a_unit(text: str, length: timedelta) -> None:
    assert arguments.length(text) == length


@pytest.mark.parametrize("text", ["", "10", "m", "1.5h", "-2h", "1y", "٣h", "9" * 30 + "d"])
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="no length of time"):
        arguments.length(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-24T12:00Z", datetime(2026, 11, 24, 12, tzinfo=UTC)),
        ("2026-11-24 12:00:01+01:00", datetime(2026, 11, 24, 11, 0, 1, tzinfo=UTC)),
        ("2026-11-24", datetime(2026, 11, 24, 6, tzinfo=UTC)),
    ],
)
def test_a_moment_is_absolute(text: str, moment: datetime) -> None:
    # The time zone of the project under test is Django's default, America/Chicago.
    assert arguments.moment(text) == moment


def test_a_moment_may_be_so_long_ago() -> None:
    assert abs(timezone.now() - timedelta(hours=2) - arguments.moment("2h")) < timedelta(seconds=9)


@pytest.mark.parametrize("text", ["noon", "2026-13-01T00:00", "2026-02-30"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is no moment"):
        arguments.moment(text)


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", "²"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="not at least 1"):
        arguments.positive(text)


def test_a_number_from_one() -> None:
    assert arguments.positive("1") == 1


@pytest.mark.django_db
@pytest.mark.parametrize("make", [str, lambda _: str(uuid.uuid4()), lambda _: "x"])
def test_an_endpoint_is_found_by_its_key(make: Callable[[Any], str]) -> None:
    made = Endpoint.objects.create(url="https://a.example/", event_types=["*"])

    if make is str:
        assert arguments.endpoint(make(made.pk), "default") == made
    else:
        with pytest.raises(CommandError, match="There is no endpoint"):
            arguments.endpoint(make(made.pk), "default")


def test_a_database_is_one_that_is_configured() -> None:
    arguments.check_database("other")
    with pytest.raises(CommandError, match="Known: default, other"):
        arguments.check_database("nowhere")
