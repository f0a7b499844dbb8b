"""The SQL of the triggers: one function for each table, and a trigger for each verb."""

from typing import Any

from django.apps import apps
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import names_digest
from django.db.models import Model

from drf_webhooks.contrib.triggers.models import RowChange

__all__ = ["TRIGGERS", "body", "create", "drop", "function", "journal", "key_fields", "table_of"]

#: The names of the triggers of each table, by what they follow.
TRIGGERS = {
    "INSERT": "drf_webhooks_insert",
    "UPDATE": "drf_webhooks_update",
    "DELETE": "drf_webhooks_delete",
}

_TABLES = {
    "INSERT": "NEW TABLE AS new_rows",
    "UPDATE": "OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "DELETE": "OLD TABLE AS old_rows",
}
#: Of PostgreSQL, in bytes.
_LONGEST_NAME = 63
#: Functions of PostgreSQL take 100 arguments, and each column is two.
_COLUMNS = 40


def table_of(model: type[Model]) -> str:
    """Return the bare name of a model's table; ``db_table`` may smuggle a schema before it."""
    return model._meta.db_table.rpartition('"."')[2].strip('"')


def function(model: type[Model]) -> str:
    """Return the name of the function that a table's triggers call."""
    table = table_of(model)
    name = f"drf_webhooks_capture_{table}"
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    return f"drf_webhooks_capture_{names_digest(table, length=16)}"


def key_fields(model: type[Model]) -> list[Any]:
    """Return the fields of the primary key."""
    return list(model._meta.pk_fields)


def create(model: type[Model], connection: BaseDatabaseWrapper) -> list[str]:
    """Return the statements that make a table's triggers, or make them anew."""
    quote = connection.ops.quote_name
    name, table = quote(function(model)), quote(model._meta.db_table)
    # With the rights of who migrates, so that others need none on the journal, and therefore
    # with nothing in the search path that others could put there.
    making = (
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql "
        f"SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS "
        f"$drf_webhooks${body(model, connection, journal(connection))}$drf_webhooks$"
    )
    statements = [making]
    for verb, trigger in TRIGGERS.items():
        following = (
            f"CREATE TRIGGER {quote(trigger)} AFTER {verb} ON {table} "
            f"REFERENCING {_TABLES[verb]} FOR EACH STATEMENT EXECUTE FUNCTION {name}()"
        )
        statements += [f"DROP TRIGGER IF EXISTS {quote(trigger)} ON {table}", following]
    return statements


def drop(model: type[Model], connection: BaseDatabaseWrapper) -> list[str]:
    """Return the statements that remove a table's triggers."""
    quote = connection.ops.quote_name
    table = quote(model._meta.db_table)
    triggers = [f"DROP TRIGGER IF EXISTS {quote(each)} ON {table}" for each in TRIGGERS.values()]
    return [*triggers, f"DROP FUNCTION IF EXISTS {quote(function(model))}()"]


def body(model: type[Model], connection: BaseDatabaseWrapper, into: str) -> str:
    """Return what the function does, with the journal's name in SQL as ``into``.

    Only the columns of the primary key are named in a way that fails when they are gone; a
    column that is removed later is no reason for every write to fail.
    """
    quote = connection.ops.quote_name
    key = [each.column for each in key_fields(model)]
    joined = " AND ".join(f"o.{quote(each)} = n.{quote(each)}" for each in key)
    first = quote(key[0])
    columns = _kept(model)
    fields = ("transaction", "table", "operation", "key", "before", "after", "columns", "silent")
    names = ", ".join(quote(each) for each in fields)
    insert = f"INSERT INTO {into} ({names})"
    common = "SELECT pg_current_xact_id()::text, TG_TABLE_NAME"
    return f"""
DECLARE
  muted text := coalesce(current_setting('drf_webhooks.capture', true), '');
BEGIN
  IF muted = 'off' THEN
    RETURN NULL;
  END IF;
  IF TG_OP = 'INSERT' THEN
    {insert}
    {common}, 'insert', {_list(key, "r")}, NULL, {_object(columns, "r")}, '[]', muted
    FROM (SELECT to_jsonb(n) AS r FROM new_rows n) rows;
  ELSIF TG_OP = 'DELETE' THEN
    {insert}
    {common}, 'delete', {_list(key, "r")}, {_object(columns, "r")}, NULL, '[]', muted
    FROM (SELECT to_jsonb(o) AS r FROM old_rows o) rows;
  ELSE
    {insert}
    {common},
      CASE WHEN is_new THEN 'insert' WHEN is_gone THEN 'delete' ELSE 'update' END,
      CASE WHEN is_gone THEN {_list(key, "p")} ELSE {_list(key, "r")} END,
      CASE WHEN NOT is_new THEN {_object(columns, "p")} END,
      CASE WHEN NOT is_gone THEN {_object(columns, "r")} END,
      CASE WHEN is_new OR is_gone THEN '[]' ELSE coalesce((
        SELECT jsonb_agg(name) FROM jsonb_object_keys(r) AS name
        WHERE r -> name IS DISTINCT FROM p -> name
      ), '[]') END,
      muted
    FROM (
      SELECT to_jsonb(o) AS p, to_jsonb(n) AS r,
        o.{first} IS NULL AS is_new, n.{first} IS NULL AS is_gone
      FROM old_rows o FULL JOIN new_rows n ON {joined}
      WHERE o.{first} IS NULL OR n.{first} IS NULL OR o *<> n
      ORDER BY n.{first} IS NOT NULL
    ) rows;
  END IF;
  RETURN NULL;
END
"""  # noqa: S608  # names of models, quoted


def journal(connection: BaseDatabaseWrapper) -> str:
    """Return the journal's table with its schema, in SQL."""
    quote = connection.ops.quote_name
    name = quote(RowChange._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce((SELECT relnamespace::regnamespace::text FROM pg_class "
            "WHERE oid = to_regclass(%s)), quote_ident(current_schema()))",
            [name],
        )
        (schema,) = cursor.fetchone()
    return f"{schema}.{name}"


def _kept(model: type[Model]) -> list[str]:
    """Return the columns that say what a row is and under which rows it hangs."""
    fields: list[Any] = list(model._meta.local_concrete_fields)
    keys = {each.name for each in key_fields(model)} | _generic(model)
    return [each.column for each in fields if each.name in keys or each.remote_field]


def _generic(model: type[Model]) -> set[str]:
    """Return the fields that hold generic keys; the models of migrations do not know them."""
    try:
        today = apps.get_model(model._meta.app_label, str(model._meta.model_name))
    except LookupError:
        return set()
    found: list[Any] = list(today._meta.private_fields)
    return {each.fk_field for each in found if hasattr(each, "fk_field")}


def _list(columns: list[str], row: str) -> str:
    return f"jsonb_build_array({', '.join(f'{row} -> {_text(each)}' for each in columns)})"


def _object(columns: list[str], row: str) -> str:
    lots = [columns[start : start + _COLUMNS] for start in range(0, len(columns), _COLUMNS)]
    return " || ".join(
        f"jsonb_build_object({', '.join(f'{_text(e)}, {row} -> {_text(e)}' for e in lot)})"
        for lot in lots
    )


def _text(value: str) -> str:
    # A backslash has a meaning only in E'' strings.
    return "'" + value.replace("'", "''") + "'"
