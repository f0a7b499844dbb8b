"""Each way to get no answer has a word of its own; the ids are those of the list of faults."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from drf_webhooks.delivery.connections import Phase, Trip
from drf_webhooks.delivery.errors import failure
from drf_webhooks.delivery.failures import ERRORS, Failure
from tests.delivery.sending import SHORT, send
from tests.delivery.servers import (
    Authority,
    Client,
    RawServer,
    always_ok,
    answers,
    server_context,
    silent_port,
)

LONG_AGO, LATELY = (datetime.now(tz=UTC) - timedelta(days=days) for days in (90, 1))
SOON = datetime.now(tz=UTC) + timedelta(days=1)


async def unknown(*_: object) -> list[str]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


async def empty(*_: object) -> list[str]:
    return []


async def silent(*_: object) -> list[str]:
    await asyncio.sleep(60)
    raise AssertionError


@contextmanager
def closed_port() -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]


@pytest.mark.parametrize("ask", [unknown, empty], ids=["C32-no-such-name", "C32-no-address"])
def test_a_name_that_leads_nowhere(ask: Any) -> None:
    sent = send("http://a.example/", ask=ask)

    assert sent.error == "dns_error"
    assert sent.outcome.timing.connect is None


def test_the_system_does_not_know_a_name_that_cannot_exist() -> None:
    """C32, asking the system's own resolver, in a thread of the transport."""
    sent = send("http://drf-webhooks.invalid/", ask=None)

    assert sent.error in {"dns_error", "timeout_dns"}


@pytest.mark.parametrize(
    ("listening", "error"),
    [
        pytest.param(closed_port, "connection_refused", id="C32-refused"),
        pytest.param(silent_port, "timeout_connect", id="C32-no-connection"),
    ],
)
def test_a_port_that_is_not_served(
    listening: Callable[[], AbstractContextManager[int]], error: str
) -> None:
    with listening() as port:
        sent = send(f"http://127.0.0.1:{port}/", CONNECT_TIMEOUT=SHORT)

    assert sent.error == error
    assert sent.seconds < sent.total_seconds


def test_a_look_up_that_does_not_end() -> None:
    """C32, C33."""
    sent = send("http://a.example/", ask=silent, CONNECT_TIMEOUT=SHORT)

    assert sent.error == "timeout_dns"
    assert sent.seconds < sent.total_seconds


def resetting(client: Client) -> None:
    client.read()
    client.reset()


def leaving(client: Client) -> None:
    client.read()


def leaving_early(client: Client) -> None:
    client.connection.close()


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(resetting, id="C32-reset"),
        pytest.param(leaving, id="C32-closed-without-an-answer"),
        pytest.param(leaving_early, id="C32-closed-at-once"),
        pytest.param(answers(b"HTTP/1.1 2"), id="C32-closed-in-the-status-line"),
    ],
)
def test_a_connection_that_is_cut_is_not_tried_again(script: Callable[[Client], None]) -> None:
    def cut(client: Client) -> None:
        script(client)
        client.connection.close()

    def script_and_end(client: Client) -> None:
        client.wait = lambda: None  # type: ignore[method-assign]  # ends instead
        cut(client)

    with RawServer(script_and_end) as server:
        sent = send(server.url)

    assert sent.error == "connection_reset"
    assert server.connections == 1


@pytest.mark.parametrize(
    ("names", "more", "error"),
    [
        pytest.param(
            ["a.example"],
            {"not_before": LONG_AGO, "not_after": LATELY},
            "tls_expired",
            id="C32-expired",
        ),
        pytest.param(
            ["a.example"],
            {"not_before": SOON, "not_after": SOON + timedelta(days=1)},
            "tls_not_yet_valid",
            id="C32-not-yet-valid",
        ),
        pytest.param(["b.example"], {}, "tls_wrong_name", id="C32-wrong-name"),
        pytest.param(["10.1.1.1"], {}, "tls_wrong_name", id="C32-an-address-for-a-name"),
    ],
)
def test_a_certificate_that_does_not_hold(
    names: list[str], more: dict[str, Any], error: str, authority: Authority
) -> None:
    with RawServer(always_ok, tls=authority.context(*names, **more)) as server:
        sent = send(f"https://a.example:{server.port}/", CA_BUNDLE=authority.bundle)

    assert sent.error == error
    assert server.requests == []
    assert not sent.outcome.is_ours


def test_a_certificate_for_another_address(authority: Authority) -> None:
    """C32: the URL has a number for a host."""
    with RawServer(always_ok, tls=authority.context("127.0.0.2")) as server:
        assert send(server.url, CA_BUNDLE=authority.bundle).error == "tls_wrong_name"


def test_a_certificate_that_nobody_else_has_signed(authority: Authority) -> None:
    """C32."""
    alone = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with authority.ca.cert_pem.tempfile() as file, authority.ca.private_key_pem.tempfile() as key:
        alone.load_cert_chain(file, key)
    with RawServer(always_ok, tls=alone) as server:
        sent = send(f"https://a.example:{server.port}/")

    assert sent.error == "tls_self_signed"
    assert "self" in sent.outcome.detail


def test_a_certificate_of_an_authority_that_is_not_trusted(authority: Authority) -> None:
    """C32: by default the system's authorities are trusted, and no test's."""
    with RawServer(always_ok, tls=authority.context("a.example")) as server:
        sent = send(f"https://a.example:{server.port}/")

    assert sent.error == "tls_certificate"
    assert "local issuer" in sent.outcome.detail


def test_a_certificate_of_the_project_s_authority_is_trusted(authority: Authority) -> None:
    with RawServer(always_ok, tls=authority.context("a.example")) as server:
        sent = send(f"https://a.example:{server.port}/", CA_BUNDLE=authority.bundle)

    assert sent.answer.status == 200
    assert sent.answer.timing.connect is not None


def plain(client: Client) -> None:
    client.connection.recv(65536)
    client.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")


@pytest.mark.parametrize(
    ("script", "error"),
    [
        pytest.param(plain, "tls_error", id="C32-plain-http"),
        pytest.param(Client.wait, "timeout_tls", id="C32-no-handshake"),
        pytest.param(leaving_early, "connection_reset", id="C32-closed-in-the-handshake"),
    ],
)
def test_a_port_that_does_not_speak_tls(script: Callable[[Client], None], error: str) -> None:
    with RawServer(script) as server:
        sent = send(f"https://a.example:{server.port}/", CONNECT_TIMEOUT=SHORT)

    assert sent.error == error
    assert sent.seconds < sent.total_seconds


def test_a_server_that_wants_a_client_s_certificate(authority: Authority) -> None:
    """C32: TLS 1.3 refuses after the handshake."""
    context = server_context(authority.ca.issue_cert("a.example"))
    context.verify_mode = ssl.CERT_REQUIRED
    authority.ca.configure_trust(context)
    with RawServer(always_ok, tls=context) as server:
        sent = send(f"https://a.example:{server.port}/", CA_BUNDLE=authority.bundle)

    assert sent.error in {"tls_error", "connection_reset"}


@pytest.mark.parametrize("url", ["http://", "http://a.example:99999/", f"http://{'a' * 64}.b/"])
def test_a_url_that_is_none(url: str) -> None:
    assert send(url, ask=None).error in {"invalid_url", "destination_refused"}


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (errno.EHOSTUNREACH, "host_unreachable"),
        (errno.ENETUNREACH, "host_unreachable"),
        (errno.ETIMEDOUT, "timeout_connect"),
        (errno.EMFILE, "local_error"),
        (errno.EADDRNOTAVAIL, "local_error"),
        (errno.EPIPE, "connection_reset"),
        (errno.EIO, "connection_error"),
    ],
)
def test_what_the_system_says_has_short_names(number: int, name: str) -> None:
    found = failure(aiohttp.ClientOSError(number, "x"), Trip(0))

    assert found.error == name
    assert found.is_ours is (name == "local_error")


def test_a_detail_fits_into_every_database_and_terminal() -> None:
    found = failure(aiohttp.ClientError("\0\udcff\x1b[31m" + "x" * 900), Trip(0))

    assert found.detail.startswith("ClientError: \ufffd\ufffd\ufffd[31mx")
    assert len(found.detail) <= 500


def test_each_wait_has_its_name() -> None:
    names = {failure(TimeoutError(), Trip(0, phase)).error for phase in Phase}

    assert names == {"timeout_dns", "timeout_connect", "timeout_tls", "timeout_total"}
    assert names <= set(ERRORS)


def test_what_is_not_the_endpoint_s_fault() -> None:
    ours = {name for name in ERRORS if Failure(name, "").is_ours}

    assert ours == {
        "proxy_error",
        "proxy_auth",
        "format_error",
        "secret_error",
        "local_error",
        "internal_error",
    }
