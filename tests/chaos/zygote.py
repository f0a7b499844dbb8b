"""Forks writers and workers on demand, so that a process to be killed costs no start-up.

Reads one command a line, in JSON, and answers each with one line: ``start`` with the new
process's number, ``wait`` with how it ended, ``tell`` with what the clock says.
"""

import json
import os
import signal
import sys
import time
from datetime import timedelta
from typing import Any

import django
from django.conf import settings


def main() -> None:
    """Serve until the input ends."""
    settings.DATABASES["default"].update(json.loads(os.environ["CHAOS_DATABASE"]))
    settings.DRF_WEBHOOKS.update(json.loads(os.environ["CHAOS_SETTINGS"], object_hook=_spans))
    django.setup()
    for line in sys.stdin:
        command = json.loads(line)
        sys.stdout.write(f"{_answer(command)}\n")
        sys.stdout.flush()


def _answer(command: dict[str, Any]) -> int:
    if command["do"] == "tell":
        return int(time.time())
    return _start(command) if command["do"] == "start" else _wait(command["pid"])


def _spans(found: dict[str, Any]) -> Any:
    return timedelta(seconds=found["seconds"]) if "seconds" in found else found


def _start(command: dict[str, Any]) -> int:
    # A signal that comes at once waits until the child has no handler of ours any more.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    pid = os.fork()
    if not pid:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    if pid:
        return pid
    code = 1
    try:
        _run(command)
        code = 0
    finally:
        # Without what else an interpreter does at its end: it would flush our parent's output.
        os._exit(code)


def _run(command: dict[str, Any]) -> None:
    # Imported here: models exist only after setup().
    from django.core.management import call_command  # noqa: PLC0415

    from tests.chaos import instants, writer  # noqa: PLC0415

    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    if "log" in command:
        os.dup2(os.open(command["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    instants.count(command.get("fatal"), is_after=bool(command.get("is_after")))
    if command["what"] == "writer":
        writer.Writer(command["seed"]).work(command["units"])
    else:
        call_command("webhooks_worker")


def _wait(pid: int) -> int:
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    main()
