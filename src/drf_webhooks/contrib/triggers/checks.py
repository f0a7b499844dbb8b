"""System checks: tables that nobody captures, and databases that cannot."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.core import checks
from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from drf_webhooks.contrib.triggers import definitions
from drf_webhooks.contrib.triggers.journal import monitored
from drf_webhooks.contrib.triggers.models import RowChange

__all__ = ["check_triggers", "register"]

_FOUND = """
SELECT c.relname, p.prosrc, count(t.tgname)
FROM pg_class c
LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgname = ANY(%s) AND t.tgenabled <> 'D'
LEFT JOIN pg_proc p ON p.oid = t.tgfoid
WHERE c.relkind IN ('r', 'p') AND pg_table_is_visible(c.oid) AND c.relname = ANY(%s)
GROUP BY c.relname, p.prosrc
"""


def register() -> None:
    """Have Django run the checks when it may ask databases: ``check --database``, ``migrate``."""
    checks.register(check_triggers, checks.Tags.database)


def check_triggers(
    *, databases: Sequence[str] | None = None, **_: Any
) -> list[checks.CheckMessage]:
    """Name monitored models whose rows are not captured."""
    return [
        message
        for alias in databases or ()
        if router.allow_migrate_model(alias, RowChange)
        for message in _check(connections[alias])
    ]


def _check(connection: BaseDatabaseWrapper) -> Iterator[checks.CheckMessage]:
    if connection.vendor != "postgresql":
        yield checks.Warning(
            f"drf_webhooks.contrib.triggers does nothing on {connection.display_name}, the "
            f"database {connection.alias!r}.",
            hint="Remove it from INSTALLED_APPS, or silence this check.",
            id="drf_webhooks.W102",
        )
        return
    missing = sorted({each._meta.label for each in _uncaptured(connection)})
    if missing:
        yield checks.Warning(
            f"Changes by raw SQL and other programs are not noticed, or not all of them, in the "
            f"database {connection.alias!r}: there are no triggers, or older ones, on "
            f"{', '.join(missing)}.",
            hint="Write CaptureRows for each into a migration.",
            id="drf_webhooks.W101",
        )


def _uncaptured(connection: BaseDatabaseWrapper) -> Iterator[type[Model]]:
    models = {
        definitions.table_of(each): each
        for each in monitored()
        if router.allow_migrate_model(connection.alias, each)
    }
    journal = definitions.journal(connection)
    with connection.cursor() as cursor:
        cursor.execute(_FOUND, [list(definitions.TRIGGERS.values()), list(models)])
        # A table that is not there will be made by a migration.
        for table, source, count in cursor.fetchall():
            model = models[table]
            is_whole = count == len(definitions.TRIGGERS)
            if not is_whole or source != definitions.body(model, connection, journal):
                yield model
