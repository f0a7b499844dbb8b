"""Show the whole way: REST calls change rows, and a receiver gets signed webhooks.

``python -m example.demo`` starts a server, a worker and a receiver, acts as a client, and
compares what arrived with what had to arrive. ``--keep`` leaves everything running.
"""

import argparse
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import django

from example.scenario import Client, Expected, Step, steps

_LIMIT_SECONDS = 20
_POLL_SECONDS = 0.01
_PASSWORD = "demo"  # noqa: S105  # printed for the reader


def main() -> int:
    """Run the demo; return the process's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="Leave everything running.")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="drf-webhooks-")))
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example.settings")
        os.environ["EXAMPLE_DB_FILE"] = str(folder / "demo.sqlite3")
        os.environ["EXAMPLE_DB_NAME"] = f"drf_webhooks_demo_{secrets.token_hex(4)}"
        django.setup()
        # Imported here: models exist only after setup().
        from example import database  # noqa: PLC0415

        stack.enter_context(database.made())
        objects = database.fill(_PASSWORD)
        ports = {name: free_port() for name in ("api", "receiver")}
        secret = _make_endpoint(f"http://127.0.0.1:{ports['receiver']}/")
        log = stack.enter_context((folder / "processes.log").open("w"))
        processes = [
            stack.enter_context(_process(log, *arguments, secret=secret))
            for arguments in (
                ("example.receiver", str(ports["receiver"])),
                ("example.manage", "runserver", "--noreload", f"127.0.0.1:{ports['api']}"),
                ("example.manage", "webhooks_worker"),
            )
        ]
        _wait(lambda: all(answers(port) for port in ports.values()), "the servers", processes)
        show = _Table()
        client = Client(f"http://127.0.0.1:{ports['api']}/api/")
        is_right = True
        for step in steps(objects):
            is_right &= _run(step, client, ports["receiver"], show, database.is_quiet, processes)
        show.end(is_right=is_right)
        if not is_right:
            print((folder / "processes.log").read_text(), file=sys.stderr)
        if options.keep:
            _keep(ports)
    return 0 if is_right else 1


def _run(
    step: Step,
    client: Client,
    receiver: int,
    show: "_Table",
    is_quiet: Callable[[], bool],
    processes: list[subprocess.Popen[bytes]],
) -> bool:
    before = len(_received(receiver))
    started = time.time()
    expected = step.act(client)
    # When nothing waits in the outbox any more, what is not there will not come.
    _wait(is_quiet, f"the deliveries of {step.what!r}", processes)
    return show.row(step, expected, _received(receiver)[before:], started)


class _Table:
    """Done, had to arrive, arrived: a line for each."""

    def __init__(self) -> None:
        self._events = 0
        print(f"{'what was done':38} {'had to arrive':26} {'arrived':26} {'verified':9} after")
        print("-" * 110)

    def row(
        self, step: Step, expected: list[Expected], arrived: list[dict[str, Any]], started: float
    ) -> bool:
        what, is_right = step.what, True
        left = list(arrived)
        for each in expected:
            found = next((one for one in left if _is(one, each)), None)
            if found is None:
                wrong = [one["data"] for one in left if one["type"] == each.type]
                self._line(what, str(each), "MISSING", "", f"{wrong[:1]}" if wrong else "")
                is_right = False
            else:
                left.remove(found)
                is_right &= found["verified"]
                verified = "yes" if found["verified"] else "NO"
                after = f"{(found['received_at'] - started) * 1000:.0f} ms"
                self._line(what, str(each), str(each), verified, after)
            what = ""
        for extra in left:
            self._line(what, "", f"EXTRA {extra['type']} {extra['data'].get('id')}", "", "")
            is_right = False
        if not expected and not arrived:
            self._line(what, "nothing", "nothing", "", "")
        self._events += len(arrived)
        return is_right

    def _line(self, what: str, expected: str, arrived: str, verified: str, after: str) -> None:
        print(f"{what:38} {expected:26} {arrived:26} {verified:9} {after}".rstrip(), flush=True)

    def end(self, *, is_right: bool) -> None:
        print("-" * 110)
        if is_right:
            print(f"{self._events} webhooks arrived, each once, signed, with the data of the API.")
        else:
            print("Something is missing, extra, wrong or not verified: see above.")


def _is(arrived: dict[str, Any], expected: Expected) -> bool:
    return bool(arrived["type"] == expected.type and arrived["data"] == expected.data)


@contextmanager
def _process(log: Any, module: str, *arguments: str, secret: str) -> Iterator[Any]:
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdout=log,
        stderr=log,
        env={**os.environ, "WEBHOOK_SECRET": secret},
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=_LIMIT_SECONDS)


def _make_endpoint(url: str) -> str:
    """Make an endpoint as an operator does, and return the secret that is printed once."""
    command = [sys.executable, "-m", "example.manage", "webhooks_endpoint", "add", url]
    types = ["--events", "core.deposit.*", "core.landlord.updated"]
    printed = subprocess.run(
        [*command, *types],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return next(line.split()[1] for line in printed.splitlines() if line.startswith("secret"))


def _received(port: int) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/log", timeout=5) as answer:
        received: list[dict[str, Any]] = json.load(answer)
        return received


def _wait(
    condition: Callable[[], bool], what: str, processes: list[subprocess.Popen[bytes]]
) -> None:
    until = time.monotonic() + _LIMIT_SECONDS
    while not condition():
        if any(process.poll() is not None for process in processes):
            msg = f"A process ended while {what} were waited for."
            raise RuntimeError(msg)
        if time.monotonic() > until:
            msg = f"{_LIMIT_SECONDS} seconds passed while {what} were waited for."
            raise TimeoutError(msg)
        time.sleep(_POLL_SECONDS)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _keep(ports: dict[str, int]) -> None:
    print(f"\nAPI       http://127.0.0.1:{ports['api']}/api/")
    print(f"admin     http://127.0.0.1:{ports['api']}/admin/  (admin, {_PASSWORD})")
    print(f"receiver  http://127.0.0.1:{ports['receiver']}/")
    print("Ctrl-C ends it.", flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    sys.exit(main())
