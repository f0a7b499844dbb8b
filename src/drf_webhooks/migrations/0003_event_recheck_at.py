"""Look at an object once more after its event, for what was done at the same time.

Cost: adds a nullable column without a default, which rewrites no table, and a partial index;
on MariaDB and MySQL a whole one. Building it takes a lock against writes for as long as it
takes to read the table of events.
Old code on the new schema: works, looks at nothing once more.
New code on the old schema: fails at the first event; migrate before the processes are replaced.
Backwards: drops the column; what was not looked at yet is not looked at.
"""

import drf_webhooks.indexes
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("drf_webhooks", "0002_learntpath")]

    operations = [
        migrations.AddField(
            model_name="event",
            name="recheck_at",
            field=models.DateTimeField(
                help_text="When the object is compared with what this event said of it.",
                null=True,
                verbose_name="recheck at",
            ),
        ),
        migrations.AddIndex(
            model_name="event",
            index=drf_webhooks.indexes.SparseIndex(
                condition=models.Q(("recheck_at__isnull", False)),
                fields=["recheck_at"],
                name="drf_webhooks_event_recheck",
            ),
        ),
    ]
