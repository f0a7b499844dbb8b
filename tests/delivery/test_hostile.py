"""A receiver that means harm: its answers cost bounded time and memory, and break nothing.

What receivers do by accident is in ``test_transport.py``; all of it is counted as attacks too.
"""

import asyncio
import gzip
import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drf_webhooks.delivery.connections import Connector, Found, Trip, current
from drf_webhooks.delivery.destinations import GuardedResolver
from drf_webhooks.delivery.failures import ERRORS
from drf_webhooks.delivery.retries import retry_after
from drf_webhooks.delivery.transport import Failure
from drf_webhooks.destination_rules import Rules
from drf_webhooks.models import Attempt, Delivery, Endpoint
from drf_webhooks.testing import deliver_now
from tests.app.models import User
from tests.attacks import Attacks
from tests.delivery.sending import make_config, send, send_all
from tests.delivery.servers import OK, Client, RawServer, answers
from tests.factories import make_deposit

pytestmark = pytest.mark.security

ROOT = Path(__file__).parent.parent.parent
STATUS = b"HTTP/1.1 200 OK\r\n"
GIB = 2**30
MIB = 2**20


def after(*parts: bytes) -> Callable[[Client], None]:
    """Send these once a request has come, and then reset the connection."""

    def script(client: Client) -> None:
        client.read()
        for part in parts:
            client.send(part)
        if parts:
            # A reset overtakes what was sent.
            client._server.closing.wait(0.1)
        client.reset()

    return script


def at_once(client: Client) -> None:
    client.reset()


def in_the_request(client: Client) -> None:
    client.connection.recv(10)
    client.reset()


@pytest.mark.parametrize(
    ("script", "status"),
    [
        pytest.param(at_once, None, id="once-connected"),
        pytest.param(in_the_request, None, id="in-the-request"),
        pytest.param(after(), None, id="after-the-request"),
        pytest.param(after(b"HTTP/1."), None, id="in-the-status"),
        pytest.param(after(STATUS + b"x-a: b"), None, id="in-the-headers"),
        pytest.param(after(b"HTTP/1.1 100 Continue\r\n\r\n"), None, id="after-an-interim-answer"),
        pytest.param(after(STATUS + b"content-length: 9\r\n\r\n"), 200, id="before-the-body"),
        pytest.param(after(STATUS + b"content-length: 9\r\n\r\nab"), 200, id="in-the-body"),
        pytest.param(
            after(STATUS + b"transfer-encoding: chunked\r\n\r\nffff\r\nab"), 200, id="in-a-chunk"
        ),
        pytest.param(after(OK), 200, id="after-the-answer"),
    ],
)
def test_a_reset_at_each_phase(script: Callable[[Client], None], status: int | None) -> None:
    with RawServer(script) as server:
        sent = send(server.url)

    if status is None:
        assert sent.error == "connection_reset"
    else:
        assert sent.answer.status == status
    assert sent.seconds < sent.total_seconds


def test_a_connection_that_is_reset_before_it_is_looked_at() -> None:
    """The system does not know its other end any more, so nothing is sent."""

    async def main(port: int) -> None:
        loop = asyncio.get_running_loop()
        connection = socket.create_connection(("127.0.0.1", port))
        # Readable is what a reset makes it.
        assert select.select([connection], [], [], 5)[0]
        connector = Connector(
            GuardedResolver(Rules.of(make_config())),
            connect_timeout=timedelta(seconds=1),
            answer_lasts=timedelta(seconds=1),
        )
        token = current.set(Trip(loop.time()))
        _, protocol = await loop.create_connection(connector._factory, sock=connection)
        trip = Trip(loop.time(), found=Found(("a.example", port), frozenset(), loop.time()))
        try:
            with pytest.raises(ConnectionResetError):
                connector._identify(protocol, trip)
        finally:
            current.reset(token)
            protocol.close()
            await connector.close()

    with RawServer(at_once) as server:
        asyncio.run(main(server.port))


def test_a_reset_in_the_handshake() -> None:
    def script(client: Client) -> None:
        client.connection.recv(10)
        client.reset()

    with RawServer(script) as server:
        sent = send(server.url.replace("http://", "https://"))

    assert sent.error in {"connection_reset", "tls_error"}


@pytest.mark.parametrize(
    ("head", "body", "kept", "end"),
    [
        pytest.param(b"content-length: 9", b"ab", b"ab", "broken", id="more-is-promised"),
        pytest.param(b"content-length: 1", b"ab", b"a", "whole", id="more-is-sent"),
        pytest.param(b"content-length: 0", b"ab", b"", "whole", id="none-is-promised"),
    ],
)
def test_a_length_that_is_wrong(head: bytes, body: bytes, kept: bytes, end: str) -> None:
    def script(client: Client) -> None:
        client.read()
        client.send(STATUS + head + b"\r\n\r\n" + body)

    with RawServer(script) as server:
        sent = send_all([server.url] * 2)

    # What was too much is not taken for the next answer.
    assert [each.answer.status for each in sent] == [200, 200]
    assert server.connections == 2
    assert (sent[0].answer.body, sent[0].answer.end) == (kept, end)


def test_a_body_of_tiny_chunks_ends_early() -> None:
    """Each chunk becomes objects: what counts is what is read, not what is in it."""
    head = STATUS + b"transfer-encoding: chunked\r\n\r\n"
    with RawServer(answers(head, b"1\r\nx\r\n" * 100_000)) as server:
        sent = send(server.url, RESPONSE_LOG_BYTES=100_000)

    assert (sent.answer.status, sent.answer.end) == (200, "cut")
    assert 1000 < len(sent.answer.body) < 30_000


def test_much_after_an_answer_is_no_part_of_it() -> None:
    with RawServer(answers(OK + b"x" * 200_000)) as server:
        sent = send_all([server.url] * 2)

    assert [(each.answer.body, each.answer.end) for each in sent] == [(b"ok", "whole")] * 2
    assert server.connections == 2


@pytest.mark.parametrize(
    "head",
    [
        b"content-length: 2\r\ncontent-length: 3",
        b"content-length: 2, 3",
        b"content-length: 2\r\ntransfer-encoding: chunked",
        b"transfer-encoding: chunked, chunked",
        b"transfer-encoding: gzip",
        b"content-length: 99999999999999999999999999",
        b"content-length: +2",
        b"content-length: 0x2",
    ],
    ids=bytes.decode,
)
def test_lengths_that_contradict_each_other(head: bytes) -> None:
    """Smuggling: an answer that two programs would end at two places ends the connection."""
    with RawServer(answers(STATUS + head + b"\r\n\r\nok")) as server:
        first, _ = send_all([server.url] * 2, REQUEST_TIMEOUT=timedelta(seconds=1))

    assert server.connections == 2
    if isinstance(first.outcome, Failure):
        assert first.error in {"invalid_response", "connection_reset"}
    else:
        assert first.answer.end == "broken"


FUZZ = st.one_of(
    st.binary(max_size=200),
    st.lists(
        st.sampled_from(
            [
                *(b"HTTP/1.1 200 OK", b"HTTP/1.1 ", b"HTTP/9.9 200", b"100 Continue", b"\r\n"),
                *(b"\n", b"\0", b": ", b"\xff\xfe", b"content-length: ", b"5", b"-1", b" ", b"\t"),
                *(b"transfer-encoding: chunked", b"0\r\n\r\n", b"ffffffffffffffffff\r\n", b"x"),
                *(b"content-encoding: gzip", b"retry-after: ", b"location: //", b"\r\n\r\n"),
            ]
        ),
        max_size=14,
    ).map(b"".join),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(answer=FUZZ)
def test_no_answer_makes_a_request_raise(attacks: Attacks, answer: bytes) -> None:
    def script(client: Client) -> None:
        client.read()
        client.send(answer)

    with RawServer(script) as server:
        sent = send(server.url)

    if isinstance(sent.outcome, Failure):
        assert sent.error in ERRORS
        assert not sent.outcome.is_ours
        sent.outcome.detail.encode()
    else:
        assert len(sent.answer.body) <= 4096
        assert all(len(text) <= 200 for pair in sent.answer.headers for text in pair)
        "".join(text for pair in sent.answer.headers for text in pair).encode()
    attacks.held("an answer")


@pytest.mark.parametrize(
    "asked",
    [
        "9" * 4000,
        "999999999999999999999",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "-" + "9" * 50,
        "1e99",
        "٩" * 50,
        "Mon, 99 Foo 2026 99:99:99 GMT",
    ],
    ids=lambda text: text[:16],
)
def test_c40_nobody_puts_off_for_longer_than_the_limit(asked: str) -> None:
    limit = timedelta(days=1)

    wait = retry_after(asked, now=datetime.now(tz=UTC), longest=limit)

    assert wait is None or timedelta(0) <= wait <= limit


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(
            b"HTTP/1.1 503 Busy\r\nretry-after: " + b"9" * 4000 + b"\r\ncontent-length: 0\r\n\r\n",
            id="C40-huge-retry-after",
        ),
        pytest.param(
            b"HTTP/1.1 500 \0\xff\r\nx: \xff\x80\r\ncontent-length: 4\r\n\r\n\xff\0\xfe<",
            id="bytes-that-no-text-has",
        ),
        pytest.param(
            b"HTTP/1.1 500 No\r\n" + b"x: " + b"y" * 300 + b"\r\n" * 1 + b"a: b\r\n" * 90 + b"\r\n",
            id="many-headers",
        ),
        pytest.param(b"HTTP/1.1 500 No\r\n\r\n" + b"[" * 4096, id="deep-json"),
    ],
)
def test_what_is_kept_of_an_answer_fits_into_every_database(answer: bytes) -> None:
    def script(client: Client) -> None:
        client.read()
        client.send(answer)

    with RawServer(script) as server:
        Endpoint.objects.create(url=server.url, event_types=["core.deposit.*"])
        make_deposit()
        assert deliver_now() == 1

    attempt = Attempt.objects.get()
    assert Delivery.objects.get().state == "waiting"
    latest = timezone.now() + timedelta(days=1, hours=6)
    assert Delivery.objects.filter(due_at__lte=latest).exists()
    assert len(bytes(attempt.response_body)) <= 4096
    assert len(attempt.response_headers) <= 41
    assert page_of(attempt).status_code == 200


def page_of(attempt: Attempt) -> Any:
    browser = Browser()
    browser.force_login(User.objects.create_superuser("admin"))
    return browser.get(reverse("admin:drf_webhooks_attempt_change", args=[attempt.pk]))


@pytest.mark.django_db
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<script>alert(1)</script>", id="a-script"),
        pytest.param(b'{"a": "<script>alert(1)</script>"}', id="a-script-in-json"),
        pytest.param(b'{"a": "\\u003cscript>alert(1)"}', id="a-script-written-otherwise"),
        pytest.param(b"+ADw-script+AD4-", id="utf-7"),
        pytest.param("<script>".encode("utf-16"), id="utf-16"),
        pytest.param(b"[" * 4096, id="deep-json"),
        pytest.param(b'{"a":' * 2000, id="deep-objects"),
        pytest.param(b'"\\ud800"', id="half-a-character"),
        pytest.param(b"9" * 4096, id="a-long-number"),
        pytest.param(b"\0\xff\x1b[31m\r\n", id="control-characters"),
        pytest.param(b"[1e999, NaN]", id="numbers-that-json-lacks"),
    ],
)
def test_what_is_kept_of_an_answer_is_shown_escaped(body: bytes) -> None:
    Endpoint.objects.create(url="https://a.example/", event_types=["core.deposit.*"])
    make_deposit()
    attempt = Attempt.objects.create(
        delivery=Delivery.objects.get(),
        number=1,
        started_at=timezone.now(),
        duration=timedelta(seconds=1),
        url="https://a.example/",
        status=500,
        detail="<script>alert(2)</script>",
        response_headers=[["<script>alert(3)", "</pre><script>alert(4)</script>"]],
        response_body=body,
    )

    answer = page_of(attempt)

    assert answer.status_code == 200
    assert "charset=utf-8" in answer.headers["content-type"]
    assert b"<script>alert" not in answer.content
    assert b"&lt;script&gt;alert(2)" in answer.content
    assert b"&lt;script&gt;alert(4)" in answer.content


#: Runs in a process of its own: sends to a URL some times, then once more, and prints by how
#: much the most memory that it ever had has grown with that, in bytes.
MEASURE = """
import asyncio, pathlib, sys
from datetime import timedelta
import django
django.setup()
from drf_webhooks.conf import Config
from drf_webhooks.delivery.transport import AiohttpTransport

def most():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024

async def main():
    config = Config(ALLOWED_NETWORKS=("127.0.0.0/8",), REQUEST_TIMEOUT=timedelta(seconds=15))
    async with AiohttpTransport(config) as transport:
        async def post(path):
            return await transport.send(
                sys.argv[1] + path, method="POST", headers={}, body=b"{}"
            )
        for _ in range(5):
            await post("small")
        # From here on the peak is counted anew.
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        before = most()
        outcome = await post("huge")
        print(most() - before, type(outcome).__name__, getattr(outcome, "status", None))

asyncio.run(main())
"""


def huge(head: bytes, block: bytes) -> Callable[[Client], None]:
    """Answer with 1 GiB to who asks for it, and to others with little of the same kind."""

    def script(client: Client) -> None:
        while True:
            is_huge = b"/huge" in client.read().partition(b"\r\n")[0]
            if not is_huge:
                client.send(OK)
                continue
            client.send(head)
            for _ in range(GIB // len(block)):
                client.send(block)

    return script


ZEROS = gzip.compress(b"\0" * 10 * MIB)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("head", "block"),
    [
        pytest.param(STATUS + b"\r\n", b"x" * 65536, id="endless"),
        pytest.param(
            STATUS + b"content-length: %d\r\n\r\n" % GIB, b"x" * 65536, id="a-length-of-1-gib"
        ),
        pytest.param(
            STATUS + b"transfer-encoding: chunked\r\n\r\n",
            b"10000\r\n" + b"x" * 65536 + b"\r\n",
            id="chunks",
        ),
        pytest.param(
            STATUS + b"transfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 8000, id="tiny-chunks"
        ),
        pytest.param(STATUS + b"content-encoding: gzip\r\n\r\n", ZEROS, id="bombs"),
        pytest.param(STATUS, b"x-a: b\r\n" * 8000, id="headers"),
        pytest.param(STATUS + b"x-a: ", b"y" * 65536, id="one-header"),
        pytest.param(b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 2000, id="interim-answers"),
    ],
)
def test_c35_a_gibibyte_costs_less_than_two_mebibytes(head: bytes, block: bytes) -> None:
    with RawServer(huge(head, block)) as server:
        measured = subprocess.run(  # noqa: S603  # our own program
            [sys.executable, "-c", MEASURE, server.url],
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": "src:."},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.split()

    grown, kind, status = int(measured[0]), measured[1], measured[2]
    assert (kind, status) in {("Answer", "200"), ("Failure", "None")}
    assert grown < 2 * MIB
