"""B25: the clocks of processes are ten minutes off, and the database's decides."""

import shutil
import signal
import subprocess
from collections import defaultdict
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from django.db import connection

from drf_webhooks.models import Attempt
from tests.app.models import Deposit
from tests.chaos.harness import Chaos, wait_until
from tests.chaos.servers import needed
from tests.factories import make_tenant

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.chaos,
    # SQLite asks the clock of the process that it runs in: there is no other.
    pytest.mark.skipif(connection.vendor == "sqlite", reason="it has no clock of its own"),
]

OFF = timedelta(minutes=10)
WAIT = timedelta(seconds=2)


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    """What shifts the clock of a process, compiled."""
    compiler = shutil.which("cc")
    needed(compiler, "a C compiler")
    library = tmp_path / "clock.so"
    source = Path(__file__).with_name("clock.c")
    command = [str(compiler), "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, timeout=60)  # noqa: S603  # our own code
    return library


def test_b25_workers_with_clocks_apart_send_nothing_early_and_nothing_twice(
    transactional_db: None, clock: Path, tmp_path: Path
) -> None:
    logs = [tmp_path / "ahead", tmp_path / "behind"]
    patient = {"REQUEST_TIMEOUT": {"seconds": 20}, "LEASE": {"seconds": 60}}
    again = [{"seconds": WAIT.total_seconds()}] * 5
    with Chaos.world(RETRY_SCHEDULE=again, clock=clock, **patient) as chaos:
        tenant = make_tenant()
        offsets = [chaos.clock(OFF), chaos.clock(-OFF)]
        workers = [
            chaos.worker(clock=ahead, log=log) for ahead, log in zip((OFF, -OFF), logs, strict=True)
        ]
        wait_until(lambda: all(log.exists() and log.read_text() for log in logs), "the workers")
        # Slow, so that both have some in the air at once; and most of them again.
        chaos.receiver.respond(delay=timedelta(milliseconds=300))
        chaos.receiver.respond(500, delay=timedelta(milliseconds=300), times=30)
        Deposit.objects.bulk_create([Deposit(tenant=tenant) for _ in range(40)])
        wait_until(chaos.is_at_rest, "all deliveries")
        for each in workers:
            each.signal(signal.SIGTERM)
            each.wait()
        requests = chaos.receiver.requests

    moments: dict[str, list[datetime]] = defaultdict(list)
    for request in requests:
        moments[request.headers["webhook-id"]].append(request.received_at)
    waits = [later - first for sent in moments.values() for first, later in pairwise(sent)]
    assert [round(offset / OFF, 1) for offset in offsets] == [1, -1]
    assert (len(moments), len(waits)) == (40, 30)
    assert min(waits) >= WAIT
    assert Attempt.objects.filter(status=200).values("delivery").distinct().count() == 40
    assert all("Stopped after 0" not in log.read_text() for log in logs)


@pytest.mark.parametrize("ahead", [OFF, -OFF], ids=["ahead", "behind"])
def test_b25_who_records_has_a_clock_that_is_off(
    transactional_db: None, clock: Path, ahead: timedelta
) -> None:
    with Chaos.world(clock=clock) as chaos:
        worker = chaos.worker()
        for seed in range(3):
            chaos.writer(seed, clock=ahead, fatal=60 if seed == 1 else None).wait()
        # Sooner than any clock that is off would have it.
        wait_until(chaos.is_at_rest, "what was held and what is looked at again")
        worker.signal(signal.SIGTERM)
        worker.wait()
        books = chaos.rest()

    assert books.wrong == {}
