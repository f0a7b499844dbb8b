"""No connection to an address that may not be reached, however it is written."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from drf_webhooks.conf import Config
from drf_webhooks.delivery.destinations import (
    DestinationRefusedError,
    GuardedResolver,
    check_address,
    check_literal,
    check_port,
)
from drf_webhooks.delivery.transport import AiohttpTransport, Answer, Failure
from drf_webhooks.validators import validate_url

CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "ssrf.jsonl").read_text().splitlines()
    if line.strip()
]


def outcome(case: dict[str, Any]) -> tuple[str, list[str]]:
    """Send to a case's URL with its answers; say what came of it, and what was asked."""
    asked: list[str] = []

    async def ask(host: str, _: int) -> list[str]:
        asked.append(host)
        return list(case.get("resolves_to") or [])

    async def send() -> Answer | Failure:
        async with AiohttpTransport(Config(), ask=ask) as transport:
            return await transport.send(case["url"], method="POST", headers={}, body=b"{}")

    try:
        validate_url(case["url"])
    except ValidationError:
        return "invalid", asked
    result = asyncio.run(send())
    return ("answered" if isinstance(result, Answer) else result.error), asked


#: Cases that take more than a URL and its addresses: redirects, TLS, a resolver that is slow,
#: settings. And a name without a dot, which this guard judges by its addresses alone.
ELSEWHERE = ("settings", "redirect_to", "then_resolves_to")
OTHER_STAGES = ("https://wrongcert.", "https://slowdns.", "http://intranet/")
BLOCKED, ALLOWED = (
    [
        case
        for case in CASES
        if case["verdict"] == verdict
        and not any(case.get(each) for each in ELSEWHERE)
        and not case["url"].startswith(OTHER_STAGES)
    ]
    for verdict in ("block", "allow")
)


@pytest.mark.parametrize("case", BLOCKED, ids=lambda case: case["id"])
def test_each_known_trick_is_refused_before_a_connection(case: dict[str, Any]) -> None:
    result, _ = outcome(case)

    assert result in {"invalid", "invalid_url", "destination_refused", "dns_error"}


@pytest.mark.parametrize("case", ALLOWED, ids=lambda case: case["id"])
def test_what_is_right_is_a_url_with_allowed_addresses(case: dict[str, Any]) -> None:
    validate_url(case["url"])
    for address in case.get("resolves_to") or []:
        check_address(address, allowed=())


@given(st.ip_addresses(v=4))
def test_an_address_is_judged_alike_in_each_wrapping(address: Any) -> None:
    number = int(address)
    for wrapped in (
        f"::ffff:{address}",
        f"::{address}",
        f"64:ff9b::{address}",
        f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1",
        f"2001:0:{number >> 16:x}:{number & 0xFFFF:x}::",
        f"2606:4700::5efe:{number >> 16:x}:{number & 0xFFFF:x}",
    ):
        with pytest.raises(DestinationRefusedError):
            check_address(wrapped, allowed=())


def test_networks_may_be_opened() -> None:
    check_address("10.1.2.3", allowed=("10.1.0.0/16",))
    check_address("::1", allowed=("10.1.0.0/16", "::1/128"))
    with pytest.raises(DestinationRefusedError, match=r"10\.2\.0\.1 is refused: private"):
        check_address("10.2.0.1", allowed=("10.1.0.0/16",))
    with pytest.raises(DestinationRefusedError, match="'x' is no address"):
        check_address("x", allowed=())


@pytest.mark.parametrize("port", [1, 22, 25, 443 + 1, 1023])
def test_ports_of_other_services_are_refused(port: int) -> None:
    with pytest.raises(DestinationRefusedError, match=f"port {port} is refused"):
        check_port(port)
    with pytest.raises(DestinationRefusedError):
        check_literal("93.184.216.34", port, allowed=())


def test_one_bad_address_refuses_the_name() -> None:
    async def ask(*_: object) -> list[str]:
        return ["93.184.216.34", "10.0.0.1"]

    resolver = GuardedResolver(allowed=(), ask=ask)

    with pytest.raises(DestinationRefusedError):
        asyncio.run(resolver.resolve("a.example", 443))


def test_the_answer_is_numbers_only() -> None:
    async def ask(*_: object) -> list[str]:
        return ["93.184.216.34", "2606:4700::1"]

    found = asyncio.run(GuardedResolver(allowed=(), ask=ask).resolve("a.example", 443))

    assert [each["host"] for each in found] == ["93.184.216.34", "2606:4700::1"]
    assert {each["hostname"] for each in found} == {"a.example"}
