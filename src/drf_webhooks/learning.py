"""Keep what was learnt of code that no tree shows, so that every process knows it.

Written in the transaction in which it was learnt; read when a process connects to the
database, at most once a minute. ``docs/explanation/tracing.md`` argues it.
"""

import json
import logging
import time
from typing import Any

from django.apps import apps
from django.db import DatabaseError, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from drf_webhooks import payloads
from drf_webhooks.exceptions import PayloadError
from drf_webhooks.models import LearntPath
from drf_webhooks.registry import registry
from drf_webhooks.tracing.index import index
from drf_webhooks.tracing.learnt import is_valid, learnt
from drf_webhooks.tracing.paths import Resource
from drf_webhooks.tracing.reads import Read

__all__ = ["connect", "keep", "learn", "load"]

logger = logging.getLogger(__name__)

#: Seconds between two looks at what other processes have learnt.
_REFRESH = 60.0

_loaded_at: float | None = None


def connect() -> None:
    """Load what is known whenever a process connects to the database that keeps it."""
    connection_created.connect(_connected, dispatch_uid="drf_webhooks.learning")


def _connected(*, connection: BaseDatabaseWrapper, **_: object) -> None:
    is_due = _loaded_at is None or time.monotonic() - _loaded_at > _REFRESH
    if is_due and connection.alias == router.db_for_read(LearntPath) and _has_code():
        load(connection.alias)


def _has_code() -> bool:
    return any(node.opaque for found in index().traces for node in found.tree)


def load(using: str) -> None:
    """Read what other processes have learnt; before ``migrate`` there is nothing to read."""
    global _loaded_at  # noqa: PLW0603  # for the whole process
    rows = LearntPath.objects.using(using).values_list("resource", "spelling")
    try:
        found = list(rows)
    except DatabaseError:
        return
    _loaded_at = time.monotonic()
    for name, spelling in found:
        resource, read = registry.get(name), _parsed(spelling)
        if resource is not None and read is not None and is_valid(read, resource.model):
            learnt.add(resource, [read], is_stored=True)


def keep() -> None:
    """Store what was learnt, in the open transaction of the database that keeps it."""
    if not learnt.unsaved:
        return
    declared = set(registry)
    found = list(learnt.unsaved)
    unsaved = [each for each in found if each[0] in declared]
    learnt.saved(each for each in found if each[0] not in declared)
    if unsaved:
        try:
            _store(unsaved)
        except DatabaseError:
            # In a savepoint: what the caller does goes on, and this is tried again.
            logger.exception("What was learnt could not be stored.")


def _store(unsaved: list[tuple[Resource, Read]]) -> None:
    alias = router.db_for_write(LearntPath)
    rows = [
        LearntPath(resource=resource.base_name, spelling=_spelled(read))
        for resource, read in unsaved
    ]
    with transaction.atomic(using=alias):
        LearntPath.objects.using(alias).bulk_create(
            [row for row in rows if len(row.spelling) <= LearntPath.LONGEST],
            ignore_conflicts=True,
        )
        transaction.on_commit(lambda: learnt.saved(unsaved), using=alias)
    for resource, read in unsaved:
        logger.info("Learnt that %s reads %s.", resource.__name__, read.model._meta.label)


def learn(*, sample: int = 50, using: str = "default") -> None:
    """Serialize objects of each resource that runs code, to see what the code reads.

    Args:
        sample: How many objects of each resource, the newest ones.
        using: The database that has them.

    """
    for found in index().traces:
        if any(node.opaque for node in found.tree):
            _learn_from(found.resource, sample, using)
    keep()


def _learn_from(resource: Resource, sample: int, using: str) -> None:
    rows = resource.get_queryset().using(using).order_by("-pk")
    pks = list(rows.values_list("pk", flat=True)[:sample])
    for loaded in payloads.load(resource, pks, using).values() if pks else ():
        try:
            payloads.forms(resource, loaded)
        except PayloadError as error:
            logger.warning("Nothing is learnt of one object: %s", error)


def _spelled(read: Read) -> str:
    """Return a read as canonical JSON."""
    values: dict[str, Any] = {
        "model": read.model._meta.label_lower,
        "lookup": read.lookup,
        "via": read.via._meta.label_lower if read.via else "",
        "near": read.near,
        "entry": read.entry,
        "generic": read.generic,
        "whole": read.is_whole,
    }
    return json.dumps({name: each for name, each in values.items() if each}, sort_keys=True)


def _parsed(spelling: str) -> Read | None:
    """Return a stored read, or ``None`` if the project has no such model any more."""
    values = json.loads(spelling)
    try:
        return Read(
            model=apps.get_model(values["model"]),
            lookup=values.get("lookup", ""),
            via=apps.get_model(values["via"]) if "via" in values else None,
            near=values.get("near", ""),
            entry=values.get("entry", ""),
            generic=values.get("generic", ""),
            is_whole=values.get("whole", False),
        )
    except LookupError:
        return None
