"""Settings of one of two systems that mirror each other: those of the example, and a side."""

import os

from example.settings import *  # noqa: F403  # the same project, with one app more
from example.settings import INSTALLED_APPS as _APPS

INSTALLED_APPS = [*_APPS, "example.duplex"]
ROOT_URLCONF = "example.duplex.urls"

#: "left" or "right".
SIDE = os.environ.get("DUPLEX_SIDE", "left")
#: Where the other side takes webhooks, and what both sides sign with.
OTHER_URL = os.environ.get("DUPLEX_OTHER_URL", "")
SECRET = os.environ.get("DUPLEX_SECRET", "")
