"""One of the two systems: a database, an API and a worker of its own, until its input ends.

``python -m example.duplex.side PORT``, with ``DUPLEX_SIDE``, ``DUPLEX_OTHER_URL`` and
``DUPLEX_SECRET``.
"""

import subprocess
import sys

import django
from django.conf import settings

COMMANDS = (["runserver", "--noreload"], ["webhooks_worker"])


def main() -> None:
    """Make the database and the endpoint, and run the processes."""
    django.setup()
    # Imported here: models exist only after setup().
    from drf_webhooks.models import Endpoint  # noqa: PLC0415
    from example import database  # noqa: PLC0415

    with database.made():
        Endpoint.objects.create(
            url=settings.OTHER_URL,
            event_types=["duplex.contact.*"],
            secret=settings.SECRET,
            ignores_own_changes=True,
        )
        manage = [sys.executable, "-m", "example.manage"]
        server = subprocess.Popen([*manage, *COMMANDS[0], f"127.0.0.1:{sys.argv[1]}"])
        worker = subprocess.Popen([*manage, *COMMANDS[1]])
        try:
            sys.stdin.read()
        finally:
            for process in (worker, server):
                process.terminate()
                process.wait()


if __name__ == "__main__":
    main()
