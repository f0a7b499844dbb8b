"""Send requests through the real transport, with short times."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from drf_webhooks.conf import Config
from drf_webhooks.delivery.transport import AiohttpTransport, Answer, Failure

BODY = b'{"type":"core.deposit.created"}'
#: For receivers that do not answer.
SHORT = timedelta(seconds=0.8)
#: For those that do, on a machine that is busy with other tests.
LONG = timedelta(seconds=6)


@dataclass(frozen=True)
class Sent:
    """What came of a request, and how long it took in comparison to a sleep of that long."""

    outcome: Answer | Failure
    seconds: float
    total_seconds: float

    @property
    def error(self) -> str:
        assert isinstance(self.outcome, Failure), self.outcome
        return self.outcome.error

    @property
    def answer(self) -> Answer:
        assert isinstance(self.outcome, Answer), self.outcome
        return self.outcome


def make_config(**settings: Any) -> Config:
    given = {
        "ALLOWED_NETWORKS": ("127.0.0.0/8",),
        "HTTPS_ONLY": False,
        "REQUEST_TIMEOUT": LONG,
        "CONNECT_TIMEOUT": LONG,
        **settings,
    }
    return Config(**given)


async def home(_: str, __: int) -> list[str]:
    """Find every name at home."""
    return ["127.0.0.1"]


def send(url: str, **more: Any) -> Sent:
    """Send one request."""
    return send_all([url], **more)[0]


def send_all(
    urls: list[str],
    *,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
    body: bytes = BODY,
    ask: Any = home,
    pause: float = 0,
    **settings: Any,
) -> list[Sent]:
    """Send requests one after the other through one transport."""
    read = make_config(**settings)
    total = read.REQUEST_TIMEOUT.total_seconds()

    async def all_of_them() -> list[Sent]:
        found = []
        async with AiohttpTransport(read, ask=ask) as transport:
            for number, url in enumerate(urls):
                if number:
                    await asyncio.sleep(pause)
                # On a busy machine a sleep takes longer too.
                control = asyncio.create_task(_slept(total))
                began = time.monotonic()
                outcome = await transport.send(url, method=method, headers=headers or {}, body=body)
                seconds = time.monotonic() - began
                if seconds < total / 2:
                    control.cancel()
                    found.append(Sent(outcome, seconds, total))
                else:
                    found.append(Sent(outcome, seconds, await control))
        return found

    return asyncio.run(all_of_them())


async def _slept(seconds: float) -> float:
    began = time.monotonic()
    await asyncio.sleep(seconds)
    return time.monotonic() - began
