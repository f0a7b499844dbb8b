"""Settings: what is wrong with them is said in a sentence."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings

from drf_webhooks.conf import Config, config, mistakes
from drf_webhooks.exceptions import ConfigurationError

HOSTS = "'hooks.example.com', '.example.com' or '*'"


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
        *(
            ({key: [value]}, f"DRF_WEBHOOKS[{key!r}] has {value!r}. It must be like {like}.")
            for key, value, like in (
                ("ALLOWED_NETWORKS", "10.0.0.1/8", "'10.0.0.0/8'"),
                ("DENIED_NETWORKS", "a.example", "'10.0.0.0/8'"),
                ("ALLOWED_HOSTS", "https://a.example", HOSTS),
                ("DENIED_HOSTS", "*.example", HOSTS),
                ("ALLOWED_PORTS", "80,443", "443 or '1024-65535'"),
                ("DENIED_PORTS", 0, "443 or '1024-65535'"),
            )
        ),
        *(
            (
                {"PROXY": proxy},
                ("DRF_WEBHOOKS['PROXY'] must be like 'http://user:password@proxy.internal:3128'."),
            )
            for proxy in (
                "proxy.internal:3128",
                "socks5://proxy.internal",
                "http://:3128",
                "http://a:s3cret@b:port",
                "http://a/path",
            )
        ),
        (
            {"FORMATS": {"own": 1}},
            "DRF_WEBHOOKS['FORMATS'] is {'own': 1}. It must be a dict of str to str.",
        ),
        (
            {"CLOUDEVENTS_SOURCE": "a b"},
            (
                "DRF_WEBHOOKS['CLOUDEVENTS_SOURCE'] is 'a b'. It must be a URI reference, like "
                "'https://api.example.com' or '/shop'."
            ),
        ),
        ({"CONCURRENCY": 0}, "DRF_WEBHOOKS['CONCURRENCY'] is 0. It must be at least 1."),
        (
            {"ENGINE_TIME_LIMIT": timedelta(0)},
            "DRF_WEBHOOKS['ENGINE_TIME_LIMIT'] is 0:00:00. It must be more than 0.",
        ),
        ({"RETRY_JITTER": 2}, "DRF_WEBHOOKS['RETRY_JITTER'] is 2. It must be 0 to 1."),
        (
            {"REQUEST_TIMEOUT": timedelta(0)},
            "DRF_WEBHOOKS['REQUEST_TIMEOUT'] is 0:00:00. It must be 1 to 30 seconds.",
        ),
        (
            {"BREAKER_RATE": 0},
            "DRF_WEBHOOKS['BREAKER_RATE'] is 0. It must be above 0, and 1 at most.",
        ),
        (
            {"BREAKER_PAUSE": timedelta(0)},
            "DRF_WEBHOOKS['BREAKER_PAUSE'] is 0:00:00. It must be longer than 0.",
        ),
        (
            {"RETRY_SCHEDULE": [timedelta(seconds=-1)]},
            "DRF_WEBHOOKS['RETRY_SCHEDULE'] has a wait below 0.",
        ),
        (
            {"WARN_AFTER": [timedelta(hours=2), timedelta(hours=1)]},
            "DRF_WEBHOOKS['WARN_AFTER'] does not rise from one to the next.",
        ),
        (
            {"WARN_AFTER": []},
            (
                "DRF_WEBHOOKS['WARN_AFTER'] is empty. No endpoint is disabled without a warning "
                "before: give one, or set DISABLE_AFTER to None."
            ),
        ),
        (
            {"DISABLE_AFTER": timedelta(days=3)},
            (
                "DRF_WEBHOOKS['DISABLE_AFTER'] is 3 days, 0:00:00. It must be longer than the "
                "last of WARN_AFTER, 3 days, 0:00:00, or nobody is warned in time."
            ),
        ),
        (
            {"PER_EVENT_TYPE": []},
            (
                "DRF_WEBHOOKS['PER_EVENT_TYPE'] is []. It must be a dict of str to "
                "a dict of str to Any."
            ),
        ),
        (
            {"PER_EVENT_TYPE": {"a": {"LEASE": 5}}},
            (
                "DRF_WEBHOOKS['PER_EVENT_TYPE']['a'] has 'LEASE'. It may have RETRY_SCHEDULE, "
                "RETRY_JITTER, MAX_AGE."
            ),
        ),
        (
            {"PER_EVENT_TYPE": {"a": {"MAX_AGE": 5}}},
            "DRF_WEBHOOKS['PER_EVENT_TYPE']['a']['MAX_AGE'] is 5. It must be timedelta.",
        ),
        (
            {"PER_EVENT_TYPE": {"a": {"RETRY_JITTER": 5}}},
            (
                "DRF_WEBHOOKS['PER_EVENT_TYPE']['a']: DRF_WEBHOOKS['RETRY_JITTER'] is 5. "
                "It must be 0 to 1."
            ),
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


def test_a_pattern_of_event_types_must_be_one() -> None:
    (mistake,) = mistakes({"PER_EVENT_TYPE": {"a..b": {}}})

    assert mistake.startswith("DRF_WEBHOOKS['PER_EVENT_TYPE']['a..b']: 'a..b' is no event type.")


def test_who_is_never_disabled_need_not_be_warned() -> None:
    assert mistakes({"DISABLE_AFTER": None, "WARN_AFTER": []}) == []


def test_settings_are_read_when_they_are_asked_for() -> None:
    with override_settings(DRF_WEBHOOKS={"CONCURRENCY": 7}):
        assert config().CONCURRENCY == 7
    with override_settings(OTHER=1):
        assert config().CONCURRENCY == 100


def test_a_right_proxy_is_no_mistake_and_not_shown() -> None:
    given = {"PROXY": "https://ada:s3cret@proxy.internal:3128/"}

    assert mistakes(given) == []
    assert "s3cret" not in repr(Config(**given))
