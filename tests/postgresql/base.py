"""Empties tables after a test by ``DELETE``: ``TRUNCATE`` makes new files for each of them."""

from typing import Any

from django.db.backends.postgresql import base, operations

__all__ = ["DatabaseWrapper"]


class DatabaseOperations(operations.DatabaseOperations):
    def sql_flush(
        self,
        style: Any,
        tables: Any,
        *,
        reset_sequences: bool = False,
        allow_cascade: bool = False,
    ) -> list[str]:
        """Empty the tables in any order: Django's foreign keys are checked at the commit."""
        if reset_sequences:
            return super().sql_flush(
                style, tables, reset_sequences=True, allow_cascade=allow_cascade
            )
        return [f"DELETE FROM {self.quote_name(table)}" for table in tables]  # noqa: S608  # our own tables


class DatabaseWrapper(base.DatabaseWrapper):
    ops_class = DatabaseOperations
