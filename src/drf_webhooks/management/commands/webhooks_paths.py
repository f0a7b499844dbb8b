"""``manage.py webhooks_paths``: what is monitored, through which path, and why."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from drf_webhooks import learning
from drf_webhooks.audit import Report, describe, reports
from drf_webhooks.registry import registry
from drf_webhooks.tracing.index import Trace, index
from drf_webhooks.tracing.paths import Path
from drf_webhooks.tracing.tree import Node, is_many_to_many

__all__ = ["Command"]


class Command(BaseCommand):
    """Print paths; with options, find more of them."""

    help = "Print which models are monitored for which resource, through which path, and why."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("base_names", nargs="*", help="By default all resources.")
        parser.add_argument(
            "--learn",
            action="store_true",
            help="First serialize objects, so that code is seen to read what it reads; keep it.",
        )
        parser.add_argument(
            "--audit",
            action="store_true",
            help="Serialize objects, and name each read that nobody declared or found; "
            "exit with 1 if there is one.",
        )
        parser.add_argument("--sample", type=int, default=50, help="Objects of each resource.")
        parser.add_argument("--database", default="default", help="The database that has them.")

    def handle(self, *base_names: str, **options: Any) -> None:
        base_names = tuple(options["base_names"])
        for name in base_names:
            if registry.get(name) is None:
                known = ", ".join(each.base_name for each in registry)
                msg = f"No resource is named {name!r}. There are: {known}."
                raise CommandError(msg)
        sample, using = options["sample"], options["database"]
        if sample < 1:
            msg = f"--sample is {sample}. It must be at least 1."
            raise CommandError(msg)
        if options["learn"]:
            learning.learn(sample=sample, using=using)
        if options["audit"]:
            self._audit(list(reports(base_names, sample=sample, using=using)))
            return
        learning.load(using)
        for found in index().traces:
            if not base_names or found.resource.base_name in base_names:
                self.stdout.write("\n".join(lines(found)))

    def _audit(self, found: list[Report]) -> None:
        for report in found:
            self.stdout.write(
                f"{report.resource.base_name}: {report.objects} objects serialized, "
                f"{report.statements} statements for each besides those for all"
            )
            for finding in report.findings:
                self.stdout.write(f"  not monitored: {finding}")
            for text in report.unknown:
                self.stdout.write(f"  not known: {text}")
            if not report.objects:
                self.stdout.write("  nothing to serialize: nothing is known")
        count = sum(len(report.findings) for report in found)
        if count:
            msg = (
                f"{count} reads are not monitored until they are learnt. Name them with "
                "depends_on, or run webhooks_paths --learn after each deployment."
            )
            raise CommandError(msg, returncode=1)


def lines(found: Trace) -> list[str]:
    """Return a resource's tree as text, and what hangs beside it."""
    resource = found.resource
    result = [
        f"{resource.base_name}  ({resource.__name__}, {resource.serializer_class.__name__})",
        *_node(found.tree, "  ", found),
    ]
    result += [f"  + {each}" for each in map(_beside, found.paths) if each]
    unknown = [
        f"{'.'.join(filter(None, [node.accessor, opaque.name]))} ({opaque.kind})"
        for node in found.tree
        for opaque in node.opaque
        if opaque.is_named
    ]
    if unknown:
        state = f"{found.learnt} paths learnt so far" if found.learnt else "nothing learnt yet"
        result.append(f"  code: {', '.join(unknown)}; {state}")
    if found.error is not None:
        result.append(f"  cannot be read: {found.error}")
    return [*result, ""]


def _node(node: Node, indent: str, found: Trace) -> list[str]:
    label = f"{node.name}: {node.model.__name__}" if node.name else node.model.__name__
    if node.is_parent_row:
        label += " (the same object, in its parent's table)"
    if any(path.getter and path.model is node.model for path in found.paths) and node.parent:
        label += "  declared getter replaces it"
    elif node.reads_all:
        label += "  all columns"
    elif node.columns:
        label += f"  {', '.join(sorted(node.columns))}"
    else:
        label += "  only whether it is there"
    if node.rule:
        label += f"  [{node.rule}]"
    if node.parent and is_many_to_many(node.relation):
        label += "  (many-to-many)"
    below = [
        line for child in node.children.values() for line in _node(child, indent + "  ", found)
    ]
    lost = [
        f"{indent}  {each.name}: {each.model.__name__}  <- nothing leads back"
        for each in node.unreachable
    ]
    return [indent + label, *below, *lost]


def _beside(path: Path) -> str:
    if path.getter is not None:
        return f"{path.model._meta.label} by a declared getter"
    if path.via or path.generic or path.is_whole:
        return f"{path.model._meta.label}: {describe(path)}  [{path.rule}]"
    return ""
