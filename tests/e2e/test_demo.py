"""The demo as a test, on the database that the suite runs on: real processes, real HTTP."""

import os
import subprocess
import sys


def test_every_webhook_of_the_demo_arrives_once_and_verified() -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "example.settings"}
    done = subprocess.run(
        [sys.executable, "-m", "example.demo"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "18 webhooks arrived, each once, signed" in done.stdout
    assert "MISSING" not in done.stdout
    assert "EXTRA" not in done.stdout
