"""Write down what is sent, as an OpenAPI document, and compare it with what was sent before."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.module_loading import import_string

from drf_webhooks.document_changes import Changes, changes
from drf_webhooks.event_schemas import is_possible
from drf_webhooks.versions import known

__all__ = ["Command"]

#: Asked by name, for it imports an optional package.
_SPECTACULAR = "drf_webhooks.contrib.spectacular"


class Command(BaseCommand):
    """``manage.py webhooks_schema``."""

    help = "Print the webhooks as an OpenAPI 3.1 document, or compare them with an earlier one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--output", metavar="FILE", help="Write the document to a file.")
        parser.add_argument(
            "--format",
            choices=["yaml", "json"],
            help="By default json for a file of that name, and else yaml.",
        )
        parser.add_argument(
            "--diff",
            metavar="OLD",
            help="Compare with an earlier document, YAML or JSON; it may be that of the whole API. "
            "Exit with 1 if what is sent today may break who receives it.",
        )

        parser.add_argument(
            "--pinned",
            metavar="VERSION",
            help="Write what an endpoint is sent that is pinned to this version of payloads.",
        )

    def handle(self, **options: Any) -> None:
        if not is_possible():
            msg = "This needs the package drf-spectacular. Install drf-webhooks[openapi]."
            raise CommandError(msg)
        version = options["pinned"]
        if version is not None and version not in known():
            names = ", ".join(known()) or "none; no resource declares versions"
            msg = f"There is no version {version!r}. Known: {names}."
            raise CommandError(msg)
        before, output, chosen = options["diff"], options["output"], options["format"]
        # Read first: it may be the file that is written.
        old = None if before is None else _loaded(before)
        document = import_string(f"{_SPECTACULAR}.webhooks_document")(version)
        is_json = chosen == "json" or (chosen is None and str(output).endswith(".json"))
        text: str = import_string(f"{_SPECTACULAR}.files.write")(document, as_json=is_json)
        if output is not None:
            _write(output, text)
        elif before is None:
            self.stdout.write(text, ending="")
        if before is not None:
            self._report(_compared(document, old, before))

    def _report(self, found: Changes) -> None:
        for title, lines in (("compatible", found.compatible), ("breaking", found.breaking)):
            for line in lines:
                self.stdout.write(f"{title:10}  {line}")
        if found.breaking:
            msg = f"{len(found.breaking)} changes may break who receives these webhooks."
            raise CommandError(msg, returncode=1)
        if not found.compatible:
            self.stdout.write("Nothing has changed.")


def _loaded(path: str) -> Any:
    try:
        return import_string(f"{_SPECTACULAR}.files.load")(Path(path))
    except (OSError, ValueError) as error:
        msg = f"{path} cannot be read: {error}"
        raise CommandError(msg) from error


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        msg = f"{path} cannot be written: {error}"
        raise CommandError(msg) from error


def _compared(new: Any, old: Any, path: str) -> Changes:
    try:
        return changes(new, old)
    except ValueError as error:
        msg = f"{path}: {error}"
        raise CommandError(msg) from error
