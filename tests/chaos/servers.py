"""Servers that a test has for itself: a PostgreSQL that may be restarted, and a PgBouncer.

Neither runs as root; then they run as the user who has Debian's PostgreSQL.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.db.utils import load_backend

from tests.chaos.harness import is_alone, wait_until

__all__ = ["Cluster", "answers", "free_port", "moved", "needed", "pooled"]

_USER = "postgres"
_LOOPBACK = "127.0.0.1"


def needed(found: Any, what: str) -> None:
    """Skip a test for which something is not installed; where all must be, fail it."""
    if not found:
        give_up = pytest.fail if "DRF_WEBHOOKS_TEST_ALL" in os.environ else pytest.skip
        give_up(f"{what} is needed")


@cache
def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def free_port() -> int:
    """Return a port of loopback on which nobody listens."""
    with socket.socket() as one:
        one.bind((_LOOPBACK, 0))
        return int(one.getsockname()[1])


def answers(port: int) -> bool:
    """Tell whether somebody listens on a port of loopback."""
    with socket.socket() as one:
        return one.connect_ex((_LOOPBACK, port)) == 0


def _as_user() -> dict[str, Any]:
    if os.geteuid():
        return {}
    return {"user": _USER, "group": pwd.getpwnam(_USER).pw_gid, "extra_groups": []}


def _run(*command: object, **more: Any) -> str:
    done = subprocess.run(  # noqa: S603  # programs of the database, with our own arguments
        [str(part) for part in command],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=60,
        **more,
    )
    return str(done.stdout)


@contextmanager
def _folder() -> Iterator[Path]:
    """Give a folder that the servers may write to."""
    with tempfile.TemporaryDirectory(prefix="drf-webhooks-") as name:
        if not os.geteuid():
            shutil.chown(name, _USER)
        yield Path(name)


@contextmanager
def moved(**place: Any) -> Iterator[None]:
    """Have Django's default database elsewhere in a block, for this process and its threads."""
    before, known = connections["default"], connections.settings["default"]
    before.close()
    there = {**before.settings_dict, **place}
    connections.settings["default"] = there
    connections["default"] = load_backend(there["ENGINE"]).DatabaseWrapper(there, "default")
    try:
        yield
    finally:
        connections["default"].close()
        connections.settings["default"] = known
        connections["default"] = before


class Cluster:
    """A PostgreSQL of one's own; use :meth:`running`."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.port = free_port()
        self._binaries = binaries
        self._data = folder / "data"
        self._log = folder / "log"

    @classmethod
    @contextmanager
    def running(cls) -> Iterator["Cluster"]:
        """Give a server that has the tables of the test's database, and no rows."""
        binaries = _binaries()
        needed(binaries, "PostgreSQL's initdb")
        assert binaries is not None
        with _folder() as folder:
            cluster = cls(folder, binaries)
            cluster._make()
            cluster._control("start")
            try:
                cluster._copy_tables()
                yield cluster
            finally:
                cluster._control("stop", "immediate")

    def _make(self) -> None:
        _run(
            self._binaries / "initdb",
            f"--pgdata={self._data}",
            f"--username={_USER}",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
            cwd="/",
            **_as_user(),
        )
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(
                f"listen_addresses = '{_LOOPBACK}'\nport = {self.port}\n"
                "unix_socket_directories = ''\n"
            )

    def _control(self, what: str, mode: str = "fast") -> None:
        _run(
            self._binaries / "pg_ctl",
            what,
            f"--pgdata={self._data}",
            f"--log={self._log}",
            f"--mode={mode}",
            "--wait",
            cwd="/",
            **_as_user(),
        )

    def restart(self, mode: str) -> None:
        """Restart; ``"immediate"`` is a crash, ``"fast"`` ends what is open in good order."""
        self._control("restart", mode)

    def place(self) -> dict[str, Any]:
        """Return where it is, for :func:`moved`."""
        return {
            "HOST": _LOOPBACK,
            "PORT": str(self.port),
            "USER": _USER,
            "PASSWORD": "",
            "NAME": "moved",
        }

    def _copy_tables(self) -> None:
        here = connections["default"].settings_dict
        environment = {**os.environ, "PGPASSWORD": here["PASSWORD"]}
        source = ["-h", here["HOST"], "-p", here["PORT"], "-U", here["USER"]]
        tables = _run(
            self._binaries / "pg_dump",
            "--schema-only",
            "--no-owner",
            "--no-privileges",
            *source,
            here["NAME"],
            env=environment,
        )
        target = ["-h", _LOOPBACK, "-p", self.port, "-U", _USER]
        _run(self._binaries / "createdb", *target, "moved")
        _run(self._binaries / "psql", "-q", "-v", "ON_ERROR_STOP=1", *target, "moved", input=tables)


@contextmanager
def pooled(*, servers: int) -> Iterator[dict[str, Any]]:
    """Give a PgBouncer that pools transactions before the test's database: its place.

    Each transaction gets the connection that has rested longest: what one client left behind
    there, another one finds soon.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    needed(program, "pgbouncer")
    here, port = connections["default"].settings_dict, free_port()
    with _folder() as folder:
        settings = folder / "pgbouncer.ini"
        password = f" password='{here['PASSWORD']}'" if here["PASSWORD"] else ""
        settings.write_text(
            "[databases]\n"
            f"{here['NAME']} = host={here['HOST']} port={here['PORT']} "
            f"user={here['USER']}{password}\n"
            "[pgbouncer]\n"
            f"listen_addr = {_LOOPBACK}\nlisten_port = {port}\nunix_socket_dir =\n"
            "auth_type = any\npool_mode = transaction\nserver_round_robin = 1\n"
            f"default_pool_size = {servers}\nmax_client_conn = 200\n"
        )
        with subprocess.Popen(  # noqa: S603  # our own server
            [str(program), "-q", str(settings)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            **_as_user(),
        ) as process:
            try:
                wait_until(lambda: answers(port) or process.poll() is not None, "PgBouncer")
                yield {"HOST": _LOOPBACK, "PORT": str(port), "DISABLE_SERVER_SIDE_CURSORS": True}
            finally:
                process.terminate()
    wait_until(is_alone, "the connections of PgBouncer")
