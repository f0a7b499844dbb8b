"""Let endpoints take turns, keep first attempts from waiting behind retries, and keep order.

Cost: adds columns that are nullable or have a default of the database, which rewrites no table;
replaces one index of deliveries by three, partial ones save on MariaDB and MySQL. Building them
locks the table against writes for as long as it takes to read it.
Old code on the new schema: works, but sends to an endpoint with ordering in any order.
New code on the old schema: fails; migrate before the processes are replaced.
Backwards: drops the columns; what waited for its turn is sent in any order.
"""

import django.core.validators
import drf_webhooks.indexes
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("drf_webhooks", "0006_format_and_timing"),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name="delivery",
            name="drf_webhooks_delivery_due",
        ),
        migrations.AddField(
            model_name="delivery",
            name="lane",
            field=models.PositiveSmallIntegerField(
                choices=[(0, "First"), (1, "Retry"), (2, "Ordered"), (3, "By Hand")],
                db_default=0,
                default=0,
                editable=False,
            ),
        ),
        migrations.AddField(
            model_name="delivery",
            name="order_key",
            field=models.BigIntegerField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="delivery",
            name="sequence",
            field=models.BigIntegerField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="endpoint",
            name="concurrency",
            field=models.PositiveSmallIntegerField(
                blank=True,
                help_text="Requests in the air at once, for one worker; by default the setting.",
                null=True,
                validators=[django.core.validators.MinValueValidator(1)],
                verbose_name="concurrency",
            ),
        ),
        migrations.AddField(
            model_name="endpoint",
            name="on_dead",
            field=models.CharField(
                choices=[("skip", "go on with the next"), ("block", "keep the rest waiting")],
                db_default="skip",
                default="skip",
                help_text="With ordering: what becomes of the rest when one delivery is dead.",
                max_length=16,
                verbose_name="on dead",
            ),
        ),
        migrations.AddField(
            model_name="endpoint",
            name="ordering",
            field=models.CharField(
                choices=[("none", "none"), ("object", "by object")],
                db_default="none",
                default="none",
                help_text="Whether an event of an object waits for those before it.",
                max_length=16,
                verbose_name="ordering",
            ),
        ),
        migrations.AddField(
            model_name="endpoint",
            name="rate",
            field=models.FloatField(
                blank=True,
                help_text="Requests a second, of all workers together; by default the setting.",
                null=True,
                validators=[django.core.validators.MinValueValidator(0.01)],
                verbose_name="rate",
            ),
        ),
        migrations.AddField(
            model_name="endpoint",
            name="rate_from",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="event",
            name="object_hash",
            field=models.BigIntegerField(editable=False, null=True),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=drf_webhooks.indexes.SparseIndex(
                condition=models.Q(("due_at__isnull", False)),
                fields=["lane", "due_at"],
                name="drf_webhooks_delivery_lane",
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=drf_webhooks.indexes.SparseIndex(
                condition=models.Q(("due_at__isnull", False)),
                fields=["lane", "endpoint", "due_at"],
                name="drf_webhooks_delivery_turn",
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=drf_webhooks.indexes.SparseIndex(
                condition=models.Q(("order_key__isnull", False)),
                fields=["endpoint", "order_key", "sequence"],
                name="drf_webhooks_delivery_order",
            ),
        ),
    ]
