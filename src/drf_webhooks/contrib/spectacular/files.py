"""Read and write documents as YAML or JSON."""

import json
from pathlib import Path
from typing import Any

import yaml
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiYamlRenderer

__all__ = ["load", "write"]


def write(document: dict[str, Any], *, as_json: bool) -> str:
    """Return a document as text."""
    renderer = OpenApiJsonRenderer() if as_json else OpenApiYamlRenderer()
    return renderer.render(document, renderer_context={}).decode().rstrip() + "\n"


def load(path: Path) -> Any:
    """Read a file.

    Raises:
        ValueError: it is neither JSON nor YAML.
        OSError: it cannot be read.

    """
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return json.loads(text)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
