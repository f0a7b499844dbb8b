"""An egress proxy, the authorities that are trusted, and what the environment says of both."""

import asyncio
import base64
import os
from pathlib import Path
from typing import Any

import pytest

from drf_webhooks.delivery import trust
from drf_webhooks.delivery.proxies import Proxy, ProxyResolver
from drf_webhooks.delivery.trust import has_authorities, tls_context
from drf_webhooks.destination_rules import DestinationRefusedError
from drf_webhooks.exceptions import ConfigurationError
from tests.delivery.sending import BODY, SHORT, home, send, send_all
from tests.delivery.servers import (
    Authority,
    Client,
    ProxyServer,
    RawServer,
    always_ok,
    silent_port,
)
from tests.delivery.test_errors import closed_port, plain, silent

CREDENTIALS = base64.b64encode(b"ada:s3cret pass")


async def nobody(host: str, _: int) -> list[str]:
    raise AssertionError(host)


@pytest.mark.parametrize("proxy_is_tls", [False, True], ids=["http-proxy", "https-proxy"])
@pytest.mark.parametrize("is_tls", [False, True], ids=["http", "https"])
def test_requests_go_through_the_proxy(
    authority: Authority, *, is_tls: bool, proxy_is_tls: bool
) -> None:
    """C43: with its credentials, and with the receiver's certificate checked end to end."""
    context = authority.context("a.example") if is_tls else None
    proxy_context = authority.context("127.0.0.1") if proxy_is_tls else None
    with (
        RawServer(always_ok, tls=context) as server,
        ProxyServer(credentials=CREDENTIALS, tls=proxy_context) as proxy,
    ):
        url = f"http{'s' if is_tls else ''}://a.example:{server.port}/hook"
        address = proxy.url.replace("//", "//ada:s3cret%20pass@")
        # The proxy looks names up, so nobody is asked here.
        sent = send_all(
            [url] * 2,
            ask=nobody,
            PROXY=address,
            CA_BUNDLE=authority.bundle,
            ALLOWED_NETWORKS=(),
            headers={"x-key": "1"},
        )

    assert [each.answer.status for each in sent] == [200, 200]
    assert len(proxy.requests) == (1 if is_tls else 2)
    assert len(server.requests) == 2
    received = server.requests[0]
    assert received.endswith(BODY)
    # The receiver hears nothing of how to speak to the proxy, nor the proxy of what is sent.
    if is_tls:
        assert b"proxy-authorization" not in received.lower()
        assert b"x-key" not in proxy.requests[0].lower()
        assert proxy.requests[0].startswith(b"CONNECT a.example:")
        assert server.connections == 1


def test_a_proxy_that_has_a_name_is_looked_up_anywhere(authority: Authority) -> None:
    with RawServer(always_ok) as server, ProxyServer() as proxy:
        sent = send(
            f"http://a.example:{server.port}/",
            ask=home,
            PROXY=f"http://proxy.internal:{proxy.port}",
            ALLOWED_NETWORKS=(),
        )

    assert sent.answer.status == 200
    assert sent.answer.timing.look_up is not None


def test_a_proxy_is_looked_up_by_the_system() -> None:
    with RawServer(always_ok) as server, ProxyServer() as proxy:
        url = f"http://a.example:{server.port}/"
        sent = send(url, ask=None, PROXY=f"http://localhost:{proxy.port}", ALLOWED_NETWORKS=())

    assert sent.answer.status == 200


@pytest.mark.security
def test_a_literal_address_is_checked_with_a_proxy_too() -> None:
    with ProxyServer() as proxy:
        sent = send("http://10.0.0.1:8080/", PROXY=proxy.url, ALLOWED_NETWORKS=())

    assert sent.error == "destination_refused"
    assert proxy.connections == 0


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_credentials_that_the_proxy_does_not_take(scheme: str) -> None:
    """C43."""
    with ProxyServer(credentials=CREDENTIALS) as proxy:
        sent = send(f"{scheme}://a.example/", PROXY=proxy.url.replace("//", "//ada:wr0ng@"))

    assert sent.error == "proxy_auth"
    assert sent.outcome.is_ours
    assert "wr0ng" not in repr(sent)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("listening", [closed_port, silent_port], ids=["refused", "silent"])
def test_a_proxy_that_cannot_be_reached(listening: Any, scheme: str) -> None:
    """C43."""
    with listening() as port:
        proxy = f"http://ada:s3cret@127.0.0.1:{port}"
        sent = send(f"{scheme}://a.example/", PROXY=proxy, CONNECT_TIMEOUT=SHORT)

    assert sent.error == "proxy_error"
    assert sent.outcome.is_ours
    assert "s3cret" not in repr(sent)


@pytest.mark.security
def test_with_a_proxy_nothing_else_is_looked_up() -> None:
    proxy = Proxy.parse("http://ada:s3cret@proxy.internal:3128")
    resolver = ProxyResolver(proxy, home)

    assert "s3cret" not in repr(proxy)

    assert asyncio.run(resolver.resolve("proxy.internal", 3128))
    for host, port in (("a.example", 3128), ("proxy.internal", 80)):
        with pytest.raises(DestinationRefusedError, match="is not the proxy"):
            asyncio.run(resolver.resolve(host, port))


async def unknown(*_: object) -> list[str]:
    raise OSError


@pytest.mark.parametrize("ask", [unknown, silent])
def test_a_proxy_whose_name_leads_nowhere(ask: Any) -> None:
    """C43."""
    proxy = "http://proxy.internal:3128"
    sent = send("https://a.example/", ask=ask, PROXY=proxy, CONNECT_TIMEOUT=SHORT)

    assert sent.error == "proxy_error"


def saying(status: bytes) -> Any:
    def script(client: Client) -> None:
        client.read()
        client.send(status)
        client._server.closing.wait(0.05)

    return script


@pytest.mark.parametrize(
    ("answer", "error", "is_ours"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n", "proxied_connection", False),
        (b"HTTP/1.1 504 Timeout\r\ncontent-length: 0\r\n\r\n", "proxied_connection", False),
        (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", "proxy_denied", False),
        (b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", "proxy_error", True),
        (b"garbage\r\n\r\n", "proxy_error", True),
        (b"", "proxy_error", True),
    ],
)
def test_what_a_proxy_may_say_to_a_tunnel(answer: bytes, error: str, *, is_ours: bool) -> None:
    """C43."""
    with RawServer(saying(answer)) as proxy:
        sent = send("https://a.example/", PROXY=proxy.url)

    assert sent.error == error
    assert sent.outcome.is_ours is is_ours


def test_a_tunnel_that_does_not_open_in_time() -> None:
    """C43: the proxy is there, the receiver is not."""
    with RawServer(Client.wait) as proxy:
        sent = send("https://a.example/", PROXY=proxy.url, CONNECT_TIMEOUT=SHORT)

    assert sent.error == "timeout_connect"


def test_a_proxy_whose_certificate_is_not_trusted(authority: Authority) -> None:
    """C43."""
    with ProxyServer(tls=authority.context("127.0.0.1")) as proxy:
        sent = send("https://a.example/", PROXY=proxy.url)

    assert sent.error == "proxy_error"


def test_a_receiver_behind_a_proxy_has_the_errors_of_any_other(authority: Authority) -> None:
    """C32, C43."""
    with (
        RawServer(always_ok, tls=authority.context("b.example")) as wrong,
        RawServer(Client.read) as leaving,
        RawServer(plain) as plainly,
        ProxyServer() as proxy,
    ):
        sent = send_all(
            [
                f"https://a.example:{wrong.port}/",
                f"http://a.example:{leaving.port}/",
                f"https://a.example:{plainly.port}/",
            ],
            PROXY=proxy.url,
            CA_BUNDLE=authority.bundle,
        )

    assert [each.error for each in sent] == ["tls_wrong_name", "connection_reset", "tls_error"]


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, authority: Authority
) -> ProxyServer:
    """Everything that an HTTP client might read of the environment."""
    proxy = ProxyServer()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv(name.lower(), proxy.url)
    netrc = tmp_path / ".netrc"
    netrc.write_text("default login ada password s3cret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, authority.bundle)
    return proxy


@pytest.mark.security
def test_the_environment_names_no_proxy_and_no_password(environment: ProxyServer) -> None:
    """C44."""
    with environment as proxy, RawServer(always_ok) as server:
        sent = send(server.url)

    assert sent.answer.status == 200
    assert proxy.connections == 0
    assert b"authorization" not in server.requests[0].lower()


@pytest.mark.security
def test_the_environment_makes_no_authority_trusted(
    environment: ProxyServer, authority: Authority
) -> None:
    """C44."""
    with environment, RawServer(always_ok, tls=authority.context("a.example")) as server:
        url = f"https://a.example:{server.port}/"
        assert send(url).error == "tls_certificate"
        assert send(url, CA_BUNDLE=authority.bundle).answer.status == 200


@pytest.mark.parametrize("text", [None, "", "no certificate"])
def test_a_bundle_that_is_none(text: str | None, tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    if text is not None:
        bundle.write_text(text)

    with pytest.raises(ConfigurationError, match=r"CA_BUNDLE'\] is '.*ca.pem', which is of no use"):
        tls_context(str(bundle))


def test_a_bundle_that_has_changed_is_read_anew(tmp_path: Path, authority: Authority) -> None:
    bundle = tmp_path / "ca.pem"
    authority.ca.cert_pem.write_to_path(str(bundle))
    first = tls_context(str(bundle))
    assert tls_context(str(bundle)) is first

    os.utime(bundle, (1, 1))

    assert tls_context(str(bundle)) is not first


def test_without_any_authority_nobody_is_trusted(
    monkeypatch: pytest.MonkeyPatch, authority: Authority
) -> None:
    class Nowhere:
        openssl_cafile = openssl_capath = "/there/is/no/such/place"

    monkeypatch.setattr("ssl.get_default_verify_paths", Nowhere)
    trust._system.cache_clear()
    try:
        assert not has_authorities()
        with RawServer(always_ok, tls=authority.context("a.example")) as server:
            assert send(f"https://a.example:{server.port}/").error == "tls_certificate"
    finally:
        trust._system.cache_clear()
