"""Deadlines with one timer: who is over time, and who is cancelled by somebody else."""

import asyncio
from collections.abc import Callable

import pytest

from drf_webhooks.delivery.deadlines import Deadlines


def test_each_block_ends_in_its_time_and_others_go_on() -> None:
    ended: list[str] = []

    async def late(deadlines: Deadlines) -> None:
        with pytest.raises(TimeoutError), deadlines():
            await asyncio.Event().wait()
        ended.append("late")

    async def main() -> None:
        deadlines = Deadlines(0.02)
        with deadlines():
            await asyncio.sleep(0)
        first = asyncio.create_task(late(deadlines))
        await asyncio.sleep(0.01)
        await asyncio.gather(first, late(deadlines))

    asyncio.run(main())

    assert ended == ["late", "late"]


@pytest.mark.parametrize(
    ("does", "comes"),
    [
        pytest.param(lambda: None, asyncio.CancelledError, id="cancelled-too"),
        pytest.param(lambda: 1 / 0, ZeroDivisionError, id="raises"),
    ],
)
def test_what_a_block_ends_with_besides_goes_on(
    does: Callable[[], object], comes: type[BaseException]
) -> None:
    async def block() -> None:
        with Deadlines(0.01)():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                does()
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                raise

    with pytest.raises(comes):
        asyncio.run(block())
