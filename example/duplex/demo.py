"""Show two systems that mirror each other: no loop, no lost change.

``python -m example.duplex.demo`` starts both, changes contacts on both at once, some of them
the same, and compares what both have in the end.
"""

import os
import random
import secrets
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from drf_webhooks import secret_keys
from example.demo import answers, free_port
from example.scenario import Client

SIDES = ("left", "right")
_LIMIT_SECONDS = 60
_CHANGES = 20


def main() -> int:
    """Run the demo; return the process's exit code."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="drf-webhooks-")))
        log = stack.enter_context((folder / "processes.log").open("w"))
        ports = {side: free_port() for side in SIDES}
        secret = secret_keys.generate()
        for side, other in (SIDES, SIDES[::-1]):
            url = f"http://127.0.0.1:{ports[other]}/hooks/"
            environment = {
                "DUPLEX_SIDE": side,
                "DUPLEX_OTHER_URL": url,
                "DUPLEX_SECRET": secret,
                "EXAMPLE_DB_FILE": str(folder / f"{side}.sqlite3"),
                "EXAMPLE_DB_NAME": f"drf_webhooks_{side}_{secrets.token_hex(4)}",
            }
            stack.enter_context(_running(ports[side], environment, log))
        clients = {side: Client(f"http://127.0.0.1:{port}/") for side, port in ports.items()}
        _wait(lambda: all(answers(port) for port in ports.values()), "both sides")
        made = _change(clients)
        _wait(lambda: not any(_state(each)["waiting"] for each in clients.values()), "the mirror")
        is_right = _show(made, {side: _state(client) for side, client in clients.items()})
        if not is_right:
            print((folder / "processes.log").read_text(), file=sys.stderr)
    return 0 if is_right else 1


def _change(clients: dict[str, Client]) -> dict[str, list[tuple[str, str]]]:
    """Change contacts on both sides at once; return which, and what was written last."""
    shared = [uuid.uuid4() for _ in range(5)]

    def work(side: str) -> list[tuple[str, str]]:
        chance, own, done = random.Random(side), [uuid.uuid4() for _ in range(5)], []  # noqa: S311  # an example
        for number in range(_CHANGES):
            key = chance.choice([*shared, *own])
            name = f"{side} {number}"
            clients[side].call("PUT", f"contacts/{key}/", {"name": name})
            done.append((str(key), name))
        clients[side].call("DELETE", f"contacts/{own[0]}/")
        return [*done, (str(own[0]), "")]

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(SIDES, pool.map(work, SIDES), strict=True))


def _show(made: dict[str, list[tuple[str, str]]], states: dict[str, Any]) -> bool:
    left, right = (states[side] for side in SIDES)
    is_same = left["contacts"] == right["contacts"]
    everything = {key for some in made.values() for key, _ in some}
    last = {side: dict(some) for side, some in made.items()}
    # On each contact the last change of one of the sides has won.
    is_kept = everything == {each["id"] for each in left["contacts"]} and all(
        each["is_deleted"] or last[each["changed_by"]][each["id"]] == each["name"]
        for each in left["contacts"]
    )
    print(f"{'':8}{'changes':>10}{'messages':>10}{'contacts':>10}")
    for side in SIDES:
        count = len(states[side]["contacts"])
        print(f"{side:8}{len(made[side]):10}{states[side]['messages']:10}{count:10}")
    is_loopless = all(states[side]["messages"] == len(made[side]) for side in SIDES)
    print("Both sides have the same." if is_same else "The sides DIFFER.")
    print("No change is lost." if is_kept else "A change is LOST.")
    print("Each change was sent once: no loop." if is_loopless else "Changes went round in a LOOP.")
    return is_same and is_kept and is_loopless


def _state(client: Client) -> Any:
    return client.get("state/")


@contextmanager
def _running(port: int, environment: dict[str, str], log: IO[str]) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "example.duplex.side", str(port)],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "example.duplex.settings", **environment},
    )
    try:
        yield
    finally:
        # Its input ends, and with it what it has started.
        process.communicate(timeout=_LIMIT_SECONDS)


def _wait(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + _LIMIT_SECONDS
    while not condition():
        if time.monotonic() > until:
            msg = f"{_LIMIT_SECONDS} seconds passed while {what} was waited for."
            raise TimeoutError(msg)
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
