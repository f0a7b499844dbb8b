"""The database's clock, which all workers share."""

from datetime import UTC, datetime
from typing import Any

from django.db import connections
from django.db.models import DateTimeField, Func

__all__ = ["NOW", "Clock", "database_now"]

#: By vendor, in the form that columns have.
NOW = {
    "postgresql": "STATEMENT_TIMESTAMP()",
    "mysql": "UTC_TIMESTAMP(6)",
    "sqlite": "STRFTIME('%Y-%m-%d %H:%M:%f', 'NOW')",
}


class Clock(Func):
    """What the clock says, as part of a query."""

    output_field = DateTimeField()

    def as_sql(self, compiler: Any, connection: Any, **context: Any) -> Any:  # type: ignore[override]  # narrower than typed
        return NOW[connection.vendor].replace("%", "%%"), ()


def database_now(using: str) -> datetime:
    """Return what the database's clock says."""
    connection = connections[using]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {NOW[connection.vendor]}")
        (value,) = cursor.fetchone()
    moment: datetime = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
