"""Two systems that mirror each other, as real processes with a database each: no loop, no loss."""

import os
import subprocess
import sys

import pytest


@pytest.mark.security
def test_f78_two_systems_that_mirror_each_other_come_to_the_same_and_to_rest() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "example.duplex.demo"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=dict(os.environ),
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Both sides have the same." in done.stdout
    assert "No change is lost." in done.stdout
    assert "Each change was sent once: no loop." in done.stdout
