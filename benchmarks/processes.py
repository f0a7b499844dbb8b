"""Watch processes."""

import os
from pathlib import Path

__all__ = ["busy"]

_TICKS = os.sysconf("SC_CLK_TCK")


def busy(pid: int) -> float:
    """Return how many seconds of CPU a process has used."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / _TICKS
