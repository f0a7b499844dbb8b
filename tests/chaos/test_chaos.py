"""Nothing lost, nothing invented, whatever is killed at whatever instant.

``CHAOS`` is how many kills; ``make chaos N=500`` sets it, and prints what happened.
"""

import os
import random
import signal
from datetime import timedelta
from typing import Any

import pytest

from tests.chaos.harness import Chaos, Process, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.chaos]

KILLS = int(os.environ.get("CHAOS", "10"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))


@pytest.fixture
def chance() -> random.Random:
    return random.Random(SEED)  # noqa: S311  # a program, no secret


def instants(chaos: Chaos, seed: int) -> int:
    """Return how many statements and commits a writer's shift has, within 10."""
    last = 10
    while chaos.writer(seed, fatal=last, is_after=True).wait() == -signal.SIGKILL:
        last += 10
    return last


def test_killed_at_random(chance: random.Random, record_property: Any) -> None:
    with Chaos.world() as chaos:
        worker: Process | None = None
        while chaos.kills < KILLS:
            chaos.misbehave(chance)
            if worker is None or worker.is_over():
                if worker is not None:
                    worker.wait()
                worker = chaos.worker(fatal=chance.randint(1, 150), is_after=chance.random() < 0.5)
            writers = [
                chaos.writer(
                    chance.randrange(10**6),
                    fatal=chance.choice([None, *[chance.randint(1, 120)] * 4]),
                    is_after=chance.random() < 0.5,
                )
                for _ in range(2)
            ]
            for each in writers:
                each.wait()
            if chance.random() < 0.2:
                # At an instant that nobody has chosen: while requests are in the air.
                worker.signal(signal.SIGKILL)
        books = chaos.rest()
        record_property("chaos", {"kills": chaos.kills, **books.totals})

    assert books.wrong == {}


@pytest.mark.skipif(KILLS < 200, reason="make chaos N=200 kills at each instant")
@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
def test_killed_at_each_instant_of_a_shift(is_after: bool, record_property: Any) -> None:
    with Chaos.world() as chaos:
        worker = chaos.worker()
        for fatal in range(1, instants(chaos, SEED) + 1):
            chaos.writer(SEED, fatal=fatal, is_after=is_after).wait()
        worker.signal(signal.SIGTERM)
        worker.wait()
        books = chaos.rest()
        record_property("chaos", {"kills": chaos.kills, **books.totals})

    assert books.wrong == {}


@pytest.mark.skipif(KILLS < 200, reason="make chaos N=200 kills at each instant")
@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
def test_killed_at_each_instant_of_a_delivery(is_after: bool, record_property: Any) -> None:
    with Chaos.world() as chaos:
        for fatal in range(1, 60):
            chaos.writer(fatal, units=1).wait()
            worker = chaos.worker(fatal=fatal, is_after=is_after)
            wait_until(worker.is_over, "the worker's end")
            worker.wait()
        books = chaos.rest()
        record_property("chaos", {"kills": chaos.kills, **books.totals})

    assert books.wrong == {}


def test_a_worker_that_slept_past_its_lease_is_refused(chance: random.Random) -> None:
    """B20: it was stopped with requests in the air; another one has sent them meanwhile."""
    with Chaos.world() as chaos:
        chaos.receiver.respond(delay=timedelta(milliseconds=300))
        sleeper = chaos.worker()
        chaos.writer(SEED).wait()
        chaos.receiver.wait_for(1)
        sleeper.signal(signal.SIGSTOP)
        other = chaos.worker()
        wait_until(chaos.is_at_rest, "the other worker")
        sleeper.signal(signal.SIGCONT)
        for each in (sleeper, other):
            each.signal(signal.SIGTERM)
            each.wait()
        books = chaos.rest()

    assert books.wrong == {}
