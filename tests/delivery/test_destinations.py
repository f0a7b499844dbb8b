"""Names are looked up as they are, and give numbers that were checked."""

import asyncio
import socket
from typing import Any

import pytest

from drf_webhooks.conf import Config
from drf_webhooks.delivery.destinations import GuardedResolver, look_up
from drf_webhooks.destination_rules import DestinationRefusedError, Rules


def resolve(*answer: str, **settings: Any) -> list[str]:
    async def ask(*_: object) -> list[str]:
        return list(answer)

    resolver = GuardedResolver(Rules.of(Config(**settings)), ask)
    found = asyncio.run(resolver.resolve("a.example", 443))
    assert {each["hostname"] for each in found} == {"a.example"}
    return [each["host"] for each in found]


def test_one_bad_address_refuses_the_name() -> None:
    with pytest.raises(DestinationRefusedError, match=r"10\.0\.0\.1 is refused: private"):
        resolve("93.184.216.34", "10.0.0.1")


def test_the_answer_is_numbers_only() -> None:
    assert resolve("93.184.216.34", "2606:4700::1") == ["93.184.216.34", "2606:4700::1"]


def test_an_address_of_ipv4_is_connected_to_as_one() -> None:
    assert resolve("::ffff:93.184.216.34") == ["93.184.216.34"]


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(DestinationRefusedError, match=r"'a\.example' is no address"):
        resolve("a.example")


def test_an_interface_that_the_resolver_names_is_kept() -> None:
    assert resolve("fe80::1%eth0", ALLOWED_NETWORKS=["fe80::/10"]) == ["fe80::1%eth0"]


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        pytest.param("a.example", "a.example.", id="the whole name"),
        pytest.param("localhost", "localhost", id="without a dot"),
        pytest.param("own.example", "own.example", id="named by the project"),
    ],
)
def test_nothing_is_appended_to_a_name(
    host: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = []

    def system(name: str, *_: object, **__: object) -> list[Any]:
        names.append(name)
        return [(0, 0, 0, "", ("93.184.216.34", 443))] * 2

    monkeypatch.setattr(socket, "getaddrinfo", system)

    assert asyncio.run(look_up(host, 443, as_written={"own.example"})) == ["93.184.216.34"]
    assert names == [asked]
