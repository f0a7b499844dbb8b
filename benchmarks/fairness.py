"""What a bad endpoint and a busy tenant cost the others: ``python -m benchmarks.fairness``.

Two workers with a database each take turns: beside the healthy endpoints of the one, an
endpoint never answers and very many deliveries wait for it; then one owner has very many. A
request that is not answered ends after 1 s here, for 15 s in production: that makes room in
the air fifteen times as often, and so it costs more, not less.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any, Self

from benchmarks import receiver, world
from benchmarks.receiver import Receiver

_HEALTHY = 50
_TENANT = 20
_SECONDS = 1
_A_SECOND = 50
_BODY = b'{"type":"core.deposit.updated","data":"' + b"x" * 1459 + b'"}'
_SETTINGS = {
    "REQUEST_TIMEOUT": {"seconds": _SECONDS},
    "CONNECT_TIMEOUT": {"seconds": _SECONDS},
    # What was not answered stays away for the time of the measurement.
    "RETRY_SCHEDULE": [{"seconds": 600}],
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="Turns of each side.")
    parser.add_argument("--waiting", type=int, default=100_000, help="For the bad endpoint.")
    parser.add_argument("--events", type=int, default=1_000_000, help="Of the busy tenant.")
    parser.add_argument("--count", type=int, default=3000, help="For the healthy, in each round.")
    parser.add_argument("--seconds", type=float, default=5, help="Of latency, in each round.")
    parser.add_argument("--only", choices=("dead", "tenant"), help="One of the two cases.")
    parser.add_argument("--side", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        _answer()
        return
    print(f"{'case':62} {'target':>8} {'measured':>9}", flush=True)
    for name, count, bad in (
        ("an endpoint that never answers", options.waiting, "dead"),
        ("a tenant with very many events", options.events, "tenant"),
    ):
        if options.only not in (None, bad):
            continue
        case = f"{name}, {count} waiting"
        with _Side("none", 0) as plain, _Side(bad, count) as busy:
            _compare(case, options, plain, busy, is_dead=bad == "dead")


class _Side:
    """A database, a receiver and a worker, in another process."""

    def __init__(self, bad: str, count: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.fairness", "--side"],
            env={**os.environ, "BENCH_ENGINE": "postgresql"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ask("begin", bad, count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def ask(self, *what: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def _compare(case: str, options: Any, plain: _Side, busy: _Side, *, is_dead: bool) -> None:
    rates: dict[_Side, list[float]] = {plain: [], busy: []}
    waits: dict[_Side, list[float]] = {plain: [], busy: []}
    for turn in range(options.rounds + 1):
        for side in (plain, busy):
            rate = side.ask("rate", options.count)
            found = side.ask("latency", options.seconds)
            if turn:  # the first ones open connections
                rates[side].append(rate)
                waits[side] += found
    one, other = (statistics.median(rates[side]) for side in (plain, busy))
    _say(f"{case}: rate of the others, of that without", "≥ 0.9" if is_dead else "", other / one)
    for part in (50, 95, 99):
        one, other = (statistics.quantiles(waits[each], n=100)[part - 1] for each in (plain, busy))
        _say(f"{case}: p{part} without, ms", "", one * 1000)
        target = "≤ 1.1" if is_dead and part == 95 else ""
        _say(f"{case}: p{part} with, ms", "", other * 1000)
        _say(f"{case}: p{part}, of that without", target, other / one)


def _answer() -> None:
    """Be a side: do what each line of the standard input says."""
    with world.database("postgresql"), receiver.running() as to:
        _, bad, count = json.loads(sys.stdin.readline())
        healthy = _prepare(to, bad, count)
        with world.worker(**_SETTINGS) as worker:
            del worker
            print("null", flush=True)
            for line in sys.stdin:
                verb, value = json.loads(line)
                found = (_rate if verb == "rate" else _latency)(to, healthy, value)
                print(json.dumps(found), flush=True)


def _prepare(to: Receiver, bad: str, count: int) -> list[Any]:
    from drf_webhooks.models import Endpoint  # noqa: PLC0415  # models exist only after setup()
    from tests.factories import make_user  # noqa: PLC0415  # as above

    def endpoints(path: str, number: int) -> list[Any]:
        owner = make_user()
        return [
            Endpoint.objects.create(url=to.url(f"{path}{each}"), event_types=["*"], owner=owner)
            for each in range(number)
        ]

    if bad == "dead":
        world.fill(endpoints("/never/", 1), _BODY, count=count)
    elif bad == "tenant":
        world.fill(endpoints("/tenant/", _TENANT), b"{}", count=count)
    return [endpoints("/healthy/", 1)[0] for _ in range(_HEALTHY)]


def _rate(to: Receiver, healthy: list[Any], count: int) -> float:
    to.forget()
    world.fill(healthy, _BODY, count=count)
    _wait_for(to, count)
    at = [at for at, path in _arrivals(to) if path.startswith("/healthy")]
    return (len(at) - 1) / (at[-1] - at[0])


def _latency(to: Receiver, healthy: list[Any], seconds: float) -> list[float]:
    to.forget()
    began = time.monotonic()
    said = []
    count = int(seconds * _A_SECOND)
    for number in range(count):
        time.sleep(max(0.0, began + number / _A_SECOND - time.monotonic()))
        said.append(time.monotonic())
        world.fill([healthy[number % len(healthy)]], _BODY, count=1, analyze=False)
    _wait_for(to, count)
    at = [at for at, path in _arrivals(to) if path.startswith("/healthy")]
    # Of one endpoint after the other, so they come in this order save for a few milliseconds.
    return [arrived - told for arrived, told in zip(at, said, strict=True)]


def _arrivals(to: Receiver) -> list[tuple[float, str]]:
    found = to.arrivals()
    return list(zip(found.at, found.paths, strict=True))


def _wait_for(to: Receiver, count: int) -> None:
    until = time.monotonic() + 300
    while sum(path.startswith("/healthy") for _, path in _arrivals(to)) < count:
        assert time.monotonic() < until, "the healthy endpoints wait too long"
        time.sleep(0.2)


def _say(name: str, target: str, value: float) -> None:
    print(f"{name:62} {target:>8} {value:9.2f}", flush=True)


if __name__ == "__main__":
    main()
