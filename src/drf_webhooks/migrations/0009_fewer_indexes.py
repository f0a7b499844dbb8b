"""Keep fewer indexes of what is written for each event and each delivery.

Cost: drops two indexes, and builds one of events that are held, which are few; on MariaDB and
MySQL of all events. Building it takes a lock against writes for as long as it takes to read the
table.
Old code on the new schema: works.
New code on the old schema: works, and writes more.
Backwards: builds the two again.
"""

import django.db.models.deletion
import drf_webhooks.indexes
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("drf_webhooks", "0008_operations")]

    operations = [
        migrations.AlterField(
            model_name="delivery",
            name="event",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="deliveries",
                to="drf_webhooks.event",
                verbose_name="event",
            ),
        ),
        migrations.AlterField(
            model_name="event",
            name="held_until",
            field=models.DateTimeField(null=True, verbose_name="held until"),
        ),
        migrations.AddIndex(
            model_name="event",
            index=drf_webhooks.indexes.SparseIndex(
                condition=models.Q(("held_until__isnull", False)),
                fields=["held_until"],
                name="drf_webhooks_event_held",
            ),
        ),
    ]
