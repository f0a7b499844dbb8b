"""How fast the worker delivers: ``python -m benchmarks.delivery``.

A real ``webhooks_worker`` and a bare aiohttp client that posts the same bytes at the same
concurrency take turns, round by round, so that the noise of the machine meets both alike.
Where very many wait, the worker is stopped for each of the client's turns, by ``SIGSTOP``.
Rates are from the first to the last arrival at a receiver in a process of its own; a CPU
time is that of the whole process; statements are counted in the worker, without ``BEGIN`` and
``COMMIT``. Figures are medians of the rounds.

``--only`` runs some of the cases; the default sizes are those of the targets, and take some
minutes.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks import bare, receiver, world
from benchmarks.bare import Bare
from benchmarks.processes import busy
from benchmarks.receiver import Arrivals, Receiver
from benchmarks.world import Worker

__all__ = ["Round", "deliver", "endpoints_of"]

_BODY = b'{"type":"core.deposit.updated","data":"' + b"x" * 1459 + b'"}'
_ENDPOINTS = 100
_IN_AIR = 100
_SLOW_IN_AIR = 300
#: How many each side sends in a turn where very many wait.
_TURN = 10_000
#: The bare client with asyncio's own event loop, and with the worker's.
Clients = tuple[Bare, Bare]
_CASES = ("few", "many", "settled", "latency", "slow", "sqlite")


@dataclass(frozen=True)
class Round:
    """What one side did in one round."""

    rate: float
    cpu: float
    statements: float = 0.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="Turns of each side.")
    parser.add_argument("--few", type=int, default=3000, help="Waiting, in the case of few.")
    parser.add_argument("--many", type=int, default=100_000, help="Waiting, in that of many.")
    parser.add_argument("--settled", type=int, default=1_000_000, help="Rows that are over.")
    parser.add_argument("--seconds", type=float, default=20, help="How long latency is measured.")
    parser.add_argument("--only", nargs="+", choices=_CASES, default=list(_CASES))
    options = parser.parse_args()
    print(f"{'case':58} {'target':>8} {'measured':>9}", flush=True)
    cases = [each for each in options.only if each != "sqlite"]
    engine = os.environ.get("BENCH_ENGINE", "postgresql")
    if cases:
        with (
            world.database(engine),
            receiver.running() as to,
            bare.running() as client,
            bare.running(is_quick=True) as quick,
        ):
            for each in cases:
                globals()[f"_{each}"](options, to, (client, quick))
    if "sqlite" in options.only and engine != "sqlite":
        environment = {**os.environ, "BENCH_ENGINE": "sqlite"}
        more = ["--rounds", str(options.rounds), "--few", str(options.few)]
        command = [sys.executable, "-m", "benchmarks.delivery", *more, "--only", "few", "latency"]
        subprocess.run(command, env=environment, check=True)


def _few(options: Any, to: Receiver, clients: Clients) -> None:
    name = _name(f"{options.few} waiting")
    with endpoints_of(to) as endpoints, world.worker() as worker:
        ours, theirs = _take_turns(options.rounds, options.few, endpoints, worker, to, clients)
    _compare(name, ours, theirs, target=0.3 if os.environ["BENCH_ENGINE"] == "sqlite" else 0.6)


def _many(options: Any, to: Receiver, clients: Clients) -> None:
    name = _name(f"{options.many} waiting")
    with endpoints_of(to) as endpoints, world.worker() as worker:
        memory: list[float] = []
        _take_turns(0, 1000, endpoints, worker, to, clients)  # opens connections
        ours, theirs = _in_turns(options.many, endpoints, worker, to, clients, memory)
        most = worker.memory("VmHWM")
    _compare(name, ours, theirs, target=0.6)
    _say(f"{name}: most resident memory, MB", "≤ 120", most)
    quarter = max(1, len(memory) // 4)
    grown = statistics.mean(memory[-quarter:]) - statistics.mean(memory[quarter : 2 * quarter + 1])
    _say(f"{name}: grown from its second quarter to its last, MB", "flat", grown)


def _settled(options: Any, to: Receiver, clients: Clients) -> None:
    """Compare a table full of rows that are over with an empty one, in two databases."""
    del clients
    with endpoints_of(to) as endpoints, _other_side() as other:
        world.settled(endpoints, count=options.settled)
        with world.worker() as worker:
            rates: dict[str, list[float]] = {"none": [], "full": []}
            for turn in range(options.rounds + 1):
                full = deliver(options.few, endpoints, worker, to, keep=True)
                none = _rate_of(other, options.few)
                if turn:
                    rates["full"].append(full.rate)
                    rates["none"].append(none)
    world.empty()
    ratio = statistics.median(rates["full"]) / statistics.median(rates["none"])
    _say(f"{options.settled} rows that are over: rate, of that with none", "≥ 0.9", ratio)


@contextmanager
def _other_side() -> Iterator["subprocess.Popen[str]"]:
    """Start a second run of this module, with a database of its own, that delivers when told."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.delivery_side"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        try:
            yield process
        finally:
            process.stdin.close()


def _rate_of(side: "subprocess.Popen[str]", count: int) -> float:
    assert side.stdin is not None
    assert side.stdout is not None
    side.stdin.write(f"{count}\n")
    side.stdin.flush()
    return float(side.stdout.readline())


def _latency(options: Any, to: Receiver, clients: Clients) -> None:
    """Save an object 20 times a second, and see when its message arrives.

    Of the transaction's end two moments are known: before the commit, and after it has returned,
    with what recording takes and the database's disk between them.
    """
    from django.db import transaction  # noqa: PLC0415  # models exist only after setup()

    from benchmarks import resource  # noqa: PLC0415  # as above
    from drf_webhooks.models import Endpoint  # noqa: PLC0415  # as above
    from drf_webhooks.session import disable_webhooks  # noqa: PLC0415  # as above
    from tests.factories import make_deposit  # noqa: PLC0415  # as above

    del clients
    resource.declare(serialize="snapshot")
    with disable_webhooks():
        deposit = make_deposit()
    Endpoint.objects.create(url=to.url("/latency"), event_types=["core.deposit.*"])
    count = int(options.seconds * 20)
    before, after = [], []
    with world.worker():
        to.forget()
        began = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, began + number / 20 - time.monotonic()))
            with transaction.atomic():
                deposit.note = str(number)
                deposit.save()
                before.append(time.monotonic())
            after.append(time.monotonic())
        to.wait_for(count)
        world.wait_until_settled()
    waits = {"committed": _waits(to, after), "saved": _waits(to, before)}
    Endpoint.objects.all().delete()
    world.empty()
    is_polled = os.environ["BENCH_ENGINE"] != "postgresql"
    for since, seconds in waits.items():
        for part, most in ((50, 10), (99, 40)):
            target = "polled" if is_polled else f"≤ {most}" if since == "committed" else ""
            cut = statistics.quantiles(seconds, n=100)[part - 1] * 1000
            _say(_name(f"{since} to arrival, 20 a second, p{part}, ms"), target, cut)


def _waits(to: Receiver, said: list[float]) -> list[float]:
    from drf_webhooks.models import Event  # noqa: PLC0415  # as above

    arrivals = to.arrivals()
    arrived = dict(zip(arrivals.ids, arrivals.at, strict=True))
    events = Event.objects.order_by("sequence")
    return [arrived[event.message_id] - at for event, at in zip(events, said, strict=True)]


def _slow(options: Any, to: Receiver, clients: Clients) -> None:
    del clients
    count = options.few * 3
    with (
        endpoints_of(to, "/wait/100", count=_SLOW_IN_AIR) as endpoints,
        world.worker(CONCURRENCY=_SLOW_IN_AIR) as worker,
    ):
        rates = [
            deliver(count, endpoints, worker, to).rate for _ in range(max(1, options.rounds // 2))
        ]
    ratio = statistics.median(rates) / (_SLOW_IN_AIR / 0.1)
    _say("300 receivers that take 100 ms: rate, of 300 ÷ 0.1 s", "≥ 0.8", ratio)


@contextmanager
def endpoints_of(to: Receiver, path: str = "", *, count: int = _ENDPOINTS) -> Iterator[list[Any]]:
    from drf_webhooks.models import Endpoint  # noqa: PLC0415  # as above

    made = [
        Endpoint.objects.create(url=to.url(f"{path}/{number}"), event_types=["*"])
        for number in range(count)
    ]
    yield made
    world.empty()
    Endpoint.objects.all().delete()


def _take_turns(
    rounds: int,
    count: int,
    endpoints: list[Any],
    worker: Worker,
    to: Receiver,
    clients: Clients,
) -> tuple[list[Round], list[list[Round]]]:
    urls = [each.url for each in endpoints]
    ours: list[Round] = []
    theirs: list[list[Round]] = [[] for _ in clients]
    for turn in range(rounds + 1):
        is_warm = turn > 0  # the first ones open connections
        some = count if is_warm else min(count, 1000)
        mine = deliver(some, endpoints, worker, to)
        theirs_now = [_post(each, urls, some, to) for each in clients]
        if is_warm:
            ours.append(mine)
            for side, one in zip(theirs, theirs_now, strict=True):
                side.append(one)
    return ours, theirs


def _in_turns(
    count: int,
    endpoints: list[Any],
    worker: Worker,
    to: Receiver,
    clients: Clients,
    memory: list[float],
) -> tuple[list[Round], list[list[Round]]]:
    """Stop the worker again and again while it works off what waits, for the others to post."""
    urls = [each.url for each in endpoints]
    ours: list[Round] = []
    theirs: list[list[Round]] = [[] for _ in clients]
    world.empty()
    to.forget()
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        world.fill(endpoints, _BODY, count=count)
        while count > 0:
            statements, cpu = worker.statements(), busy(worker.pid)
            os.kill(worker.pid, signal.SIGCONT)
            to.wait_for(min(count, _TURN), meanwhile=lambda: memory.append(worker.memory()))
            os.kill(worker.pid, signal.SIGSTOP)
            arrivals = _all_arrivals(to)
            sent = len(arrivals.at)
            count -= sent
            mine = Round(
                arrivals.rate,
                (busy(worker.pid) - cpu) / sent,
                (worker.statements() - statements) / sent,
            )
            theirs_now = [_post(each, urls, min(sent, _TURN), to) for each in clients]
            # What is left for the last turn may be too little to tell anything.
            if sent >= _TURN or not ours:
                ours.append(mine)
                for side, one in zip(theirs, theirs_now, strict=True):
                    side.append(one)
    finally:
        os.kill(worker.pid, signal.SIGCONT)
    world.wait_until_settled()
    return ours, theirs


def _all_arrivals(to: Receiver) -> Arrivals:
    """Return what has come when nothing more does: some was on its way still."""
    count = -1
    while count != to.count():
        count = to.count()
        time.sleep(0.05)
    return to.arrivals()


def _post(client: Bare, urls: list[str], count: int, to: Receiver) -> Round:
    to.forget()
    cpu = client.post(urls, _BODY, count=count, concurrency=_IN_AIR)
    done = Round(to.arrivals().rate, cpu)
    to.forget()
    return done


def deliver(
    count: int,
    endpoints: list[Any],
    worker: Worker,
    to: Receiver,
    *,
    keep: bool = False,
) -> Round:
    """Let some deliveries wait, and watch the worker."""
    if not keep:
        world.empty()
    to.forget()
    statements, cpu = worker.statements(), busy(worker.pid)
    world.fill(endpoints, _BODY, count=count)
    to.wait_for(count)
    world.wait_until_settled()
    return Round(
        to.arrivals().rate,
        (busy(worker.pid) - cpu) / count,
        (worker.statements() - statements) / count,
    )


def _compare(name: str, ours: list[Round], theirs: list[list[Round]], *, target: float) -> None:
    sides = (ours, *theirs)
    rate, bare_rate, quick_rate = (statistics.median(each.rate for each in side) for side in sides)
    cpu, bare_cpu, quick_cpu = (statistics.median(each.cpu for each in side) for side in sides)
    _say(f"{name}: deliveries a second", "", rate)
    _say(f"{name}: the bare client, a second", "", bare_rate)
    _say(f"{name}: rate, of the bare client's", f"≥ {target}", rate / bare_rate)
    _say(f"{name}: the same, if that has the worker's loop", "", rate / quick_rate)
    _say(f"{name}: CPU of one, µs", "", cpu * 1e6)
    _say(f"{name}: CPU, of the bare client's", "≤ 2", cpu / bare_cpu)
    _say(f"{name}: the same, if that has the worker's loop", "", cpu / quick_cpu)
    most = statistics.median(each.statements for each in ours)
    _say(f"{name}: statements of one", "≤ 0.1", most)


def _name(text: str) -> str:
    engine = os.environ["BENCH_ENGINE"]
    return text if engine == "postgresql" else f"{engine}, {text}"


def _say(name: str, target: str, value: float) -> None:
    shown = f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}"
    print(f"{name:58} {target:>8} {shown:>9}", flush=True)


if __name__ == "__main__":
    main()
