"""Say of an attempt how long its parts took, and how the body of the answer ended.

Cost: adds nullable columns, and one with a default in the database; no rewrite of the table on
PostgreSQL and MariaDB, a short lock. SQLite copies the table.
Old code on the new schema: works, leaves the columns empty.
New code on the old schema: fails when it stores an attempt; migrate before the workers are
replaced.
Backwards: drops the columns.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("drf_webhooks", "0004_delivery_leased_at"),
    ]

    operations = [
        migrations.AddField(
            model_name="attempt",
            name="answered_in",
            field=models.DurationField(
                help_text="From sending to the first byte.", null=True, verbose_name="answered in"
            ),
        ),
        migrations.AddField(
            model_name="attempt",
            name="connected_in",
            field=models.DurationField(
                help_text="With TLS.", null=True, verbose_name="connected in"
            ),
        ),
        migrations.AddField(
            model_name="attempt",
            name="looked_up_in",
            field=models.DurationField(null=True, verbose_name="looked up in"),
        ),
        migrations.AddField(
            model_name="attempt",
            name="response_end",
            field=models.CharField(
                blank=True,
                choices=[
                    ("whole", "whole"),
                    ("cut", "cut: there was more than is kept"),
                    ("broken", "broken off by the receiver, or by the time that it took"),
                ],
                db_default="",
                default="",
                help_text="Empty when no answer came.",
                max_length=8,
                verbose_name="response body is",
            ),
        ),
    ]
