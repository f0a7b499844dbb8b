"""Let operators replay what failed, forget what is old, and follow a change's trace.

Cost: adds nullable columns, and one with a constant default that the database keeps, which
rewrites no table (SQLite: copies that of events); and two partial indexes,
of dead deliveries and of events whose message is kept; on MariaDB and MySQL whole ones.
Building each takes a lock against writes for as long as it takes to read its table.
Old code on the new schema: works, ignores the columns.
New code on the old schema: fails at the first event; migrate before the processes are replaced.
Backwards: drops the columns; what was said anew may be said anew once more.
"""

import drf_webhooks.indexes
import drf_webhooks.trace_context
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("drf_webhooks", "0007_fair_and_ordered")]

    operations = [
        migrations.AddField(
            model_name="delivery",
            name="replaced_by",
            field=models.UUIDField(
                help_text="The event that says the same anew.",
                null=True,
                verbose_name="replaced by",
            ),
        ),
        migrations.AddField(
            model_name="event",
            name="retired_at",
            field=models.DateTimeField(
                help_text="Since when its message is not kept any more.",
                null=True,
                verbose_name="retired at",
            ),
        ),
        migrations.AddField(
            model_name="event",
            name="traceparent",
            field=models.CharField(
                blank=True,
                db_default="",
                default=drf_webhooks.trace_context.traceparent,
                help_text="The trace of the change, as W3C writes it.",
                max_length=55,
                verbose_name="trace",
            ),
        ),
        migrations.AddIndex(
            model_name="event",
            index=drf_webhooks.indexes.SparseIndex(
                condition=models.Q(("retired_at__isnull", True)),
                fields=["retired_at", "created_at"],
                name="drf_webhooks_event_kept",
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=drf_webhooks.indexes.SparseIndex(
                condition=models.Q(("state", "dead")),
                fields=["state", "settled_at"],
                name="drf_webhooks_delivery_dead",
            ),
        ),
    ]
