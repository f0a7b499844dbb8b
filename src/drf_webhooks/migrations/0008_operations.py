"""Let operators replay what failed, and forget what is old.

Cost: adds nullable columns without a default, which rewrites no table, and two partial indexes,
of dead deliveries and of events whose message is kept; on MariaDB and MySQL whole ones.
Building each takes a lock against writes for as long as it takes to read its table.
Old code on the new schema: works, ignores the columns.
New code on the old schema: fails at the first event; migrate before the processes are replaced.
Backwards: drops the columns; what was said anew may be said anew once more.
"""

import drf_webhooks.models
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("drf_webhooks", "0003_event_recheck_at")]

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
        migrations.AddIndex(
            model_name="event",
            index=drf_webhooks.models.SparseIndex(
                condition=models.Q(("retired_at__isnull", True)),
                fields=["retired_at", "created_at"],
                name="drf_webhooks_event_kept",
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=drf_webhooks.models.SparseIndex(
                condition=models.Q(("state", "dead")),
                fields=["state", "settled_at"],
                name="drf_webhooks_delivery_dead",
            ),
        ),
    ]
