"""Remember how endpoints are: pauses, warnings, what is to be said; and deliveries by hand.

Cost: adds two tables, a nullable column of endpoints, and a column of deliveries with a constant
default, which rewrites no table on PostgreSQL, MariaDB and MySQL; SQLite copies the table.
Old code on the new schema: works, pauses nothing and charges nothing.
New code on the old schema: fails; migrate before the workers are replaced.
Backwards: drops what is remembered; every endpoint counts as well, and notices that nobody has
got are lost.
"""

import django.db.models.deletion
import drf_webhooks.indexes
import drf_webhooks.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("drf_webhooks", "0004_delivery_leased_at"),
    ]

    operations = [
        migrations.CreateModel(
            name="EndpointHealth",
            fields=[
                (
                    "endpoint",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="health",
                        serialize=False,
                        to="drf_webhooks.endpoint",
                        verbose_name="endpoint",
                    ),
                ),
                (
                    "is_clean",
                    models.BooleanField(
                        default=True,
                        help_text="A success would change nothing.",
                        verbose_name="is clean",
                    ),
                ),
                (
                    "failures",
                    models.PositiveIntegerField(default=0, verbose_name="failures in a row"),
                ),
                (
                    "window_started_at",
                    models.DateTimeField(null=True, verbose_name="window started at"),
                ),
                (
                    "window_total",
                    models.PositiveIntegerField(default=0, verbose_name="results in the window"),
                ),
                (
                    "window_failures",
                    models.PositiveIntegerField(default=0, verbose_name="failures in the window"),
                ),
                (
                    "failing_since",
                    models.DateTimeField(
                        help_text="The first failure since the last success.",
                        null=True,
                        verbose_name="failing since",
                    ),
                ),
                ("failed_at", models.DateTimeField(null=True, verbose_name="failed at")),
                (
                    "warned",
                    models.PositiveSmallIntegerField(default=0, verbose_name="warnings given"),
                ),
                ("warned_at", models.DateTimeField(null=True, verbose_name="warned at")),
                (
                    "openings",
                    models.PositiveIntegerField(default=0, verbose_name="pauses in a row"),
                ),
                ("paused_until", models.DateTimeField(null=True, verbose_name="paused until")),
                ("ramp", models.PositiveIntegerField(null=True, verbose_name="at once")),
                ("round", models.PositiveIntegerField(default=0, verbose_name="round")),
                (
                    "round_left",
                    models.PositiveIntegerField(default=0, verbose_name="results to come"),
                ),
                ("types", models.JSONField(default=dict, verbose_name="failing event types")),
            ],
            options={
                "verbose_name": "health",
                "verbose_name_plural": "health",
            },
        ),
        migrations.AddField(
            model_name="delivery",
            name="is_by_hand",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="A person asked for this attempt: sent at once, and not charged.",
                verbose_name="by hand",
            ),
        ),
        migrations.AddField(
            model_name="endpoint",
            name="overrides",
            field=models.JSONField(
                blank=True,
                default=dict,
                help_text='Settings of its own, durations in seconds: {"MAX_AGE": 3600}.',
                null=True,
                validators=[drf_webhooks.validators.validate_overrides],
                verbose_name="overrides",
            ),
        ),
        migrations.CreateModel(
            name="Notice",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("failing", "failing"),
                            ("type_failing", "event type failing"),
                            ("disabled", "disabled"),
                            ("enabled", "enabled"),
                        ],
                        max_length=16,
                        verbose_name="kind",
                    ),
                ),
                (
                    "reason",
                    models.CharField(blank=True, default="", max_length=300, verbose_name="reason"),
                ),
                (
                    "event_type",
                    models.CharField(
                        blank=True, default="", max_length=200, verbose_name="event type"
                    ),
                ),
                ("failing_since", models.DateTimeField(null=True, verbose_name="failing since")),
                ("created_at", models.DateTimeField(verbose_name="created at")),
                (
                    "due_at",
                    models.DateTimeField(
                        help_text="None when everybody has it.", null=True, verbose_name="due at"
                    ),
                ),
                ("tries", models.PositiveIntegerField(default=0, verbose_name="tries")),
                (
                    "error",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="Of the last try.",
                        max_length=300,
                        verbose_name="error",
                    ),
                ),
                ("is_recorded", models.BooleanField(default=False, verbose_name="has its events")),
                ("is_signalled", models.BooleanField(default=False, verbose_name="has its signal")),
                (
                    "endpoint",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="notices",
                        to="drf_webhooks.endpoint",
                        verbose_name="endpoint",
                    ),
                ),
            ],
            options={
                "verbose_name": "notice",
                "verbose_name_plural": "notices",
                "indexes": [
                    drf_webhooks.indexes.SparseIndex(
                        condition=models.Q(("due_at__isnull", False)),
                        fields=["due_at"],
                        name="drf_webhooks_notice_due",
                    )
                ],
            },
        ),
    ]
