"""What a save costs with the library, on PostgreSQL: ``python -m benchmarks.request_path``.

Two processes, one without the library and one with it, take turns save by save, so that the
noise of the machine meets both alike. Figures are medians; ratios are to the same save in
the process without the library.
"""

import argparse
import multiprocessing
import os
import secrets
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import django
from django.db import connection, transaction

_MANY = 1000


@dataclass(frozen=True)
class Case:
    """How the side with the library is set up, and what the ratio should not exceed."""

    name: str
    endpoints: int
    is_deferred: bool
    saves: int
    target: float


CASES = [
    Case("1 save, nobody subscribed", 0, is_deferred=False, saves=1, target=1.15),
    Case("1 save, 1 endpoint, snapshot", 1, is_deferred=False, saves=1, target=2.5),
    Case("1 save, 1 endpoint, deferred", 1, is_deferred=True, saves=1, target=1.6),
    Case("1 save, 10 endpoints, snapshot", 10, is_deferred=False, saves=1, target=2.75),
    Case("1000 saves, 1 endpoint, snapshot", 1, is_deferred=False, saves=_MANY, target=2.5),
]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=400, help="Saves for each case.")
    rounds = parser.parse_args().rounds
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    os.environ["BENCH_DB"] = f"drf_webhooks_bench_{secrets.token_hex(4)}"
    context = multiprocessing.get_context("spawn")
    with _database(), _side(context, is_plain=True) as plain, _side(context) as full:
        print(
            f"{'case':36} {'plain ms':>9} {'ms':>9} {'ratio':>6} {'target':>7} {'statements':>11}"
        )
        for case in CASES:
            _measure(case, rounds, plain, full)


def _measure(case: Case, rounds: int, plain: Connection, full: Connection) -> None:
    turns = rounds if case.saves == 1 else max(3, rounds // 50)
    _ask(full, ("set up", case))
    times: dict[str, list[float]] = {"plain": [], "full": []}
    for turn in range(turns + 5):
        for name, side in (("plain", plain), ("full", full)):
            took = _ask(side, ("save", case.saves))
            if turn >= 5:  # the first ones warm up
                times[name].append(took)
    more = _ask(full, ("count", case.saves)) - _ask(plain, ("count", case.saves))
    before, after = (statistics.median(each) * 1000 for each in times.values())
    ratios = after / before
    print(
        f"{case.name:36} {before:9.3f} {after:9.3f} {ratios:6.2f} {case.target:7.2f} {more:+11d}",
        flush=True,
    )


def _ask(side: Connection, what: tuple[str, Any]) -> Any:
    side.send(what)
    return side.recv()


@contextmanager
def _database() -> Iterator[None]:
    django.setup()
    # Imported here: models exist only after setup().
    from django.core.management import call_command  # noqa: PLC0415

    name = connection.ops.quote_name(os.environ["BENCH_DB"])
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    try:
        call_command("migrate", verbosity=0)
        _fill()
        yield
    finally:
        connection.close()
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _fill() -> None:
    from drf_webhooks.session import disable_webhooks  # noqa: PLC0415  # as above
    from tests.factories import make_deposit  # noqa: PLC0415  # as above

    with disable_webhooks():
        for _ in range(_MANY):
            make_deposit()
    connection.close()


@contextmanager
def _side(context: Any, *, is_plain: bool = False) -> Iterator[Connection]:
    ours, theirs = multiprocessing.Pipe()
    if is_plain:
        os.environ["BENCH_PLAIN"] = "1"
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    os.environ.pop("BENCH_PLAIN", None)
    try:
        yield ours
    finally:
        ours.send(("end", None))
        process.join(10)


def _serve(pipe: Connection) -> None:
    """Save when asked to, in a process of its own."""
    django.setup()
    from tests.app.models import Deposit  # noqa: PLC0415  # as above

    deposits = list(Deposit.objects.order_by("pk"))
    turn = 0
    while True:
        verb, value = pipe.recv()
        turn += 1
        if verb == "end":
            return
        if verb == "set up":
            _set_up(value)
            pipe.send(None)
        elif verb == "save":
            some = deposits if value > 1 else [deposits[turn % _MANY]]
            started = time.perf_counter()
            _save(some)
            pipe.send(time.perf_counter() - started)
        else:
            pipe.send(_statements(deposits[:value]))


def _save(deposits: list[Any]) -> None:
    with transaction.atomic():
        for deposit in deposits:
            deposit.save()


def _statements(deposits: list[Any]) -> int:
    count = 0

    def counter(execute: Any, *arguments: Any) -> Any:
        nonlocal count
        count += 1
        return execute(*arguments)

    with connection.execute_wrapper(counter):
        _save(deposits)
    return count


def _set_up(case: Case) -> None:
    from benchmarks import resource  # noqa: PLC0415  # not in the plain process
    from drf_webhooks.models import Endpoint  # noqa: PLC0415  # as above

    Endpoint.objects.all().delete()
    for number in range(case.endpoints):
        Endpoint.objects.create(url=f"https://{number}.example/", event_types=["core.deposit.*"])
    resource.declare(serialize="deferred" if case.is_deferred else "snapshot")


if __name__ == "__main__":
    main()
