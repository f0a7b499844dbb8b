"""Indexes that Django has not."""

from typing import Any

from django.db import models

__all__ = ["SparseIndex"]


class SparseIndex(models.Index):
    """A partial index where the database has them, a whole one elsewhere.

    MariaDB and MySQL have none, and Django would leave the index out altogether. There the
    rows that it is not for, whose column is null, lie together at one end.
    """

    def create_sql(self, model: Any, schema_editor: Any, using: str = "", **kwargs: Any) -> Any:
        if schema_editor.connection.features.supports_partial_indexes:
            return super().create_sql(model, schema_editor, using, **kwargs)
        whole = models.Index(fields=self.fields, name=self.name)
        return whole.create_sql(model, schema_editor, using, **kwargs)
