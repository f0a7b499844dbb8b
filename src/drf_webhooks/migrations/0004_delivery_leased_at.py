"""Note when a worker took a delivery, so that the log tells of a worker that was lost.

Cost: adds a nullable column without a default; no rewrite of the table, a short lock.
Old code on the new schema: works, ignores the column.
New code on the old schema: fails; migrate before the workers are replaced.
Backwards: drops the column; attempts of workers that are lost are not logged.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("drf_webhooks", "0003_event_recheck_at")]

    operations = [
        migrations.AddField(
            model_name="delivery",
            name="leased_at",
            field=models.DateTimeField(null=True, verbose_name="leased at"),
        ),
    ]
