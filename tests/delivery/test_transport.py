"""What a receiver may do to a request; the numbers are those of the list of faults."""

import asyncio
import gc
import gzip
import socket
import threading
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drf_webhooks.conf import Config
from drf_webhooks.delivery.connections import HEAD_BYTES
from drf_webhooks.delivery.transport import AiohttpTransport
from drf_webhooks.delivery.worker import Worker
from drf_webhooks.models import Attempt, Delivery, Endpoint
from drf_webhooks.testing import WebhookReceiver, deliver_now
from tests.delivery.sending import BODY, SHORT, home, make_config, send, send_all
from tests.delivery.servers import OK, Client, RawServer, always_ok, answers
from tests.factories import make_deposit

STATUS = b"HTTP/1.1 200 OK\r\n"
NOW = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"


def test_a_transport_is_used_in_a_with_block() -> None:
    async def post() -> None:
        transport = AiohttpTransport(Config())
        with pytest.raises(RuntimeError, match="async with"):
            await transport.send("https://a.example/", method="POST", headers={}, body=b"")
        await transport.__aexit__(None, None, None)

    asyncio.run(post())


def silent(client: Client) -> None:
    client.read()
    client.wait()


def deaf(client: Client) -> None:
    # Nothing is read: large requests stay in the buffers.
    client._server.closing.wait(5)


def dripping_head(client: Client) -> None:
    client.read()
    client.send(STATUS)
    client.drip(b"x-slow: " + b"y" * 1000, 0.05)


def dripping_body(client: Client) -> None:
    client.read()
    client.send(STATUS + b"content-length: 1000\r\n\r\n")
    client.drip(b"z" * 1000, 0.05)


def dripping_chunks(client: Client) -> None:
    client.read()
    client.send(STATUS + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
    client.wait()


def dripping_interim(client: Client) -> None:
    client.read()
    while not client._server.closing.wait(0.05):
        client.send(b"HTTP/1.1 102 Processing\r\n\r\n")


@pytest.mark.security
@pytest.mark.parametrize(
    ("script", "status"),
    [
        pytest.param(silent, None, id="C33-silent"),
        pytest.param(deaf, None, id="C33-deaf"),
        pytest.param(dripping_head, None, id="C34-headers-drip"),
        pytest.param(dripping_interim, None, id="C37-interim-answers-drip"),
        pytest.param(dripping_body, 200, id="C34-body-drips"),
        pytest.param(dripping_chunks, 200, id="C34-chunks-stop"),
    ],
)
def test_an_attempt_ends_in_time(script: Callable[[Client], None], status: int | None) -> None:
    with RawServer(script) as server:
        body = b"x" * 10_000_000 if script is deaf else BODY
        sent = send(server.url, body=body, REQUEST_TIMEOUT=SHORT)

    assert 0.99 * SHORT.total_seconds() <= sent.seconds <= 1.1 * sent.total_seconds
    if status is None:
        assert sent.error == "timeout_total"
    else:
        # A status that has come decides.
        assert sent.answer.status == status
        assert sent.answer.end == "broken"
        assert "no answer came in time" in sent.answer.detail


@pytest.mark.security
def test_a_receiver_that_reads_nothing_holds_no_connection() -> None:
    """C33: to close it would wait until all is read that was written."""
    ended = threading.Event()

    def script(client: Client) -> None:
        if deaf_until.wait(5):
            client.wait()
        ended.set()

    deaf_until = threading.Event()

    async def main(url: str) -> bool:
        config = make_config(REQUEST_TIMEOUT=timedelta(seconds=0.3))
        async with AiohttpTransport(config) as transport:
            await transport.send(url, method="POST", headers={}, body=b"x" * 10_000_000)
            deaf_until.set()
            return await asyncio.to_thread(ended.wait, 3)

    with RawServer(script) as server:
        assert asyncio.run(main(server.url))


class Flood:
    """Sends the same bytes until the client goes, and counts them."""

    def __init__(self, head: bytes, block: bytes) -> None:
        self.sent = 0
        self.is_over = threading.Event()
        self._head, self._block = head, block

    def __call__(self, client: Client) -> None:
        client.read()
        client.send(self._head)
        try:
            while self.sent < 1 << 30:
                client.send(self._block)
                self.sent += len(self._block)
        finally:
            self.is_over.set()


@pytest.mark.security
@pytest.mark.parametrize(
    ("head", "block"),
    [
        pytest.param(STATUS + b"\r\n", b"x" * 65536, id="C35-endless-body"),
        pytest.param(
            STATUS + b"content-length: 1073741824\r\n\r\n", b"x" * 65536, id="C35-huge-length"
        ),
        pytest.param(
            STATUS + b"transfer-encoding: chunked\r\n\r\n",
            b"10000\r\n" + b"x" * 65536 + b"\r\n",
            id="C35-endless-chunks",
        ),
    ],
)
def test_no_more_of_a_body_is_taken_than_is_kept(head: bytes, block: bytes) -> None:
    flood = Flood(head, block)
    with RawServer(flood) as server:
        sent = send(server.url)
        assert flood.is_over.wait(5)

    assert sent.answer.status == 200
    assert (len(sent.answer.body), sent.answer.end) == (4096, "cut")
    # What the buffers of two sockets hold.
    assert flood.sent < 32 << 20
    assert sent.seconds < sent.total_seconds * 1.1


@pytest.mark.security
@pytest.mark.parametrize(
    ("head", "block", "error"),
    [
        pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, "header_too_large", id="C37-1xx"),
        pytest.param(STATUS, b"a: b\r\n" * 1000, "header_too_large", id="C37-many-headers"),
        pytest.param(STATUS + b"a: ", b"x" * 65536, "header_too_large", id="C37-a-long-header"),
        pytest.param(STATUS, b"x" * 65536, "header_too_large", id="C37-a-long-name"),
        pytest.param(b"HTTP/1.1 200 ", b"x" * 65536, "header_too_large", id="C37-a-long-reason"),
        pytest.param(b"", b"x" * 65536, "invalid_response", id="C37-no-http"),
    ],
)
def test_no_more_of_a_head_is_taken_than_anybody_needs(
    head: bytes, block: bytes, error: str
) -> None:
    flood = Flood(head, block)
    with RawServer(flood) as server:
        sent = send(server.url)
        assert flood.is_over.wait(5)

    assert sent.error == error
    assert flood.sent < 32 << 20
    assert sent.seconds < sent.total_seconds


@pytest.mark.security
def test_a_bomb_is_kept_as_it_came() -> None:
    """C35: nothing is inflated."""
    bomb = gzip.compress(b"\0" * 50_000_000)
    head = b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb)
    with RawServer(answers(STATUS + head, bomb)) as server:
        sent = send(server.url, RESPONSE_LOG_BYTES=100_000)

    assert sent.answer.body == bomb
    assert sent.answer.end == "whole"
    assert sent.answer.header("content-encoding") == "gzip"


def breaking(*parts: bytes, reset: bool = False) -> Callable[[Client], None]:
    def script(client: Client) -> None:
        client.read()
        for part in parts:
            client.send(part)
        if reset:
            # What was sent must have been read: a reset overtakes it.
            client._server.closing.wait(0.1)
            client.reset()

    return script


@pytest.mark.security
@pytest.mark.parametrize(
    ("script", "body"),
    [
        pytest.param(breaking(NOW + b"ab"), b"ab", id="C36-closed"),
        pytest.param(breaking(NOW), b"", id="C36-closed-before-the-body"),
        pytest.param(breaking(NOW + b"ab", reset=True), b"ab", id="C36-reset"),
        pytest.param(
            answers(STATUS + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n"),
            b"hello",
            id="C36-a-chunk-that-is-none",
        ),
        pytest.param(
            answers(STATUS + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", b"zz\r\n"),
            b"hello",
            id="C36-a-later-chunk-that-is-none",
        ),
    ],
)
def test_a_status_decides_though_the_body_breaks_off(
    script: Callable[[Client], None], body: bytes
) -> None:
    with RawServer(script) as server:
        sent = send(server.url)

    assert (sent.answer.status, sent.answer.end) == (200, "broken")
    assert sent.seconds < sent.total_seconds
    assert body.startswith(sent.answer.body)
    assert sent.answer.detail.startswith(f"The body broke off after {len(sent.answer.body)} bytes.")


@pytest.mark.security
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, id="C37-100-continue"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK, 200, id="C37-103"),
        pytest.param(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nabc",
            101,
            id="C37-101",
        ),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\nbody", 204, id="C37-204-with-a-body"),
        pytest.param(
            b"HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\nbody", 204, id="C37-204-length"
        ),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\nold", 200, id="C37-http-1.0"),
        pytest.param(b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", 200, id="C37-no-reason"),
        pytest.param(b"HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n", 999, id="C37-odd-status"),
        pytest.param(
            STATUS + b"x-a: \xff\xfe\r\nx-b: \xc3\xa9\r\ncontent-length: 0\r\n\r\n",
            200,
            id="C37-headers-that-are-not-ascii",
        ),
        pytest.param(b"hello\r\n\r\n", None, id="C37-http-0.9"),
        pytest.param(b"\0\0\0\x12\x04\0\0\0\0\0" * 9, None, id="C37-http-2"),
        pytest.param(b"220 mail.example ESMTP\r\n", None, id="C37-smtp"),
        pytest.param(b"\x15\x03\x03\x00\x02\x02\x28", None, id="C37-tls"),
        pytest.param(b"HTTP/1.1 20000 OK\r\n\r\n", None, id="C37-long-status"),
        pytest.param(STATUS + b"content-length: -1\r\n\r\n", None, id="C37-negative-length"),
        pytest.param(STATUS + b"content-length: 1e3\r\n\r\n", None, id="C37-length-is-no-number"),
        pytest.param(STATUS + b"a\0b: c\r\n\r\n", None, id="C37-nul-in-a-header"),
    ],
)
def test_strange_answers(answer: bytes, status: int | None) -> None:
    def script(client: Client) -> None:
        client.read()
        client.send(answer)
        # Old servers end a body by closing.
        client._server.closing.wait(0.05)

    with RawServer(script) as server:
        sent = send(server.url)

    assert sent.seconds < sent.total_seconds
    if status is None:
        assert sent.error in {"invalid_response", "connection_reset"}
    else:
        assert sent.answer.status == status
    if b"x-a" in answer:
        assert sent.answer.header("x-a") == "ÿþ"
        assert sent.answer.header("x-b") == "é"


@pytest.mark.security
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308], ids=lambda each: f"C38-{each}")
def test_a_redirect_is_an_answer_and_not_followed(status: int) -> None:
    with RawServer(always_ok) as second:
        answer = b"HTTP/1.1 %d Moved\r\nlocation: %s\r\ncontent-length: 0\r\n\r\n"
        with RawServer(answers(answer % (status, second.url.encode()))) as first:
            sent = send(first.url)

    assert sent.answer.status == status
    assert second.connections == 0


def test_connections_are_kept_open() -> None:
    """C42: also when there was more of a body than is kept."""

    def script(client: Client) -> None:
        while True:
            client.read()
            client.send(STATUS + b"content-length: 20000\r\n\r\n" + b"x" * 20_000)

    with RawServer(script) as server:
        first, second = send_all([server.url] * 2)

    assert server.connections == 1
    assert (first.answer.end, second.answer.end) == ("cut", "cut")
    assert first.answer.timing.connect is not None
    assert second.answer.timing.connect is None
    assert second.answer.timing.answer is not None


def test_a_closing_that_is_cancelled_closes_all_the_same() -> None:
    """A process that ends drops what it is about; what is open must not stay so."""

    async def main(url: str) -> None:
        transport = await AiohttpTransport(make_config(), ask=home).__aenter__()
        await transport.send(url, method="POST", headers={}, body=BODY)
        closing = asyncio.create_task(transport.__aexit__(None, None, None))
        await asyncio.sleep(0)
        assert closing.cancel()
        await asyncio.wait([closing])
        assert closing.cancelled()

    with RawServer(always_ok) as server, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        asyncio.run(main(server.url))
        gc.collect()

    assert [str(each.message) for each in warned] == []


def crossing(end: Callable[[Client], None], served: list[int]) -> Callable[[Client], None]:
    """Answer a first request, and end the connection when the second one comes.

    So it looks to a client whose request crosses with the end of an idle connection.
    """

    def script(client: Client) -> None:
        served.append(0)
        client.read()
        client.send(OK)
        client.read()
        end(client)

    return script


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("end", [lambda _: None, Client.reset], ids=["C42-closed", "C42-reset"])
def test_a_request_that_crosses_with_the_end_of_a_connection_is_sent_once_more(
    end: Callable[[Client], None], method: str
) -> None:
    served: list[int] = []
    with RawServer(crossing(end, served)) as server:
        first, second = send_all([server.url] * 2, method=method)

    assert first.answer.status == second.answer.status == 200
    assert len(served) == 2
    assert [each.startswith(method.encode()) for each in server.requests] == [True] * 3
    # One request, and nothing of it says that it is another one.
    assert server.requests[1].partition(b"\r\n\r\n")[2] == BODY


def test_a_connection_that_ended_long_before_is_not_used() -> None:
    """C42."""

    def script(client: Client) -> None:
        client.read()
        client.send(OK)

    with RawServer(script) as server:
        sent = send_all([server.url] * 2, pause=0.1)

    assert [each.answer.status for each in sent] == [200, 200]
    assert len(server.requests) == server.connections == 2


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda client: client.send(b"HTTP"), id="C42-an-answer-begins"),
        pytest.param(
            lambda client: client.send(b"HTTP/1.1 100 Continue\r\n\r\n"), id="C42-an-interim-answer"
        ),
        pytest.param(lambda client: client._server.closing.wait(1.1), id="C42-a-second-later"),
    ],
)
def test_what_may_have_reached_the_receiver_is_not_sent_again(
    end: Callable[[Client], None], method: str
) -> None:
    served: list[int] = []
    with RawServer(crossing(end, served)) as server:
        first, second = send_all([server.url] * 2, method=method)

    assert first.answer.status == 200
    assert second.error == "connection_reset"
    assert len(server.requests) == 2


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_first_request_is_sent_once(method: str) -> None:
    """C42: a new connection cannot cross with its own end."""

    def script(client: Client) -> None:
        client.read()

    with RawServer(script) as server:
        assert send(server.url, method=method).error == "connection_reset"

    assert len(server.requests) == 1


def test_a_request_is_sent_once_more_and_no_more() -> None:
    """C42."""

    def script(client: Client) -> None:
        client.read()
        if len(server.requests) == 1:
            client.send(OK)
            client.read()

    with RawServer(script) as server:
        first, second = send_all([server.url] * 2)

    assert first.answer.status == 200
    assert second.error == "connection_reset"
    assert len(server.requests) == 3


STRAY = b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.security
@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([OK + STRAY], id="C42-with-the-answer"),
        pytest.param([OK[:-1], OK[-1:] + STRAY], id="C42-with-the-end-of-the-body"),
        pytest.param([OK, STRAY], id="C42-later"),
        pytest.param([OK, b"junk"], id="C42-later-and-no-http"),
    ],
)
def test_bytes_that_nobody_asked_for_are_no_answer(parts: list[bytes]) -> None:
    def script(client: Client) -> None:
        client.read()
        for part in parts:
            client.send(part)
            client._server.closing.wait(0.1)
        client.wait()

    with RawServer(script) as server:
        sent = send_all([server.url] * 2, pause=0.3)

    assert [each.answer.status for each in sent] == [200, 200]
    assert server.connections == 2


@pytest.mark.django_db(transaction=True)
def test_a_reconnect_is_one_attempt() -> None:
    """C42, from the delivery on."""
    served: list[int] = []
    with RawServer(crossing(Client.reset, served)) as server:
        endpoint = Endpoint.objects.create(url=server.url, event_types=["core.deposit.*"])
        make_deposit()
        make_deposit()
        asyncio.run(Worker("default", housekeeping=int, concurrency=1).run(until_empty=True))

    assert Delivery.objects.filter(state="delivered").count() == 2
    assert Attempt.objects.filter(delivery__endpoint=endpoint).count() == 2
    assert len(server.requests) == 3
    assert len({webhook_id(each) for each in server.requests}) == 2


def webhook_id(request: bytes) -> bytes:
    return request.lower().partition(b"webhook-id: ")[2].partition(b"\r\n")[0]


@pytest.mark.django_db(transaction=True)
def test_an_attempt_says_what_a_person_wants_to_know() -> None:
    """C36, C37: in what every database can hold."""
    answer = STATUS + b"x-a: \xff\x80\r\ncontent-length: 9\r\n\r\nab"
    with RawServer(breaking(answer)) as server:
        Endpoint.objects.create(url=server.url, event_types=["core.deposit.*"])
        make_deposit()
        deliver_now()

    attempt = Attempt.objects.get()
    assert Delivery.objects.get().state == "delivered"
    assert (attempt.status, attempt.error, attempt.response_end) == (200, "", "broken")
    assert attempt.detail.startswith("The body broke off after 2 bytes. ClientPayloadError")
    assert bytes(attempt.response_body) == b"ab"
    assert ["x-a", "ÿ\x80"] in attempt.response_headers
    assert attempt.looked_up_in is None
    assert attempt.connected_in is not None
    assert attempt.answered_in is not None
    assert timedelta(0) < attempt.connected_in + attempt.answered_in <= attempt.duration


def test_the_parts_of_a_request_take_time() -> None:
    async def slow(*_: object) -> list[str]:
        await asyncio.sleep(0.05)
        return ["127.0.0.1"]

    with WebhookReceiver() as receiver:
        receiver.respond(delay=timedelta(seconds=0.1))
        sent = send(f"http://a.example:{receiver.port}/", ask=slow)

    timing = sent.answer.timing
    assert timing.look_up is not None
    assert timing.answer is not None
    assert timedelta(seconds=0.05) <= timing.look_up
    assert timedelta(seconds=0.1) <= timing.answer


@pytest.mark.security
def test_what_decides_is_found_among_many_headers() -> None:
    many = b"".join(b"x-%d: y\r\n" % number for number in range(90))
    head = b"HTTP/1.1 503 Busy\r\n" + many + b"retry-after: 7\r\ncontent-length: 0\r\n\r\n"
    with RawServer(answers(head)) as server:
        sent = send(server.url)

    assert sent.answer.header("retry-after") == "7"
    assert len(sent.answer.headers) == 41


def test_a_long_header_is_one_while_it_fits() -> None:
    value = b"x" * (HEAD_BYTES - 200)
    with RawServer(answers(STATUS + b"a: " + value + b"\r\ncontent-length: 0\r\n\r\n")) as server:
        sent = send(server.url)

    assert sent.answer.status == 200


@pytest.fixture(scope="module")
def receiver() -> Any:
    with WebhookReceiver() as running:
        yield running


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    body=st.one_of(
        st.binary(max_size=300),
        st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=5).map(
            lambda each: repr(each).encode("utf-8", "surrogatepass")
        ),
    ),
    method=st.sampled_from(["POST", "PUT", "PATCH"]),
)
def test_the_bytes_that_arrive_are_those_that_were_sent(
    receiver: WebhookReceiver, body: bytes, method: str
) -> None:
    """C47."""
    receiver.requests.clear()

    sent = send(receiver.url, body=body, method=method)

    assert sent.answer.status == 200
    (request,) = receiver.requests
    assert (request.method, request.body) == (method, body)


@pytest.mark.security
def test_a_thousand_slow_name_servers_do_not_keep_a_name_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A look-up takes a thread; six, as asyncio has on two cores, would soon be gone."""
    release = threading.Event()
    real = socket.getaddrinfo

    def ask(host: Any, *more: Any, **options: Any) -> Any:
        if str(host).startswith("slow"):
            release.wait(5)
        return real("127.0.0.1", *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", ask)

    async def main(port: int) -> Any:
        async with AiohttpTransport(make_config()) as transport:

            async def post(host: str) -> Any:
                url = f"http://{host}.example:{port}/"
                return await transport.send(url, method="POST", headers={}, body=BODY)

            slow = [asyncio.create_task(post(f"slow{number}")) for number in range(40)]
            await asyncio.sleep(0)
            found = await post("fast")
            release.set()
            await asyncio.gather(*slow)
            return found

    with WebhookReceiver() as receiver:
        assert asyncio.run(main(receiver.port)).status == 200
