"""Let operators replay what failed.

Cost: adds a nullable column without a default, which rewrites no table, and a partial index of
dead deliveries; on MariaDB and MySQL a whole one. Building it takes a lock against writes for
as long as it takes to read the table of deliveries.
Old code on the new schema: works, ignores the column.
New code on the old schema: fails at the first delivery; migrate before the processes are
replaced.
Backwards: drops the column; what was said anew may be said anew once more.
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
        migrations.AddIndex(
            model_name="delivery",
            index=drf_webhooks.models.SparseIndex(
                condition=models.Q(("state", "dead")),
                fields=["state", "settled_at"],
                name="drf_webhooks_delivery_dead",
            ),
        ),
    ]
