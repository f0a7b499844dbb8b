"""Choose for an endpoint how it is sent to, and say of an attempt where its time went.

Cost: adds columns that are nullable or have a default in the database; no rewrite of a table on
PostgreSQL and MariaDB, a short lock of each; the constraint reads the endpoints. SQLite copies
both tables.
Old code on the new schema: works, sends JSON by POST without custom headers, leaves the columns
of attempts empty.
New code on the old schema: fails when it claims and when it stores an attempt; migrate before the
processes are replaced.
Backwards: drops the columns, and with them the custom headers.
"""

import drf_webhooks.fields
import drf_webhooks.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("drf_webhooks", "0005_endpoint_health")]

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
        migrations.AddField(
            model_name="endpoint",
            name="format",
            field=models.CharField(
                db_default="json",
                default="json",
                help_text="json, xml, cloudevents, or one of the project's own.",
                max_length=40,
                validators=[drf_webhooks.validators.validate_format],
                verbose_name="format",
            ),
        ),
        migrations.AddField(
            model_name="endpoint",
            name="headers",
            field=drf_webhooks.fields.HeadersField(
                blank=True,
                db_default="",
                default=dict,
                help_text="Like X-Api-Key: value, one a line. Values are not shown again.",
                verbose_name="custom headers",
            ),
        ),
        migrations.AddField(
            model_name="endpoint",
            name="method",
            field=models.CharField(
                choices=[("POST", "POST"), ("PUT", "PUT"), ("PATCH", "PATCH")],
                db_default="POST",
                default="POST",
                max_length=8,
                verbose_name="method",
            ),
        ),
        migrations.AddConstraint(
            model_name="endpoint",
            constraint=models.CheckConstraint(
                condition=models.Q(("method__in", ["POST", "PUT", "PATCH"])),
                name="drf_webhooks_endpoint_method",
            ),
        ),
    ]
