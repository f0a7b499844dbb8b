"""Which values hold for one delivery."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from drf_webhooks.conf import Config, mistakes
from drf_webhooks.exceptions import ConfigurationError
from drf_webhooks.models import Endpoint
from drf_webhooks.overrides import OF_ENDPOINTS, decode, rules

HOUR = timedelta(hours=1)


def test_without_others_the_settings_themselves_hold() -> None:
    settings = Config()

    assert rules(settings, event_type="a.b", overrides={}) is settings


def test_the_endpoint_counts_before_the_event_type_and_that_before_the_settings() -> None:
    settings = Config(
        PER_EVENT_TYPE={
            "*": {"MAX_AGE": HOUR, "RETRY_JITTER": 0.5},
            "a.b": {"MAX_AGE": 2 * HOUR, "RETRY_SCHEDULE": (HOUR,)},
        }
    )

    found = rules(settings, event_type="a.b", overrides={"RETRY_SCHEDULE": [1.5, 60]})

    assert found.MAX_AGE == 2 * HOUR
    assert found.RETRY_JITTER == 0.5
    assert list(found.RETRY_SCHEDULE) == [timedelta(seconds=1.5), timedelta(minutes=1)]
    assert rules(settings, event_type="c", overrides={}).MAX_AGE == HOUR


def test_a_test_is_never_retried() -> None:
    found = rules(Config(), event_type="webhooks.endpoint.test", overrides={"RETRY_SCHEDULE": [5]})

    assert found.RETRY_SCHEDULE == ()


def test_overrides_that_cannot_be_read_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    found = rules(Config(), event_type="a", overrides={"MAX_AGE": "soon"})

    assert found == Config()
    assert "left out" in caplog.text


def test_every_setting_that_an_endpoint_may_have_can_be_written_as_json() -> None:
    written = {
        "RETRY_SCHEDULE": [5],
        "RETRY_JITTER": 0,
        "MAX_AGE": 3600,
        "RETRY_AFTER_LIMIT": 60,
        "BREAKER_FAILURES": 3,
        "BREAKER_RATE": 0.5,
        "BREAKER_SAMPLE": 20,
        "BREAKER_WINDOW": 60,
        "BREAKER_PAUSE": 30,
        "BREAKER_PAUSE_LIMIT": 300,
        "WARN_AFTER": [60],
        "DISABLE_AFTER": None,
        "DISABLE_SPREAD": 60,
        "TYPE_FAILURES": 2,
    }

    decoded = decode(written)

    assert tuple(written) == OF_ENDPOINTS == tuple(decoded)
    assert mistakes(decoded) == []
    assert decoded["WARN_AFTER"] == (timedelta(minutes=1),)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], r"overrides is \[\]. It must be an object"),
        ({"LEASE": 5}, "overrides has 'LEASE'. It may have RETRY_SCHEDULE,"),
        ({"MAX_AGE": True}, r"overrides\['MAX_AGE'\] is True. It must be timedelta."),
        ({"MAX_AGE": 1e30}, "must be timedelta"),
        ({"RETRY_SCHEDULE": 5}, "must be a list of timedelta"),
        ({"RETRY_SCHEDULE": [-5]}, "has a wait below 0"),
        ({"DISABLE_AFTER": 60}, "or nobody is warned in time"),
    ],
)
@pytest.mark.django_db
def test_what_cannot_be_is_refused(overrides: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        decode(overrides)
    with pytest.raises(ValidationError, match=said):
        Endpoint.objects.create(url="https://a.example/", overrides=overrides)


@pytest.mark.django_db
def test_no_overrides_are_fine() -> None:
    url = "https://a.example/"
    endpoint = Endpoint.objects.create(url=url, event_types=["*"], overrides=None)
    endpoint.full_clean()
