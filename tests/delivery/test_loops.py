"""The worker's event loop."""

import asyncio
from types import SimpleNamespace

import pytest

from drf_webhooks.delivery.loops import loop_factory


def test_without_uvloop_the_loop_is_that_of_asyncio() -> None:
    assert loop_factory(lambda _: None) is None


def test_uvloop_is_used_if_it_is_installed() -> None:
    pytest.importorskip("uvloop")

    async def name() -> str:
        return type(asyncio.get_running_loop()).__module__

    with asyncio.Runner(loop_factory=loop_factory(lambda _: SimpleNamespace())) as runner:
        assert runner.run(name()) == "uvloop"
