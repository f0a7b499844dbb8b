"""What a deployment is told of where its requests may go."""

import pytest
from django.core import checks
from django.test import override_settings

from drf_webhooks.destination_checks import check_destinations, check_urls
from drf_webhooks.models import Endpoint


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "number", "said"),
    [
        ({"HTTPS_ONLY": False}, "W202", "can be read and changed"),
        ({"ALLOWED_NETWORKS": ["1.1.1.0/24", "10.0.0.0/8"]}, "W203", "has 10.0.0.0/8: whoever"),
        ({"ALLOWED_PORTS": [443, 25, "1000-1010"]}, "W204", "has 25, 1000-1010: ports"),
        ({"PROXY": "http://a:s3cret@proxy.internal:3128"}, "W205", "looked up by the proxy"),
    ],
)
def test_a_deployment_is_warned(given: dict[str, object], number: str, said: str) -> None:
    with override_settings(DRF_WEBHOOKS=given):
        (message,) = check_destinations()
        assert message in checks.run_checks(tags=["drf_webhooks"], include_deployment_checks=True)
        assert message not in checks.run_checks(tags=["drf_webhooks"])

    assert message.id == f"drf_webhooks.{number}"
    assert said in message.msg
    assert message.hint
    assert "s3cret" not in str(message)


@override_settings(DRF_WEBHOOKS={})
def test_a_proxy_that_others_use_and_we_do_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_destinations() == []
    monkeypatch.setenv("https_proxy", "http://ada:s3cret@proxy.internal:3128")

    (message,) = check_destinations()

    assert message.id == "drf_webhooks.W206"
    assert "https_proxy is set in the environment" in message.msg
    assert "s3cret" not in str(message)


@override_settings(DRF_WEBHOOKS={"HTTPS": 1})
def test_of_settings_that_are_none_nothing_more_is_said() -> None:
    assert check_destinations() == []
    assert check_urls(databases=["default"]) == []


@pytest.mark.django_db
@override_settings(DRF_WEBHOOKS={})
def test_endpoints_that_are_not_sent_to_any_more_are_named() -> None:
    Endpoint.objects.bulk_create(
        Endpoint(url=url, state=state, event_types=["*"])
        for url, state in (
            ("http://a.example/?key=s3cret", "enabled"),
            ("https://127.1/", "enabled"),
            ("http://b.example/", "disabled"),
            ("https://c.example/", "enabled"),
        )
    )

    assert check_urls() == []
    (message,) = check_urls(databases=["default"])

    assert message.id == "drf_webhooks.W207"
    assert "2 enabled endpoints in the database 'default'" in message.msg
    assert "'http://a.example/' is no address for an endpoint: http is refused" in message.msg
    assert "'https://127.1/' has a host" in message.msg
    assert "s3cret" not in message.msg
    with override_settings(DRF_WEBHOOKS={"HTTPS_ONLY": False}):
        assert "1 enabled endpoints" in check_urls(databases=["default"])[0].msg


@pytest.mark.django_db
def test_without_tables_there_is_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Endpoint._meta, "db_table", "there_is_no_such_table")

    assert check_urls(databases=["default"]) == []
