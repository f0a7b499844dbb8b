"""A request is written as it was meant, and its connection used again only when it is free."""

import http.client
import io
import socket
import threading
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from drf_webhooks.delivery.exchange import Target
from tests.delivery.sending import send, send_all
from tests.delivery.servers import OK, Client, RawServer, always_ok

#: What a name of a header has (RFC 9110, section 5.6.2).
TOKENS = st.text("abcxyzABC019!#$%&'*+-.^_`|~", min_size=1)
#: Any text, and often what ends a line.
TEXTS = st.text(st.sampled_from("\r\n\0\x0b\x1c\x85\u2028 :a\u00e9\u4e2d")) | st.text(
    st.characters(exclude_categories=["Cs"])
)


class Way(aiohttp.ClientRequest):
    """Not asked here."""

    def __init__(self) -> None:
        """Need no loop."""


def head(headers: dict[str, str], *, url: str = "http://example.com:8080/a?b=c") -> bytes:
    return Target(URL(url), Way()).head("POST", headers, length=7)


def test_a_head_is_that_of_a_request() -> None:
    assert head({"X-A": "b", "x-c": "d\u00e9"}) == (
        b"POST /a?b=c HTTP/1.1\r\n"
        b"Host: example.com:8080\r\n"
        b"X-A: b\r\n"
        b"x-c: d\xc3\xa9\r\n"
        b"Content-Length: 7\r\n"
        b"\r\n"
    )


@pytest.mark.parametrize(
    ("url", "host", "form"),
    [
        ("https://example.com/", "example.com", "/"),
        ("https://example.com:443", "example.com", "/"),
        ("http://[2001:db8::1]:8000/x", "[2001:db8::1]:8000", "/x"),
        ("https://b\u00fccher.example/\u00e9", "xn--bcher-kva.example", "/%C3%A9"),
        ("https://example.com/a?q=1&q=2#part", "example.com", "/a?q=1&q=2"),
    ],
)
def test_a_head_names_host_and_path_as_http_has_them(url: str, host: str, form: str) -> None:
    first, second, *_ = head({}, url=url).decode("ascii").split("\r\n")

    assert (first, second) == (f"POST {form} HTTP/1.1", f"Host: {host}")


@pytest.mark.security
@given(st.dictionaries(TOKENS, TEXTS, max_size=4), st.dictionaries(TEXTS, TEXTS, max_size=2))
def test_a_header_is_one_line_or_nothing_is_sent(
    named: dict[str, str], strange: dict[str, str]
) -> None:
    """A line break would let a value say a header, or a request, of its own (CWE-93)."""
    headers = {**named, **strange}
    if any(each in text for pair in headers.items() for text in pair for each in "\r\n\0"):
        with pytest.raises(ValueError, match="line break"):
            head(headers)
        return

    written = head(headers)

    start, _, rest = written.partition(b"\r\n")
    assert start == b"POST /a?b=c HTTP/1.1"
    assert written.endswith(b"\r\n\r\n")
    assert written.count(b"\r\n\r\n") == 1
    if not strange:
        read = http.client.parse_headers(io.BytesIO(rest))
        assert read.keys() == ["Host", *named, "Content-Length"]


@pytest.mark.security
@pytest.mark.parametrize("bad", ["a\r\nX-B: c", "a\nb", "a\rb", "a\0b"])
def test_a_value_with_a_line_break_is_not_sent(bad: str) -> None:
    with RawServer(always_ok) as server:
        sent = send(server.url, headers={"x-a": bad, "x-c": "good"})

    assert server.requests == []
    assert sent.error == "invalid_url"
    assert sent.outcome.detail == "ValueError: There is a line break or a NUL in 'x-a'."


def test_a_body_of_any_size_arrives_whole() -> None:
    body = bytes(range(256)) * 4096 * 4
    with RawServer(always_ok) as server:
        for size in (0, 1, 65_536, 65_537, len(body)):
            assert send(server.url, body=body[:size]).answer.status == 200

    sizes = [len(each.partition(b"\r\n\r\n")[2]) for each in server.requests]
    assert sizes == [0, 1, 65_536, 65_537, len(body)]
    assert server.requests[-1].endswith(body)


def test_a_connection_with_a_body_that_was_not_read_is_not_used_again() -> None:
    """What is left of it would be taken for the next request."""
    late = threading.Event()

    def script(client: Client) -> None:
        if late.is_set():
            always_ok(client)
        late.set()
        client.connection.recv(1000)
        client.send(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n")
        client.hold()

    with RawServer(script) as server:
        first, second = send_all([server.url] * 2, body=b"x" * 16_000_000)

    assert first.answer.status == 413
    assert second.answer.status == 200
    assert server.connections == 2


def test_an_idle_connection_that_is_reset_is_not_written_to() -> None:
    """C42: it is known to have ended, before the next request."""
    gone = threading.Event()

    def script(client: Client) -> None:
        client.read()
        client.send(OK)
        if not gone.is_set():
            gone.set()
            client.connection.shutdown(socket.SHUT_RDWR)
            return
        always_ok(client)

    with RawServer(script) as server:
        first, second = send_all([server.url] * 2, pause=0.2)

    assert (first.answer.status, second.answer.status) == (200, 200)
    assert (server.connections, len(server.requests)) == (2, 2)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_an_answer_without_a_body_leaves_the_connection_open(status: bytes) -> None:
    def script(client: Client) -> None:
        while True:
            client.read()
            client.send(b"HTTP/1.1 " + status + b"\r\n\r\n")

    with RawServer(script) as server:
        sent = send_all([server.url] * 3, REQUEST_TIMEOUT=timedelta(seconds=5))

    assert [each.answer.body for each in sent] == [b""] * 3
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
    ],
)
def test_a_connection_that_its_receiver_ends_is_not_used_again(answer: bytes) -> None:
    def script(client: Client) -> None:
        client.read()
        client.send(answer)
        client.wait()

    with RawServer(script) as server:
        sent: list[Any] = send_all([server.url] * 2)

    assert [each.answer.body for each in sent] == [b"ok", b"ok"]
    assert server.connections == 2
