"""Names that lead elsewhere a moment later, told by a real name server on loopback."""

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from drf_webhooks.delivery.transport import AiohttpTransport, Answer, Failure
from tests.attacks import Attacks
from tests.connects import Tried, connects
from tests.delivery.names import NameServer
from tests.delivery.sending import BODY, SHORT, make_config
from tests.delivery.servers import OK, Authority, Client, RawServer, always_ok

pytestmark = pytest.mark.security

METADATA = "169.254.169.254"
NO_TIME = timedelta(0)


def send(
    *urls: str, names: NameServer, times: int = 1, **more: Any
) -> tuple[list[Answer | Failure], list[Tried]]:
    """Send one request after the other, through one transport."""
    lasts = {"answer_lasts": more.pop("answer_lasts")} if "answer_lasts" in more else {}
    config = make_config(**{"HTTPS_ONLY": False, "ALLOWED_NETWORKS": ("127.0.0.1/32",), **more})

    async def main() -> list[Answer | Failure]:
        async with AiohttpTransport(config, ask=names.look_up, **lasts) as transport:
            return [
                await transport.send(url, method="POST", headers={}, body=BODY)
                for url in urls * times
            ]

    with connects() as tried:
        return asyncio.run(main()), tried


def flips(*answers: list[str]) -> Callable[[int], list[str]]:
    """Answer with one after the other, and with the last from then on."""
    return lambda number: answers[min(number, len(answers) - 1)]


def test_c45_a_name_is_looked_up_once_and_connected_to_where_it_led_then(
    authority: Authority,
) -> None:
    """The name stays in TLS and in ``Host``: the number is only where the packets go."""
    context = authority.context("rebind.example.com")
    with (
        RawServer(always_ok, tls=context) as receiver,
        NameServer(flips(["127.0.0.1"], [METADATA])) as names,
    ):
        url = f"https://rebind.example.com:{receiver.port}/"
        (outcome,), tried = send(url, names=names, CA_BUNDLE=authority.bundle)
        (request,) = receiver.requests

    assert isinstance(outcome, Answer)
    assert names.asked == {"rebind.example.com": 1}
    assert tried == [("127.0.0.1", receiver.port)]
    assert f"Host: rebind.example.com:{receiver.port}".encode() in request


@pytest.mark.parametrize(
    "answer",
    [
        [METADATA],
        ["10.0.0.1"],
        ["127.0.0.1", METADATA],
        ["127.0.0.1", "fe80::1"],
        ["::ffff:10.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["::1"],
    ],
    ids=",".join,
)
def test_c45_a_name_that_flips_is_refused_at_the_next_attempt(answer: list[str]) -> None:
    with RawServer(always_ok) as receiver, NameServer(flips(["127.0.0.1"], answer)) as names:
        url = f"http://rebind.example.com:{receiver.port}/"
        outcomes, tried = send(url, names=names, times=3, answer_lasts=NO_TIME)

    assert isinstance(outcomes[0], Answer)
    assert [getattr(each, "error", None) for each in outcomes[1:]] == ["destination_refused"] * 2
    assert names.asked == {"rebind.example.com": 3}
    assert tried == [("127.0.0.1", receiver.port)]


def test_c45_each_of_many_flips_is_seen(attacks: Attacks) -> None:
    with (
        RawServer(always_ok) as receiver,
        NameServer(lambda number: [METADATA if number % 2 else "127.0.0.1"]) as names,
    ):
        url = f"http://rebind.example.com:{receiver.port}/"
        outcomes, tried = send(url, names=names, times=40, answer_lasts=NO_TIME)

    for number, outcome in enumerate(outcomes):
        attacks.judge(f"flip {number}", is_held=isinstance(outcome, Failure) is bool(number % 2))
    assert set(tried) == {("127.0.0.1", receiver.port)}


def test_a_connection_is_used_again_without_a_look_up_while_the_answer_is_young() -> None:
    with RawServer(always_ok) as receiver, NameServer(flips(["127.0.0.1"])) as names:
        outcomes, _ = send(f"http://a.example.com:{receiver.port}/", names=names, times=3)

    assert all(isinstance(each, Answer) for each in outcomes)
    assert (receiver.connections, names.asked["a.example.com"]) == (1, 1)


def test_an_answer_that_is_old_is_asked_for_again() -> None:
    with RawServer(always_ok) as receiver, NameServer(flips(["127.0.0.1"])) as names:
        urls = [f"http://{name}.example.com:{receiver.port}/" for name in "aba"]
        outcomes, _ = send(*urls, names=names, answer_lasts=NO_TIME)

    assert all(isinstance(each, Answer) for each in outcomes)
    assert receiver.connections == 3
    assert names.asked == {"a.example.com": 2, "b.example.com": 1}


def test_a_connection_is_not_used_again_once_its_name_is_known_to_lead_elsewhere() -> None:
    """Two requests at once need two look-ups; the second one's answer counts for both."""
    both = threading.Event()

    def script(client: Client) -> None:
        client.read()
        assert both.wait(5)
        client.send(OK)
        always_ok(client)

    with (
        RawServer(script) as first,
        # The same port of another address.
        RawServer(script, address="127.0.0.2", port=first.port) as second,
        NameServer(flips(["127.0.0.1"], ["127.0.0.2"])) as names,
    ):

        async def main() -> list[Answer | Failure]:
            config = make_config(HTTPS_ONLY=False)
            url = f"http://a.example.com:{first.port}/"
            async with AiohttpTransport(config, ask=names.look_up) as transport:

                async def post() -> Answer | Failure:
                    return await transport.send(url, method="POST", headers={}, body=BODY)

                one = asyncio.create_task(post())
                await asyncio.to_thread(first.arrived.wait, 5)
                other = asyncio.create_task(post())
                await asyncio.to_thread(second.arrived.wait, 5)
                both.set()
                return [*await asyncio.gather(one, other), *[await post() for _ in range(4)]]

        outcomes = asyncio.run(main())

        assert all(isinstance(each, Answer) for each in outcomes)
        assert len(first.requests) == 1
        assert len(second.requests) == 5
        assert names.asked["a.example.com"] == 2


@pytest.mark.parametrize("is_tls", [False, True], ids=["http", "https"])
def test_the_other_end_of_a_connection_is_looked_at(authority: Authority, *, is_tls: bool) -> None:
    """The system connects 0.0.0.0 to loopback: what was checked is not what is there."""
    context = authority.context("a.example.com") if is_tls else None
    with RawServer(always_ok, tls=context) as receiver, NameServer(flips(["0.0.0.0"])) as names:  # noqa: S104  # the trick
        url = f"http{'s' if is_tls else ''}://a.example.com:{receiver.port}/"
        networks = ("0.0.0.0/32",)
        (outcome,), tried = send(
            url, names=names, ALLOWED_NETWORKS=networks, CA_BUNDLE=authority.bundle
        )

    assert isinstance(outcome, Failure)
    assert outcome.error == "destination_refused"
    assert "leads to 127.0.0.1" in outcome.detail
    assert receiver.requests == []
    assert tried == [("0.0.0.0", receiver.port)]  # noqa: S104  # the trick


def test_a_name_server_that_is_silent_is_not_waited_for_long() -> None:
    with NameServer(lambda _: None) as names:
        (outcome,), tried = send("https://slow.example.com/", names=names, CONNECT_TIMEOUT=SHORT)

    assert isinstance(outcome, Failure)
    assert outcome.error == "timeout_dns"
    assert tried == []
