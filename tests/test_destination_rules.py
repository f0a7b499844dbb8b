"""What the settings say of where requests may go."""

from typing import Any

import pytest

from drf_webhooks.conf import Config
from drf_webhooks.destination_rules import DestinationRefusedError, Rules
from drf_webhooks.endpoint_urls import parse


def check(url: str, **settings: Any) -> None:
    Rules.of(Config(**settings)).check(parse(url))


@pytest.mark.parametrize(
    ("url", "settings", "said"),
    [
        ("http://a.example/", {}, "http is refused (HTTPS_ONLY), save to an address in"),
        ("http://1.1.1.1/", {}, "http is refused (HTTPS_ONLY)"),
        ("http://a.example/", {"ALLOWED_NETWORKS": ["127.0.0.0/8"]}, "http is refused"),
        ("https://10.0.0.1/", {}, "10.0.0.1 is refused: private"),
        ("https://[::ffff:10.0.0.1]/", {}, "10.0.0.1 is refused: private"),
        ("https://1.1.1.1/", {"DENIED_NETWORKS": ["1.1.1.0/24"]}, "in DENIED_NETWORKS"),
        (
            "https://10.1.1.1/",
            {"ALLOWED_NETWORKS": ["10.0.0.0/8"], "DENIED_NETWORKS": ["10.1.0.0/16"]},
            "10.1.1.1 is refused: in DENIED_NETWORKS",
        ),
        (
            "https://[64:ff9b::a00:1]/",
            {"ALLOWED_NETWORKS": ["64:ff9b::/96"]},
            "64:ff9b::a00:1 is refused: private",
        ),
        ("https://a.example:22/", {}, "port 22 is refused: ALLOWED_PORTS has 80, 443, 1024-65535"),
        ("https://a.example/", {"ALLOWED_PORTS": []}, "ALLOWED_PORTS has none"),
        ("https://a.example:6379/", {"DENIED_PORTS": ["6379"]}, "6379 is refused: in DENIED_PORTS"),
        ("https://a.example/", {"ALLOWED_HOSTS": ["b.example"]}, "not in ALLOWED_HOSTS"),
        ("https://1.1.1.1/", {"ALLOWED_HOSTS": [".example"]}, "not in ALLOWED_HOSTS"),
        ("https://notb.example/", {"ALLOWED_HOSTS": [".b.example"]}, "not in ALLOWED_HOSTS"),
        ("https://A.example./", {"DENIED_HOSTS": ["a.example"]}, "a.example is refused: in DENIED"),
        ("https://x.a.example/", {"DENIED_HOSTS": [".a.example"]}, "in DENIED_HOSTS"),
        ("https://intranet/", {}, "a name without a dot"),
        ("https://intranet/", {"ALLOWED_HOSTS": ["*"]}, "a name without a dot"),
    ],
)
def test_a_rule_names_its_setting(url: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(DestinationRefusedError) as caught:
        check(url, **settings)

    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("https://a.example/", {}),
        ("https://1.1.1.1:8443/", {}),
        ("http://a.example/", {"HTTPS_ONLY": False}),
        ("http://10.1.2.3:8080/", {"ALLOWED_NETWORKS": ["10.1.0.0/16"]}),
        ("https://[::ffff:10.1.2.3]/", {"ALLOWED_NETWORKS": ["10.1.0.0/16"]}),
        ("https://[64:ff9b::101:101]/", {"ALLOWED_NETWORKS": ["64:ff9b::/96"]}),
        ("https://a.example:22/", {"ALLOWED_PORTS": ["1-65535"]}),
        ("https://x.b.example/", {"ALLOWED_HOSTS": [".B.example"]}),
        ("https://b.example/", {"ALLOWED_HOSTS": [".b.example"]}),
        ("https://1.1.1.1/", {"ALLOWED_HOSTS": ["1.1.1.1"]}),
        ("https://localhost/", {"ALLOWED_HOSTS": ["*", "localhost"]}),
    ],
)
def test_what_the_settings_allow_is_allowed(url: str, settings: dict[str, Any]) -> None:
    check(url, **settings)
