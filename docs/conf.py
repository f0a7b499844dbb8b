"""Sphinx builds the documentation with ``make docs``."""

import subprocess
import sys
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parent.parent

project = "drf-webhooks"
author = "drf-webhooks contributors"
html_show_copyright = False
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "drf-webhooks"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_copy_source = False
html_show_sourcelink = False
exclude_patterns = ["build"]
nitpicky = True
# What receivers are shown is no whole file.
highlight_options = {"php": {"startinline": True}}


def add_changes(_app: Sphinx, page: str, source: list[str]) -> None:
    """Put what ``changes/`` has, and what was released, on the page that is for it."""
    if page != "changelog":
        return
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "Unreleased"]
    draft = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603  # our own
    released = ROOT / "CHANGELOG.md"
    source[0] += draft.stdout + (released.read_text() if released.exists() else "")


def setup(app: Sphinx) -> None:
    """Connect what is above."""
    app.connect("source-read", add_changes)
