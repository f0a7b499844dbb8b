"""What the benchmarks of delivering share: a database, rows that wait, workers to watch."""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import django
from django.db import connection, transaction

from benchmarks.counting import Counter

__all__ = ["Worker", "database", "empty", "fill", "settled", "worker"]

_ROWS = 2000


@contextmanager
def database(engine: str) -> Iterator[str]:
    """Make a database with its tables, and remove it; give its name."""
    name = f"drf_webhooks_bench_{secrets.token_hex(4)}"
    if engine == "sqlite":
        name = str(Path(tempfile.gettempdir()) / f"{name}.sqlite3")
    os.environ["BENCH_DB"] = name
    os.environ["BENCH_ENGINE"] = engine
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    django.setup()
    # Imported here: models exist only after setup().
    from django.core.management import call_command  # noqa: PLC0415

    quoted = connection.ops.quote_name(name)
    if engine != "sqlite":
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {quoted}")
    try:
        call_command("migrate", verbosity=0)
        yield name
    finally:
        connection.close()
        if engine == "sqlite":
            for end in ("", "-wal", "-shm"):
                Path(name + end).unlink(missing_ok=True)
        else:
            with connection._nodb_cursor() as cursor:
                cursor.execute(f"DROP DATABASE {quoted}")


class Worker:
    """A ``webhooks_worker`` in a process of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]", counter: Counter) -> None:
        self.pid = process.pid
        self._counter = counter

    def statements(self) -> int:
        """Return how many statements it has executed."""
        return self._counter.read()

    def memory(self, which: str = "VmRSS") -> float:
        """Return its resident memory in MB; ``VmHWM`` is the most it ever was."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        (line,) = (each for each in status.splitlines() if each.startswith(which))
        return int(line.split()[1]) / 1024


@contextmanager
def worker(**settings: Any) -> Iterator[Worker]:
    """Start a worker with settings of its own, and stop it at the block's end."""
    counter = Counter()
    environment = {
        **os.environ,
        "BENCH_COUNTER": counter.path,
        "BENCH_SETTINGS": json.dumps(settings),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "django", "webhooks_worker"],
        env=environment,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()  # it says so when it is ready
        if not line.startswith(b"Delivering"):
            raise RuntimeError((line + process.stderr.read()).decode())
        yield Worker(process, counter)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stderr.close()
        counter.remove()


def empty() -> None:
    """Remove all events, deliveries and attempts."""
    tables = [f"drf_webhooks_{each}" for each in ("attempt", "delivery", "eventbody", "event")]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"TRUNCATE {', '.join(tables)}")
            return
        for each in tables:
            cursor.execute(f"DELETE FROM {each}")  # noqa: S608  # our own tables


def fill(endpoints: Sequence[Any], body: bytes, *, count: int, analyze: bool = True) -> None:
    """Let deliveries wait, each of an event of its own, for some endpoints in turn.

    They are due at once, and all are committed in the same instant.
    """
    from drf_webhooks.ids import uuid7  # noqa: PLC0415  # as above
    from drf_webhooks.models import Event  # noqa: PLC0415  # as above

    started = _now()
    for start in range(0, count, _ROWS):
        Event.objects.bulk_create(
            Event(
                id=uuid7(),
                type="core.deposit.updated",
                resource="core.deposit",
                object_key=str(number),
                sequence=1,
                body=body,
                created_at=started,
                session=None,
            )
            for number in range(start, min(start + _ROWS, count))
        )
    with transaction.atomic(), connection.cursor() as cursor:
        _deliver(cursor, started, endpoints)
        if connection.vendor == "postgresql":
            if analyze:
                cursor.execute("ANALYZE drf_webhooks_delivery")
                cursor.execute("ANALYZE drf_webhooks_event")
            cursor.execute("NOTIFY drf_webhooks, 'deliveries'")


def _deliver(cursor: Any, since: datetime, endpoints: Sequence[Any]) -> None:
    keys = [
        type(each)._meta.pk.get_db_prep_value(each.pk, connection=connection, prepared=False)
        for each in endpoints
    ]
    chosen = " ".join(f"WHEN {place} THEN %s" for place in range(len(keys)))
    number = "ROW_NUMBER() OVER (ORDER BY id)"
    kind = {"postgresql": "::uuid"}.get(connection.vendor, "")
    cursor.execute(
        "INSERT INTO drf_webhooks_delivery "  # noqa: S608  # numbers
        "(event_id, endpoint_id, state, due_at, fence, attempt_count, reason, created_at) "
        f"SELECT id, (CASE n %% {len(keys)} {chosen} END){kind}, 'waiting', created_at, 0, 0, '', "
        f"created_at FROM (SELECT id, created_at, {number} AS n FROM drf_webhooks_event "
        "WHERE created_at >= %s) e",
        [*keys, connection.ops.adapt_datetimefield_value(since)],
    )


def _now() -> datetime:
    from drf_webhooks.clock import database_now  # noqa: PLC0415  # as above

    return database_now("default")


def settled(endpoints: Sequence[Any], *, count: int) -> None:
    """Add deliveries that are over, with an attempt each, as a year of operation does."""
    events = max(1, count // len(endpoints))
    keys = [str(each.pk) for each in endpoints]
    with connection.cursor() as cursor:
        cursor.execute(
            # Keys of that time, as version 7 of UUIDs has them.
            "INSERT INTO drf_webhooks_event (id, type, resource, object_key, sequence, body, "
            "error, created_at) SELECT (lpad(to_hex(moment.ms + n), 12, '0') || '7' "
            "|| substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid, "
            "'core.deposit.updated', 'core.deposit', n::text, 1, '{}', '', moment.at "
            "FROM generate_series(1, %s) n, (SELECT now() - interval '9 days' AS at, "
            "extract(epoch FROM now() - interval '9 days')::bigint * 1000 AS ms) moment",
            [events],
        )
        cursor.execute(
            "INSERT INTO drf_webhooks_delivery (event_id, endpoint_id, state, due_at, fence, "
            "attempt_count, reason, created_at, settled_at) SELECT e.id, p.id, 'delivered', NULL, "
            "1, 1, '', e.created_at, e.created_at FROM drf_webhooks_event e "
            "CROSS JOIN unnest(%s::uuid[]) AS p(id)",
            [keys],
        )
        cursor.execute(
            "INSERT INTO drf_webhooks_attempt (delivery_id, number, started_at, duration, url, "
            "status, error, detail, response_headers, response_body) SELECT id, 1, created_at, "
            "interval '5 ms', 'http://127.0.0.1/', 200, '', '', '[]', 'ok' "
            "FROM drf_webhooks_delivery"
        )
        for each in ("attempt", "delivery", "event"):
            cursor.execute(f"VACUUM ANALYZE drf_webhooks_{each}")
        # What has just been written is not written to the disk while others are measured.
        cursor.execute("CHECKPOINT")


def wait_until_settled(*, seconds: float = 60) -> None:
    """Wait until nothing is due any more."""
    from drf_webhooks.models import Delivery  # noqa: PLC0415  # as above

    until = time.monotonic() + seconds
    while Delivery.objects.filter(due_at__isnull=False).exists():
        if time.monotonic() > until:
            msg = "deliveries are not settled"
            raise TimeoutError(msg)
        time.sleep(0.05)
