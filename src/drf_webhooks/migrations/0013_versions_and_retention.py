"""Let endpoints have versions of their own and thin messages, and events their own retention.

Cost: adds a table, nullable columns, and some with a constant default that the database keeps,
which rewrites no table (SQLite: copies those of endpoints, events and deliveries); a short lock
on each. The index on events has no rows yet: on PostgreSQL it is made by one scan of the table,
which blocks writes to it meanwhile.
Old code on the new schema: works, ignores the columns; workers of it send each endpoint the
event's own message, so replace them before versions or thin messages are declared.
New code on the old schema: fails; migrate before the processes are replaced.
Backwards: drops the columns and the table. What still waits is sent in the event's own version,
and what had a retention of its own is kept as the settings say.
"""

import django.db.models.deletion
import drf_webhooks.fields
import drf_webhooks.indexes
import drf_webhooks.validators
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("drf_webhooks", "0012_api"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="EventBody",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "variant",
                    drf_webhooks.fields.ExactCharField(max_length=37, verbose_name="variant"),
                ),
                ("body", models.BinaryField(verbose_name="body")),
            ],
            options={
                "verbose_name": "body of an event",
                "verbose_name_plural": "bodies of events",
            },
        ),
        migrations.AddField(
            model_name="delivery",
            name="variant",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                editable=False,
                help_text="Which of the event's messages is sent: empty for its own body.",
                max_length=37,
                verbose_name="variant",
            ),
        ),
        migrations.AddField(
            model_name="endpoint",
            name="is_thin",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="To be told only which object it is, and to fetch the rest.",
                verbose_name="thin messages",
            ),
        ),
        migrations.AddField(
            model_name="endpoint",
            name="version",
            field=drf_webhooks.fields.ExactCharField(
                blank=True,
                db_default="",
                default="",
                help_text="Of the messages that it gets; by default the one for new endpoints.",
                max_length=32,
                validators=[drf_webhooks.validators.validate_version],
                verbose_name="version",
            ),
        ),
        migrations.AddField(
            model_name="event",
            name="headers",
            field=models.JSONField(
                help_text="What its resource sends beside the message.",
                null=True,
                verbose_name="headers",
            ),
        ),
        migrations.AddField(
            model_name="event",
            name="kept_until",
            field=models.DateTimeField(
                help_text="If its resource says so, and not the settings.",
                null=True,
                verbose_name="kept until",
            ),
        ),
        migrations.AddField(
            model_name="event",
            name="version",
            field=drf_webhooks.fields.ExactCharField(
                blank=True,
                db_default="",
                default="",
                help_text="Of its message; others may get it in another one.",
                max_length=32,
                verbose_name="version",
            ),
        ),
        migrations.AddIndex(
            model_name="event",
            index=drf_webhooks.indexes.SparseIndex(
                condition=models.Q(("kept_until__isnull", False)),
                fields=["kept_until"],
                name="drf_webhooks_event_until",
            ),
        ),
        migrations.AddField(
            model_name="eventbody",
            name="event",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="bodies",
                to="drf_webhooks.event",
                verbose_name="event",
            ),
        ),
        migrations.AddConstraint(
            model_name="eventbody",
            constraint=models.UniqueConstraint(
                fields=("event", "variant"), name="drf_webhooks_eventbody_once"
            ),
        ),
    ]
