"""Sphinx builds the documentation with ``make docs``."""

project = "drf-webhooks"
author = "drf-webhooks contributors"
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "drf-webhooks"
exclude_patterns = ["build"]
nitpicky = True
