"""URLs that are to reach what they must not: each connection that is tried is looked at.

``ssrf.jsonl`` has one on each line, with what name servers answer and what is right.
"""

import asyncio
import gzip
import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import override_settings
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from drf_webhooks.conf import Config
from drf_webhooks.delivery.transport import AiohttpTransport, Answer, Failure
from drf_webhooks.delivery.worker import Worker
from drf_webhooks.models import Attempt, Delivery, Endpoint
from drf_webhooks.validators import validate_url
from tests.attacks import Attacks
from tests.connects import Tried, connects
from tests.delivery.sending import BODY, SHORT, home, send
from tests.delivery.servers import OK, Authority, Client, RawServer, always_ok, answers
from tests.factories import make_deposit

pytestmark = pytest.mark.security

CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "ssrf.jsonl").read_text().splitlines()
    if line.strip()
]
BY_ID = {case["id"]: case for case in CASES}
#: What a URL has to be refused for, or what it comes to where nothing can be connected to.
REFUSED = {"invalid_url", "destination_refused", "dns_error", "timeout_dns"}
#: Here the address is right: what follows is not to be believed.
CONNECTED = {"pin", "redirect"}


def settings_of(case: dict[str, Any]) -> dict[str, Any]:
    """Return a case's settings as ours; the table takes http for allowed."""
    given = case.get("settings", {})
    read: dict[str, Any] = {"HTTPS_ONLY": given.get("require_https", False)}
    if "proxy" in given:
        read["PROXY"] = given["proxy"]
    if "allowed_networks" in given:
        read["ALLOWED_NETWORKS"] = tuple(given["allowed_networks"])
    if "allowed_hosts" in given:
        read["ALLOWED_HOSTS"] = tuple(given["allowed_hosts"])
    if "own_hosts" in given:
        read["DENIED_HOSTS"] = tuple(given["own_hosts"])
    return read


def attempt(case: dict[str, Any]) -> tuple[Answer | Failure, list[Tried], int]:
    """Send to a case's URL; return what came of it, what was connected to, and the look-ups."""
    replies = [case.get("resolves_to", []), case.get("then_resolves_to")]
    asked = 0

    async def ask(_: str, __: int) -> list[str]:
        nonlocal asked
        asked += 1
        if case.get("dns_delay_s"):
            await asyncio.Event().wait()
        reply = replies[min(asked, 2) - 1]
        return list(replies[0] if reply is None else reply)

    config = Config(CONNECT_TIMEOUT=SHORT, **settings_of(case))

    async def main() -> Answer | Failure:
        async with AiohttpTransport(config, ask=ask) as transport:
            return await transport.send(case["url"], method="POST", headers={}, body=BODY)

    with connects() as tried:
        return asyncio.run(main()), tried, asked


def addresses_of(case: dict[str, Any]) -> set[str]:
    """Return where a case's URL leads, if it may."""
    if case["verdict"] == "block" and case["stage"] not in CONNECTED:
        return set()
    if "resolves_to" in case:
        return set(case["resolves_to"])
    host = case["url"].partition("//")[2].partition("/")[0]
    if host.startswith("["):
        address = ipaddress.IPv6Address(host.partition("]")[0][1:])
        return {str(address.ipv4_mapped or address)}
    return {host.partition(":")[0]}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_c45_a_url_leads_to_a_checked_address_or_nowhere(
    case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in case.get("env", {}).items():
        monkeypatch.setenv(name, value)

    outcome, tried, asked = attempt(case)

    assert {host for host, _ in tried} == addresses_of(case)
    assert not {host for host, _ in tried} & set(case.get("must_not_connect_to", ()))
    assert asked <= 1
    assert isinstance(outcome, Failure)
    # Nobody is there in this test.
    assert outcome.error == "connection_refused" if tried else outcome.error in REFUSED


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_c45_what_can_be_seen_in_a_url_is_said_when_it_is_saved(case: dict[str, Any]) -> None:
    """What only a look-up tells is left to each attempt."""
    is_seen = case["verdict"] == "block" and (
        case["stage"] in {"url", "address", "encoding", "allowlist", "proxy"}
        or case["id"] in {"S164", "S168", "S169"}
    )

    with override_settings(DRF_WEBHOOKS=settings_of(case)):
        if not is_seen:
            validate_url(case["url"])
            return
        with pytest.raises(ValidationError) as caught:
            validate_url(case["url"])

    (message,) = caught.value.messages
    assert "no address for an endpoint" in message or "Write an address like" in message


@pytest.mark.django_db(transaction=True)
@override_settings(DRF_WEBHOOKS={"HTTPS_ONLY": False})
def test_c45_rows_that_nobody_has_checked_are_checked_when_they_are_sent(attacks: Attacks) -> None:
    """The whole way, by a worker; ``bulk_create()`` calls no ``save()``."""
    cases = [each for each in CASES if not each.get("settings") and not each.get("dns_delay_s")]
    endpoints = Endpoint.objects.bulk_create(
        Endpoint(url=case["url"], event_types=["core.deposit.*"]) for case in cases
    )
    replies = {
        case["url"].partition("//")[2].partition("/")[0].partition(":")[0].lower().rstrip("."): (
            case.get("resolves_to", [])
        )
        for case in cases
    }

    async def ask(host: str, _: int) -> list[str]:
        return list(replies.get(host, [])) or ["10.0.0.1"]

    async def main() -> None:
        async with AiohttpTransport(Config(HTTPS_ONLY=False), ask=ask) as transport:
            worker = Worker("default", housekeeping=int, transport=transport)
            await worker.run(until_empty=True)

    make_deposit()
    with connects() as tried:
        asyncio.run(main())

    allowed = {address for case in cases for address in addresses_of(case)}
    assert {host for host, _ in tried} == allowed
    assert not Delivery.objects.exclude(state="waiting").exists()
    errors = dict(Attempt.objects.values_list("delivery__endpoint", "error"))
    for case, endpoint in zip(cases, endpoints, strict=True):
        is_refused = errors[endpoint.pk] in REFUSED
        attacks.judge(case["id"], is_held=is_refused is not bool(addresses_of(case)))


def https(case_id: str, server: RawServer) -> str:
    """Return a case's URL with a port of ours. Its name is looked up at home."""
    scheme, _, rest = str(BY_ID[case_id]["url"]).partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host}:{server.port}{slash}{path}"


def test_c45_tls_and_host_have_the_name(authority: Authority) -> None:
    case = BY_ID["S193"]
    named: list[str | None] = []
    context = authority.context("sni.example.com")
    context.sni_callback = lambda _, name, __: named.append(name)
    with RawServer(always_ok, tls=context) as server:
        sent = send(https("S193", server), ask=home, CA_BUNDLE=authority.bundle)
        (request,) = server.requests

    assert sent.answer.status == 200
    assert named == [case["expect"]["sni"]]
    assert f"\r\nHost: {case['expect']['host']}:{server.port}\r\n".encode() in request


def test_c45_a_dot_at_the_end_of_a_name_is_gone_from_tls_and_host(authority: Authority) -> None:
    named: list[str | None] = []
    context = authority.context("hooks.example.com")
    context.sni_callback = lambda _, name, __: named.append(name)
    with RawServer(always_ok, tls=context) as server:
        sent = send(https("S185", server), ask=home, CA_BUNDLE=authority.bundle)
        (request,) = server.requests

    assert sent.answer.status == 200
    assert named == ["hooks.example.com"]
    assert f"\r\nHost: hooks.example.com:{server.port}\r\n".encode() in request


def test_c45_a_certificate_for_another_name_is_none(authority: Authority) -> None:
    context = authority.context(*BY_ID["S194"]["server_cert_names"])
    with RawServer(always_ok, tls=context) as server:
        sent = send(https("S194", server), ask=home, CA_BUNDLE=authority.bundle)

    assert sent.error == "tls_wrong_name"
    assert server.requests == []


@pytest.mark.parametrize("case_id", ["S195", "S196", "S198", "S201"])
def test_c45_a_location_is_never_asked_for(case_id: str, authority: Authority) -> None:
    case = BY_ID[case_id]
    status = case.get("response_status") or case["expect"]["attempt_status"]
    lines = (
        f"HTTP/1.1 {status} There\r\nlocation: {case['redirect_to']}\r\n"
        f"refresh: 0; url={case['redirect_to']}\r\ncontent-length: 0\r\n\r\n"
    )
    name = case["url"].split("/")[2]
    with (
        RawServer(answers(lines.encode()), tls=authority.context(name)) as server,
        connects() as tried,
    ):
        sent = send(https(case_id, server), ask=home, CA_BUNDLE=authority.bundle)

    assert sent.answer.status == status
    assert tried == [("127.0.0.1", server.port)]


@pytest.mark.parametrize("case_id", ["S215", "S216"])
def test_c45_an_answer_without_end_and_a_bomb_are_successes(
    case_id: str, authority: Authority
) -> None:
    def endless(client: Client) -> None:
        client.read()
        client.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            client.send(b"x" * 65536)

    bomb = gzip.compress(b"\0" * 20_000_000)
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb)
    script = endless if case_id == "S215" else answers(head, bomb)
    name = BY_ID[case_id]["url"].split("/")[2]
    with RawServer(script, tls=authority.context(name)) as server:
        sent = send(https(case_id, server), ask=home, CA_BUNDLE=authority.bundle)

    assert sent.answer.status == 200
    assert sent.answer.end == "cut"
    assert len(sent.answer.body) == 4096


@pytest.mark.parametrize(
    "case",
    [each for each in CASES if each["stage"] in {"url", "address", "encoding"}],
    ids=lambda case: case["id"],
)
def test_c45_a_proxy_is_told_no_url_that_is_wrong(case: dict[str, Any]) -> None:
    """With a proxy the addresses of names are its affair; the rest stays ours."""
    with RawServer(always_ok) as proxy, connects() as tried:
        sent = send(
            case["url"],
            ask=home,
            PROXY=proxy.url,
            ALLOWED_NETWORKS=(),
            CONNECT_TIMEOUT=SHORT,
            **settings_of(case),
        )

    if case["verdict"] == "block":
        assert sent.error in REFUSED
        assert tried == []
    else:
        assert set(tried) == {("127.0.0.1", proxy.port)}


def test_a_redirect_by_a_proxy_is_not_followed() -> None:
    moved = b"HTTP/1.1 302 There\r\nlocation: http://10.0.0.5/\r\ncontent-length: 0\r\n\r\n"
    with RawServer(answers(moved)) as proxy, connects() as tried:
        sent = send("http://a.example/", ask=home, PROXY=proxy.url)

    assert sent.answer.status == 302
    assert tried == [("127.0.0.1", proxy.port)]
    assert OK not in proxy.requests


NUMBERS = st.one_of(
    st.ip_addresses(v=4).map(int),
    st.sampled_from(
        [0x7F000001, 0x0A000001, 0xA9FEA9FE, 0xC0A80001, 0x64646464, 0xC00000C0, 0x5DB8D822]
    ),
)


@st.composite
def written(draw: st.DrawFn) -> str:
    """An address in one of the many forms that some program reads as one."""
    number = draw(NUMBERS)
    octets = [number >> shift & 255 for shift in (24, 16, 8, 0)]
    high, low = number >> 16, number & 0xFFFF
    plain = ".".join(map(str, octets))
    form = draw(st.integers(0, 17))
    return [
        plain,
        f"{plain}.",
        str(number),
        hex(number),
        f"0{number:o}",
        ".".join(map(hex, octets)),
        ".".join(f"0{each:o}" for each in octets),
        f"{octets[0]}.{number & 0xFFFFFF}",
        f"{octets[0]}.{octets[1]}.{low}",
        f"[::ffff:{plain}]",
        f"[::{plain}]",
        f"[::ffff:0:{plain}]",
        f"[64:ff9b::{high:x}:{low:x}]",
        f"[64:ff9b:1::{high:x}:{low:x}]",
        f"[2002:{high:x}:{low:x}::1]",
        f"[2001:0:{high:x}:{low:x}::1]",
        f"[2606:4700::5efe:{high:x}:{low:x}]",
        "".join(f"%{ord(each):x}" for each in plain),
    ][form]


NAMES = st.sampled_from(
    [
        "a.example",
        "localhost",
        "kubernetes",
        "ünï.example",
        BY_ID["S117"]["url"][7:-1],
        "a。example",
        "ⓛocalhost",
    ]
)
V6 = st.ip_addresses(v=6).map(lambda each: f"[{each}]")
#: What leads somewhere, if the address may be connected to.
PLAIN = st.builds(
    "{}://{}{}/{}".format,
    st.sampled_from(["http", "https", "HTTPS"]),
    st.one_of(st.just("a.example"), NAMES, NUMBERS.map(ipaddress.IPv4Address), V6, written()),
    st.sampled_from(["", "", "", ":80", ":443", ":8080", ":22"]),
    st.sampled_from(["", "in?x=y", "../%2e%2e/"]),
)
#: What leads nowhere, or where another parser would go.
CROOKED = st.builds(
    "{}{}{}{}{}{}".format,
    st.sampled_from(["http://", "https://", "//", "http:", "http:///", "https:\\\\"]),
    st.sampled_from(["", "", "", "a.example@", "127.0.0.1:80\\@", "127.0.0.1#@", "a:b@"]),
    st.one_of(written(), V6, NAMES, st.text(max_size=12)),
    st.sampled_from(["", "", "", ":8080", ":0", ":-1", ":443:80", ":٤٤٣"]),
    st.sampled_from(["", "/", "\\", "/\t", "?a", "#@b.example"]),
    st.sampled_from(["", "", "@10.0.0.1/", "\r\nHost: 10.0.0.1", "//10.0.0.1"]),
)
URLS = st.one_of(PLAIN, PLAIN, CROOKED, st.text(max_size=30))
ADDRESSES = st.one_of(
    NUMBERS.map(ipaddress.IPv4Address), st.ip_addresses(v=4), st.ip_addresses(v=6)
)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    url=URLS,
    answer=st.one_of(ADDRESSES.map(lambda each: [each]), st.lists(ADDRESSES, max_size=3)),
)
@example(url="http://127.0.0.1\\@a.example/", answer=[ipaddress.IPv4Address("93.184.216.34")])
@example(url="https://a.example/", answer=[ipaddress.IPv6Address("64:ff9b::a9fe:a9fe")])
def test_c45_no_url_leads_to_an_address_that_is_not_on_the_internet(
    attacks: Attacks, url: str, answer: list[ipaddress.IPv4Address | ipaddress.IPv6Address]
) -> None:
    """Judged by the standard library, whose table is another one than ours."""
    case = {"url": url, "resolves_to": [str(each) for each in answer]}

    _, tried, asked = attempt(case)

    for host, port in tried:
        address = ipaddress.ip_address(host)
        assert address.is_global
        assert not address.is_multicast
        assert not address.is_reserved
        assert getattr(address, "ipv4_mapped", None) is None
        assert port in {80, 443} or port >= 1024
    assert asked <= 1
    attacks.held(url)
    event("connected" if tried else "refused")
