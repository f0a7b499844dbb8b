"""Note where a change comes from, and since when an endpoint is its owner's.

Cost: adds nullable columns, and some with a constant default that the database keeps, which
rewrites no table (SQLite: copies those of endpoints and events); a short lock on each.
Old code on the new schema: works, ignores the columns.
New code on the old schema: fails; migrate before the processes are replaced.
Backwards: drops the columns. Who has been given an endpoint sees what was sent to it before,
an endpoint hears of its own changes again, and chains that are under way are counted anew.
"""

import drf_webhooks.origins
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("drf_webhooks", "0010_secrets")]

    operations = [
        migrations.AddField(
            model_name="endpoint",
            name="ignores_own_changes",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="Not to be told of what was changed by who is behind it.",
                verbose_name="ignores its own changes",
            ),
        ),
        migrations.AddField(
            model_name="endpoint",
            name="owned_since",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="event",
            name="depth",
            field=models.PositiveSmallIntegerField(
                db_default=0,
                default=drf_webhooks.origins.depth,
                help_text="How many webhooks led to the change.",
                verbose_name="depth",
            ),
        ),
        migrations.AddField(
            model_name="event",
            name="origin",
            field=models.CharField(
                blank=True,
                db_default="",
                default=drf_webhooks.origins.text,
                help_text="Who changed the object, and how.",
                max_length=200,
                verbose_name="origin",
            ),
        ),
        migrations.AddField(
            model_name="event",
            name="origin_endpoint",
            field=models.UUIDField(
                default=drf_webhooks.origins.endpoint,
                help_text="The endpoint behind which is who made the change.",
                null=True,
                verbose_name="made by",
            ),
        ),
    ]
