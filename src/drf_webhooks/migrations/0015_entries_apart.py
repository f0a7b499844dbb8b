"""Keep apart what PostgreSQL puts together in the indexes of what is due.

Deliveries that become due in the same moment, as those of one bulk update do, would share an
entry, which stays until the last of them is sent. Each claim would walk past all that were sent
before.

Cost: none; takes a lock for an instant, and holds for entries that are made from now on.
Does nothing on other databases.
Old code on the new schema: works.
New code on the old schema: works; claims among very many deliveries of one moment are slow.
Backwards: lets new entries be put together again.
"""

from functools import partial
from typing import Any

from django.db import migrations

_INDEXES = ("drf_webhooks_delivery_lane", "drf_webhooks_delivery_turn")


def _alter(how: str, _: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor != "postgresql":
        return
    for each in _INDEXES:
        schema_editor.execute(f"ALTER INDEX IF EXISTS {schema_editor.quote_name(each)} {how}")


class Migration(migrations.Migration):
    dependencies = [("drf_webhooks", "0014_delivery_page")]

    operations = [
        migrations.RunPython(
            partial(_alter, "SET (deduplicate_items = off)"),
            partial(_alter, "RESET (deduplicate_items)"),
        ),
    ]
