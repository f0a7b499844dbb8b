"""The database's clock, in SQL: the only one that all processes share."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connections
from django.db.models import DateTimeField, Func

__all__ = ["LATER", "NOW", "Clock", "database_now", "later", "moment"]

#: The present moment, to the microsecond or, on SQLite, to the millisecond; by vendor.
NOW = {
    "postgresql": "STATEMENT_TIMESTAMP()",
    "mysql": "UTC_TIMESTAMP(6)",
    "sqlite": "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW')",
}

#: A later moment, with a parameter that :func:`later` makes; by vendor.
LATER = {
    "postgresql": "STATEMENT_TIMESTAMP() + %s * INTERVAL '1 microsecond'",
    "mysql": "UTC_TIMESTAMP(6) + INTERVAL %s MICROSECOND",
    "sqlite": "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW', %s)",
}


def later(vendor: str, length: timedelta) -> Any:
    """Return the parameter of ``LATER``."""
    if vendor == "sqlite":
        return f"{length.total_seconds():+.3f} seconds"
    return length // timedelta(microseconds=1)


def moment(value: datetime | str) -> datetime:
    """Return a moment that a driver gave: some give text, some forget that it is UTC."""
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found if found.tzinfo else found.replace(tzinfo=UTC)


class Clock(Func):
    """What the clock says, as part of a query."""

    output_field = DateTimeField()

    def as_sql(self, compiler: Any, connection: Any, **context: Any) -> Any:  # type: ignore[override]  # narrower than typed
        return NOW[connection.vendor], ()


def database_now(using: str) -> datetime:
    """Return what the database's clock says."""
    connection = connections[using]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {NOW[connection.vendor]}".replace("%%", "%"))
        (value,) = cursor.fetchone()
    return moment(value)
