"""Give owners a feed, recoveries and verifications, and note whether answers came from outside.

Cost: three new tables; nullable columns without a default for deliveries and attempts, which
rewrite no table (SQLite: copies both). The index of deliveries by endpoint is built again with
the place in the feed in it, under a lock against writes for as long as it takes to read the
table, and the old one is dropped.
Old code on the new schema: works, ignores the columns.
New code on the old schema: fails; migrate before the processes are replaced.
Backwards: drops them. Receivers that read a feed begin anew, and recoveries that are under way
end where they are; endpoints that wait for their verification stay disabled.
"""

import django.db.models.deletion
import drf_webhooks.ids
import drf_webhooks.indexes
import drf_webhooks.scoping
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("drf_webhooks", "0011_origins_and_transfers"),
        migrations.swappable_dependency(drf_webhooks.scoping.owner_model()),
    ]

    operations = [
        migrations.CreateModel(
            name="Feed",
            fields=[
                (
                    "endpoint",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="drf_webhooks.endpoint",
                        verbose_name="endpoint",
                    ),
                ),
                ("last", models.BigIntegerField(default=0, verbose_name="last position")),
            ],
            options={
                "verbose_name": "feed",
                "verbose_name_plural": "feeds",
            },
        ),
        migrations.CreateModel(
            name="Recovery",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=drf_webhooks.ids.uuid7,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("failed", "what is dead"), ("missing", "what was never heard")],
                        max_length=16,
                        verbose_name="kind",
                    ),
                ),
                ("since", models.DateTimeField(verbose_name="since")),
                ("until", models.DateTimeField(verbose_name="until")),
                (
                    "is_anew",
                    models.BooleanField(
                        default=False,
                        help_text="Say new events of the objects as they are now.",
                        verbose_name="anew",
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "waiting"),
                            ("running", "running"),
                            ("done", "done"),
                            ("cancelled", "cancelled"),
                            ("failed", "failed"),
                        ],
                        default="waiting",
                        max_length=16,
                        verbose_name="state",
                    ),
                ),
                ("due_at", models.DateTimeField(null=True, verbose_name="due at")),
                ("turn", models.PositiveIntegerField(default=0, verbose_name="turn")),
                (
                    "tries",
                    models.PositiveIntegerField(
                        default=0, help_text="Since it last came on.", verbose_name="tries"
                    ),
                ),
                (
                    "expected",
                    models.BigIntegerField(
                        help_text="How much there is to look at. None: not known.",
                        null=True,
                        verbose_name="expected",
                    ),
                ),
                ("looked_at", models.BigIntegerField(default=0, verbose_name="looked at")),
                ("replayed", models.BigIntegerField(default=0, verbose_name="replayed")),
                ("last_at", models.DateTimeField(null=True, verbose_name="came to")),
                (
                    "last_key",
                    models.CharField(blank=True, default="", editable=False, max_length=40),
                ),
                (
                    "error",
                    models.CharField(blank=True, default="", max_length=300, verbose_name="error"),
                ),
                ("created_at", models.DateTimeField(verbose_name="created at")),
                ("started_at", models.DateTimeField(null=True, verbose_name="started at")),
                ("ended_at", models.DateTimeField(null=True, verbose_name="ended at")),
            ],
            options={
                "verbose_name": "recovery",
                "verbose_name_plural": "recoveries",
            },
        ),
        migrations.CreateModel(
            name="Verification",
            fields=[
                (
                    "endpoint",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="verification",
                        serialize=False,
                        to="drf_webhooks.endpoint",
                        verbose_name="endpoint",
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "pending"),
                            ("verified", "verified"),
                            ("failed", "failed"),
                        ],
                        default="pending",
                        max_length=16,
                        verbose_name="state",
                    ),
                ),
                (
                    "delivery",
                    models.BigIntegerField(help_text="The one that asks.", verbose_name="delivery"),
                ),
                (
                    "error",
                    models.CharField(
                        blank=True, default="", max_length=300, verbose_name="why not"
                    ),
                ),
                ("asked_at", models.DateTimeField(verbose_name="asked at")),
                ("settled_at", models.DateTimeField(null=True, verbose_name="settled at")),
            ],
            options={
                "verbose_name": "verification",
                "verbose_name_plural": "verifications",
            },
        ),
        migrations.AddField(
            model_name="attempt",
            name="is_public",
            field=models.BooleanField(
                help_text="Whether the address that answered is on it. None: not known.",
                null=True,
                verbose_name="from the public internet",
            ),
        ),
        migrations.AddField(
            model_name="delivery",
            name="position",
            field=models.BigIntegerField(editable=False, null=True),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(fields=["endpoint", "position"], name="drf_webhooks_delivery_feed"),
        ),
        migrations.AlterField(
            model_name="delivery",
            name="endpoint",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="deliveries",
                to="drf_webhooks.endpoint",
                verbose_name="endpoint",
            ),
        ),
        migrations.AddField(
            model_name="recovery",
            name="endpoint",
            field=models.ForeignKey(
                help_text="None for all of the owner's.",
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="drf_webhooks.endpoint",
                verbose_name="endpoint",
            ),
        ),
        migrations.AddField(
            model_name="recovery",
            name="owner",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to=drf_webhooks.scoping.owner_model(),
                verbose_name="owner",
            ),
        ),
        migrations.AddIndex(
            model_name="verification",
            index=drf_webhooks.indexes.SparseIndex(
                condition=models.Q(("settled_at__isnull", True)),
                fields=["settled_at", "asked_at"],
                name="drf_webhooks_verification_due",
            ),
        ),
        migrations.AddIndex(
            model_name="recovery",
            index=drf_webhooks.indexes.SparseIndex(
                condition=models.Q(("due_at__isnull", False)),
                fields=["due_at"],
                name="drf_webhooks_recovery_due",
            ),
        ),
    ]
