"""Settings: what is wrong with them is said in a sentence."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings

from drf_webhooks.conf import config, mistakes
from drf_webhooks.exceptions import ConfigurationError


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "DRF_WEBHOOKS is []. It must be a dict."),
        (
            {"ENDPOINT_RATE": 0.0},
            "DRF_WEBHOOKS['ENDPOINT_RATE'] is 0.0. It must be more than 0.",
        ),
        (
            {"REQUEST_TIMOUT": 1},
            "DRF_WEBHOOKS has no setting 'REQUEST_TIMOUT'. Did you mean 'REQUEST_TIMEOUT'?",
        ),
        ({"xyz": 1}, "DRF_WEBHOOKS has no setting 'xyz'."),
        ({"LEASE": 60}, "DRF_WEBHOOKS['LEASE'] is 60. It must be timedelta."),
        ({"CONCURRENCY": True}, "DRF_WEBHOOKS['CONCURRENCY'] is True. It must be int."),
        ({"RETRY_JITTER": "1"}, "DRF_WEBHOOKS['RETRY_JITTER'] is '1'. It must be float."),
        ({"BASE_URL": 1}, "DRF_WEBHOOKS['BASE_URL'] is 1. It must be str or None."),
        (
            {"ON_PAYLOAD_ERROR": "x"},
            "DRF_WEBHOOKS['ON_PAYLOAD_ERROR'] is 'x'. It must be 'park' or 'raise'.",
        ),
        (
            {"ALLOWED_NETWORKS": "10.0.0.0/8"},
            "DRF_WEBHOOKS['ALLOWED_NETWORKS'] is '10.0.0.0/8'. It must be a list of str.",
        ),
        ({"CONCURRENCY": 0}, "DRF_WEBHOOKS['CONCURRENCY'] is 0. It must be at least 1."),
        ({"RETRY_JITTER": 2}, "DRF_WEBHOOKS['RETRY_JITTER'] is 2. It must be 0 to 1."),
        (
            {"REQUEST_TIMEOUT": timedelta(0)},
            "DRF_WEBHOOKS['REQUEST_TIMEOUT'] is 0:00:00. It must be 1 to 30 seconds.",
        ),
        (
            {"LEASE": timedelta(seconds=15)},
            (
                "DRF_WEBHOOKS['LEASE'] is 0:00:15. It must be longer than REQUEST_TIMEOUT, "
                "0:00:15, or two workers send the same delivery."
            ),
        ),
    ],
)
def test_mistakes_are_named(given: Any, said: str) -> None:
    assert mistakes(given) == [said]


@override_settings(DRF_WEBHOOKS={"LEASES": 1})
def test_a_mistake_is_raised_where_a_setting_is_asked_for() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'LEASE'"):
        config()


def test_settings_are_read_when_they_are_asked_for() -> None:
    with override_settings(DRF_WEBHOOKS={"CONCURRENCY": 7}):
        assert config().CONCURRENCY == 7
    with override_settings(OTHER=1):
        assert config().CONCURRENCY == 100
