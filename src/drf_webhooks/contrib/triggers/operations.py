"""What a project writes into its own migrations."""

from typing import Any

from django.db.migrations.operations.base import Operation
from django.db.models import Model

from drf_webhooks.contrib.triggers import definitions

__all__ = ["CaptureRows"]


class CaptureRows(Operation):
    """Let the database journal which rows of a model's table change.

    Does nothing on other databases than PostgreSQL. May be repeated when the model's keys have
    changed: it replaces the triggers. Backwards it removes them.

    Args:
        model_name: A model of the migration's app, or of another one as ``app_label.Model``.
            The table of a many-to-many field without a model of its own is named like
            ``RentalUnit_tags``.

    """

    reduces_to_sql = True
    reversible = True

    def __init__(self, model_name: str) -> None:
        self.model_name = model_name

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Change nothing: models do not know of triggers."""

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        model = self._model(app_label, schema_editor, to_state)
        if model is not None:
            self._run(definitions.create(model, schema_editor.connection), schema_editor)

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        model = self._model(app_label, schema_editor, to_state)
        if model is not None:
            self._run(definitions.drop(model, schema_editor.connection), schema_editor)

    def describe(self) -> str:
        return f"Capture the rows of {self.model_name}"

    @property
    def migration_name_fragment(self) -> str:
        return f"capture_{self.model_name.replace('.', '_').lower()}"

    def _model(self, app_label: str, schema_editor: Any, state: Any) -> type[Model] | None:
        label = self.model_name if "." in self.model_name else f"{app_label}.{self.model_name}"
        model: type[Model] = state.apps.get_model(label)
        connection = schema_editor.connection
        is_ours = connection.vendor == "postgresql"
        return model if is_ours and self.allow_migrate_model(connection.alias, model) else None

    def _run(self, statements: list[str], schema_editor: Any) -> None:
        for each in statements:
            # Without parameters: a per cent sign in a name stays what it is.
            schema_editor.execute(each, params=None)
