"""Serialize real objects while watching what is read, and name what nobody monitors."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from django.db import connections

from drf_webhooks import payloads
from drf_webhooks.exceptions import PayloadError
from drf_webhooks.tracing import hooks
from drf_webhooks.tracing.index import Trace, index, trace
from drf_webhooks.tracing.paths import Path, Resource
from drf_webhooks.tracing.reads import Read, Reader

__all__ = ["Finding", "Report", "audit", "describe", "reports"]


@dataclass(frozen=True)
class Finding:
    """Rows that were read although no path leads from them to the base objects."""

    #: The serializer's code that read them, or empty for the serializer as a whole.
    code: str
    read: Read

    def __str__(self) -> str:
        by = f"{self.code} reads" if self.code else "it reads"
        return f"{by} {self.read.model._meta.label}, {describe(self.read)}"


@dataclass
class Report:
    """What the audit of one resource found."""

    resource: Resource
    objects: int = 0
    findings: list[Finding] = field(default_factory=list)
    #: What no analysis can tell, and what could not be serialized.
    unknown: list[str] = field(default_factory=list)
    #: Statements for each object, where there were any: its relations are not prefetched.
    statements: int = 0


def audit(resource: Resource, *, sample: int = 50, using: str = "default") -> Report:
    """Serialize some objects of a resource, and compare what was read with what is monitored.

    What was learnt in earlier serializations does not count as monitored unless it is kept:
    the report names what a change could alter before anything is learnt.

    Args:
        resource: A declared resource.
        sample: How many objects, the newest ones.
        using: The database that has them.

    """
    report = Report(resource)
    rows = resource.get_queryset().using(using).order_by("-pk")
    pks = list(rows.values_list("pk", flat=True)[:sample])
    if not pks:
        return report
    loaded = payloads.load(resource, pks, using)
    report.objects = len(loaded)
    found: dict[Finding, None] = {}
    statements = 0
    hooks.install()
    for each in loaded.values():
        with ExitStack() as stack:
            counter = _Counter()
            stack.enter_context(connections[using].execute_wrapper(counter))
            reader = stack.enter_context(Reader(each.instance))
            try:
                reads, unknown = payloads.watched(resource, each)
            except PayloadError as error:
                report.unknown.append(str(error))
                continue
        statements += counter.count
        found |= dict.fromkeys(Finding(opaque.name, read) for read, opaque in reads.items())
        known = set(reads)
        found |= dict.fromkeys(Finding("", read) for read in reader.reads if read not in known)
        unknown += reader.unknown
        if counter.count > reader.statements:
            unknown.append("statements that are not the ORM's")
        report.unknown += [text for text in unknown if text not in report.unknown]
    static = trace(resource)
    report.findings = [each for each in found if not _is_monitored(each, static)]
    report.statements = round(statements / report.objects)
    return report


class _Counter:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self, execute: Any, *arguments: Any) -> Any:
        self.count += 1
        return execute(*arguments)


def _is_monitored(finding: Finding, known: Trace) -> bool:
    read = finding.read
    declared = {
        model._meta.concrete_model for model in known.resource.signal_model_instance_base_getters
    }
    if read.model._meta.concrete_model in declared:
        return True
    return any(_covers(path, read, is_code=bool(finding.code)) for path in known.paths)


def _covers(path: Path, read: Read, *, is_code: bool) -> bool:
    same_rows = path.model._meta.concrete_model is read.model._meta.concrete_model
    # Code may read any column of a row, unless somebody has declared on which way it passes.
    is_enough = path.columns is None or path.rule == "depends_on" or not is_code
    if not same_rows or not is_enough:
        return False
    spelled = (path.lookup, path.via, path.near, path.entry, path.generic)
    return path.is_whole or spelled == (
        read.lookup,
        read.via,
        read.near,
        read.entry,
        read.generic,
    )


def describe(read: Read | Path) -> str:
    """Say in words how rows lead to the base object."""
    base = f"its {read.lookup.replace('__', '.')}" if read.lookup else "it"
    if read.is_whole:
        return "all rows"
    if read.via is None and not read.generic:
        return base
    rows = f"the {read.entry.replace('__', '.')} of " if read.entry else ""
    if read.generic:
        holder = f"{base}." if read.lookup else "its "
        return f"{rows}what {holder}{read.generic} points to"
    name = read.via._meta.verbose_name_plural if read.via else ""
    return f"{rows}{name} whose {read.near.replace('__', '.')} is {base}"


def reports(
    names: Iterable[str] = (), *, sample: int = 50, using: str = "default"
) -> Iterator[Report]:
    """Audit resources by ``base_name``; by default all of them."""
    wanted = set(names)
    for each in index().traces:
        if not wanted or each.resource.base_name in wanted:
            yield audit(each.resource, sample=sample, using=using)
