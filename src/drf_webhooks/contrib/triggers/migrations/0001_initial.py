"""Keep what triggers saw.

Cost: adds a table; touches no other. The triggers are made by your own migrations, with
``CaptureRows``.
Old code on the new schema: works, ignores the table.
New code on the old schema: fails when it records events on PostgreSQL; migrate before the
processes are replaced.
Backwards: drops the table. Every write to a table that still has triggers would then fail:
reverse the migrations that have ``CaptureRows`` first.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="RowChange",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "transaction",
                    models.CharField(
                        db_index=True,
                        help_text="The database's own number of it, as text.",
                        max_length=20,
                        verbose_name="transaction",
                    ),
                ),
                ("table", models.CharField(max_length=63, verbose_name="table")),
                (
                    "operation",
                    models.CharField(
                        choices=[
                            ("insert", "insert"),
                            ("update", "update"),
                            ("delete", "delete"),
                        ],
                        max_length=6,
                        verbose_name="operation",
                    ),
                ),
                (
                    "key",
                    models.JSONField(
                        help_text="The values of the primary key, in a list.", verbose_name="key"
                    ),
                ),
                (
                    "before",
                    models.JSONField(
                        help_text="The keys that the row held, by column.",
                        null=True,
                        verbose_name="before",
                    ),
                ),
                (
                    "after",
                    models.JSONField(
                        help_text="The keys that the row holds, by column.",
                        null=True,
                        verbose_name="after",
                    ),
                ),
                (
                    "columns",
                    models.JSONField(
                        default=list,
                        help_text="Which ones an update changed.",
                        verbose_name="columns",
                    ),
                ),
                (
                    "silent",
                    models.TextField(
                        default="",
                        help_text="Resources that were disabled, by base_name.",
                        verbose_name="silent",
                    ),
                ),
            ],
            options={
                "verbose_name": "row change",
                "verbose_name_plural": "row changes",
            },
        ),
    ]
