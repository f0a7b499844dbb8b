"""Statements that the ORM has no words for: run one, read its rows, name a table."""

from typing import Any

from django.db import connections
from django.db.backends.utils import CursorWrapper

__all__ = ["execute", "fetch", "table_of"]


def table_of(using: str, model: Any) -> str:
    return str(connections[using].ops.quote_name(model._meta.db_table))


def execute(using: str, statement: str, parameters: list[Any]) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(statement, parameters)


def fetch(using: str, statement: str, parameters: list[Any]) -> list[Any]:
    cursor: CursorWrapper
    with connections[using].cursor() as cursor:
        # Without parameters drivers leave "%%" as it is; an empty list counts as none.
        cursor.execute(
            statement if parameters else statement.replace("%%", "%"), parameters or None
        )
        return list(cursor.fetchall())
