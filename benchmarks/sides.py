"""Two processes, one without the library and one with it, that take turns at the same work.

They take turns unit by unit, so that the noise of the machine meets both alike.
"""

import multiprocessing
import os
import secrets
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import django
from django.db import connection
from django.test.utils import override_settings

__all__ = ["Measured", "Sides", "Unit", "Variant", "database", "set_up", "sides", "statements"]

_WARM_UP = 5


@dataclass(frozen=True)
class Unit:
    """A piece of work that is measured: so many deposits, saved in one way."""

    name: str
    #: A function of :mod:`benchmarks.project`.
    way: str
    saves: int = 1


@dataclass(frozen=True)
class Variant:
    """How the side with the library is set up."""

    name: str
    endpoints: int = 0
    is_deferred: bool = False
    recheck_after: timedelta | None = None


@dataclass(frozen=True)
class Measured:
    """What a unit took without the library and with it: medians, and statements."""

    plain: float
    full: float
    plain_statements: int
    full_statements: int

    @property
    def ratio(self) -> float:
        """How many times as long it takes with the library."""
        return self.full / self.plain

    @property
    def more(self) -> int:
        """How many statements the library adds. ``BEGIN`` and ``COMMIT`` are not counted."""
        return self.full_statements - self.plain_statements


@dataclass(frozen=True)
class Sides:
    """The two processes."""

    plain: Connection
    full: Connection

    def measure(self, unit: Unit, variant: Variant, *, turns: int) -> Measured:
        """Let both do a unit in turns; the first ones warm up and do not count."""
        _ask(self.full, ("set up", variant))
        times: dict[Connection, list[float]] = {self.plain: [], self.full: []}
        for turn in range(_WARM_UP + turns):
            for side, taken in times.items():
                took = _ask(side, ("time", unit))
                if turn >= _WARM_UP:
                    taken.append(took)
        return Measured(
            *(statistics.median(each) for each in times.values()),
            *(_ask(side, ("count", unit)) for side in times),
        )


def _ask(side: Connection, what: tuple[str, Any]) -> Any:
    side.send(what)
    return side.recv()


@contextmanager
def database(rows: int, kind: str = "postgresql") -> Iterator[None]:
    """Make a database with so many deposits, and drop it afterwards.

    Args:
        rows: How many deposits.
        kind: ``"postgresql"``, ``"mariadb"`` or ``"sqlite"``.

    """
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    os.environ["DRF_WEBHOOKS_TEST_DB"] = kind
    os.environ["BENCH_DB"] = f"drf_webhooks_bench_{secrets.token_hex(4)}"
    django.setup()
    # Imported here: models exist only after setup().
    from django.core.management import call_command  # noqa: PLC0415

    _create()
    try:
        call_command("migrate", verbosity=0)
        _fill(rows)
        yield
    finally:
        connection.close()
        _drop()


def _create() -> None:
    if connection.vendor != "sqlite":
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {connection.ops.quote_name(os.environ['BENCH_DB'])}")


def _drop() -> None:
    if connection.vendor == "sqlite":
        for end in ("", "-wal", "-shm"):
            Path(f"{connection.settings_dict['NAME']}{end}").unlink(missing_ok=True)
        return
    force = " WITH (FORCE)" if connection.vendor == "postgresql" else ""
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"DROP DATABASE {connection.ops.quote_name(os.environ['BENCH_DB'])}{force}")


def _fill(rows: int) -> None:
    from drf_webhooks.session import disable_webhooks  # noqa: PLC0415  # as above
    from tests.factories import make_deposit  # noqa: PLC0415  # as above

    with disable_webhooks():
        for _ in range(rows):
            make_deposit()
    connection.close()


@contextmanager
def sides() -> Iterator[Sides]:
    """Start both processes on the database that was made, and end them afterwards."""
    context = multiprocessing.get_context("spawn")
    with _side(context, is_plain=True) as plain, _side(context) as full:
        yield Sides(plain, full)


@contextmanager
def _side(context: Any, *, is_plain: bool = False) -> Iterator[Connection]:
    ours, theirs = multiprocessing.Pipe()
    if is_plain:
        os.environ["BENCH_PLAIN"] = "1"
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    os.environ.pop("BENCH_PLAIN", None)
    try:
        yield ours
    finally:
        ours.send(("end", None))
        process.join(10)


def _serve(pipe: Connection) -> None:
    """Do units when asked to, in a process of its own."""
    django.setup()
    from tests.app.models import Deposit  # noqa: PLC0415  # as above

    deposits = list(Deposit.objects.order_by("pk"))
    turn = 0
    while True:
        verb, value = pipe.recv()
        if verb == "end":
            return
        if verb == "set up":
            override_settings(DRF_WEBHOOKS={"RECHECK_AFTER": value.recheck_after}).enable()
            set_up(value)
            pipe.send(None)
            continue
        # Other rows each time, as requests would.
        start = turn * value.saves % len(deposits)
        turn += 1
        some = [*deposits, *deposits][start : start + value.saves]
        if verb == "count":
            pipe.send(statements(value, some))
            continue
        started = time.perf_counter()
        _do(value, some)
        pipe.send(time.perf_counter() - started)


def _do(unit: Unit, deposits: list[Any]) -> None:
    from benchmarks import project  # noqa: PLC0415  # as above

    getattr(project, unit.way)(deposits)


def statements(unit: Unit, deposits: list[Any]) -> int:
    """Do a unit, and return how many statements that took."""
    count = 0

    def counter(execute: Any, *arguments: Any) -> Any:
        nonlocal count
        count += 1
        return execute(*arguments)

    with connection.execute_wrapper(counter):
        _do(unit, deposits)
    return count


def set_up(variant: Variant) -> None:
    """Declare the resource and subscribe to it."""
    from benchmarks import resource  # noqa: PLC0415  # not in the plain process
    from drf_webhooks.models import Endpoint  # noqa: PLC0415  # as above

    Endpoint.objects.all().delete()
    for number in range(variant.endpoints):
        Endpoint.objects.create(url=f"https://{number}.example/", event_types=["core.deposit.*"])
    resource.declare(serialize="deferred" if variant.is_deferred else "snapshot")
