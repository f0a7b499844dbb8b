"""Keep what was learnt of code that no tree shows.

Cost: adds a table; touches no other.
Old code on the new schema: works, ignores the table.
New code on the old schema: learns for each process alone until it has something to store,
which then fails; migrate before the processes are replaced.
Backwards: drops the table; every process learns anew.
"""

import drf_webhooks.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("drf_webhooks", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="LearntPath",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "resource",
                    drf_webhooks.fields.ExactCharField(max_length=200, verbose_name="resource"),
                ),
                (
                    "spelling",
                    drf_webhooks.fields.ExactCharField(max_length=400, verbose_name="spelling"),
                ),
                ("learnt_at", models.DateTimeField(auto_now_add=True, verbose_name="learnt at")),
            ],
            options={"verbose_name": "learnt path", "verbose_name_plural": "learnt paths"},
        ),
        migrations.AddConstraint(
            model_name="learntpath",
            constraint=models.UniqueConstraint(
                fields=("resource", "spelling"), name="drf_webhooks_learntpath_once"
            ),
        ),
    ]
