"""Make the tables of the outbox.

Cost: creates tables; touches no other, save for a foreign key to the owner model.
Backwards: drops the tables with everything that waits in them.

The owner model is ``DRF_WEBHOOKS["OWNER_MODEL"]``, read when this runs, as a custom user is.
"""

import django.db.models.deletion
import drf_webhooks.fields
import drf_webhooks.ids
import drf_webhooks.indexes
import drf_webhooks.models
import drf_webhooks.secret_keys
import drf_webhooks.validators
from django.db import migrations, models


OWNER = drf_webhooks.models.owner_model()


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(OWNER),
    ]

    operations = [
        migrations.CreateModel(
            name="Delivery",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "waiting"),
                            ("delivered", "delivered"),
                            ("dead", "dead"),
                        ],
                        default="waiting",
                        max_length=16,
                        verbose_name="state",
                    ),
                ),
                ("due_at", models.DateTimeField(null=True, verbose_name="due at")),
                ("fence", models.PositiveIntegerField(default=0, verbose_name="fence")),
                ("attempt_count", models.PositiveIntegerField(default=0, verbose_name="attempts")),
                (
                    "reason",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="Why it is dead.",
                        max_length=200,
                        verbose_name="reason",
                    ),
                ),
                ("created_at", models.DateTimeField(verbose_name="created at")),
                ("settled_at", models.DateTimeField(null=True, verbose_name="settled at")),
            ],
            options={
                "verbose_name": "delivery",
                "verbose_name_plural": "deliveries",
            },
        ),
        migrations.CreateModel(
            name="BaseObject",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("resource", drf_webhooks.fields.ExactCharField(max_length=200)),
                ("object_key", drf_webhooks.fields.ExactCharField(max_length=400)),
                ("sequence", models.BigIntegerField()),
            ],
            options={
                "verbose_name": "base object",
                "verbose_name_plural": "base objects",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("resource", "object_key"), name="drf_webhooks_baseobject_once"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Attempt",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "number",
                    models.PositiveIntegerField(help_text="Counts from 1.", verbose_name="number"),
                ),
                ("started_at", models.DateTimeField(verbose_name="started at")),
                ("duration", models.DurationField(verbose_name="duration")),
                ("url", models.CharField(max_length=2048, verbose_name="URL")),
                (
                    "status",
                    models.PositiveSmallIntegerField(
                        help_text="None when no answer came.", null=True, verbose_name="status"
                    ),
                ),
                (
                    "error",
                    models.CharField(blank=True, default="", max_length=40, verbose_name="error"),
                ),
                (
                    "detail",
                    models.CharField(blank=True, default="", max_length=500, verbose_name="detail"),
                ),
                (
                    "response_headers",
                    models.JSONField(default=list, verbose_name="response headers"),
                ),
                ("response_body", models.BinaryField(default=b"", verbose_name="response body")),
                (
                    "delivery",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="attempts",
                        to="drf_webhooks.delivery",
                        verbose_name="delivery",
                    ),
                ),
            ],
            options={
                "verbose_name": "attempt",
                "verbose_name_plural": "attempts",
            },
        ),
        migrations.CreateModel(
            name="Endpoint",
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
                    "url",
                    models.CharField(
                        max_length=2048,
                        validators=[drf_webhooks.validators.validate_url],
                        verbose_name="URL",
                    ),
                ),
                (
                    "event_types",
                    drf_webhooks.fields.EventTypesField(
                        default=list,
                        help_text="Like core.deposit.created, core.deposit.* or *, one a line.",
                        verbose_name="event types",
                    ),
                ),
                (
                    "description",
                    models.CharField(blank=True, max_length=200, verbose_name="description"),
                ),
                (
                    "secret",
                    models.CharField(
                        default=drf_webhooks.secret_keys.generate,
                        max_length=128,
                        validators=[drf_webhooks.secret_keys.validate],
                        verbose_name="secret",
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[("enabled", "enabled"), ("disabled", "disabled")],
                        default="enabled",
                        max_length=16,
                        verbose_name="state",
                    ),
                ),
                (
                    "disabled_reason",
                    models.CharField(blank=True, max_length=200, verbose_name="why disabled"),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created at")),
                ("updated_at", models.DateTimeField(auto_now=True, verbose_name="updated at")),
                (
                    "owner",
                    models.ForeignKey(
                        blank=True,
                        help_text="Without one it hears only of resources that have no owner.",
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=OWNER,
                        verbose_name="owner",
                    ),
                ),
            ],
            options={
                "verbose_name": "endpoint",
                "verbose_name_plural": "endpoints",
            },
        ),
        migrations.AddField(
            model_name="delivery",
            name="endpoint",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="deliveries",
                to="drf_webhooks.endpoint",
                verbose_name="endpoint",
            ),
        ),
        migrations.CreateModel(
            name="Event",
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
                ("type", drf_webhooks.fields.ExactCharField(max_length=200, verbose_name="type")),
                (
                    "resource",
                    drf_webhooks.fields.ExactCharField(max_length=200, verbose_name="resource"),
                ),
                (
                    "object_key",
                    drf_webhooks.fields.ExactCharField(
                        help_text="The primary key as JSON.",
                        max_length=400,
                        verbose_name="object key",
                    ),
                ),
                (
                    "sequence",
                    models.BigIntegerField(
                        help_text="Counts the events of one object from 1.",
                        null=True,
                        verbose_name="sequence",
                    ),
                ),
                ("body", models.BinaryField(null=True, verbose_name="body")),
                ("session", models.UUIDField(null=True, verbose_name="session")),
                (
                    "held_until",
                    models.DateTimeField(db_index=True, null=True, verbose_name="held until"),
                ),
                ("error", models.TextField(blank=True, default="", verbose_name="why parked")),
                ("created_at", models.DateTimeField(verbose_name="created at")),
                (
                    "owner",
                    models.ForeignKey(
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=OWNER,
                        verbose_name="owner",
                    ),
                ),
            ],
            options={
                "verbose_name": "event",
                "verbose_name_plural": "events",
            },
        ),
        migrations.AddField(
            model_name="delivery",
            name="event",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="deliveries",
                to="drf_webhooks.event",
                verbose_name="event",
            ),
        ),
        migrations.AddConstraint(
            model_name="endpoint",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ["enabled", "disabled"])),
                name="drf_webhooks_endpoint_state",
            ),
        ),
        migrations.AddIndex(
            model_name="event",
            index=models.Index(fields=["resource", "object_key"], name="drf_webhooks_event_object"),
        ),
        migrations.AddIndex(
            model_name="event",
            index=models.Index(fields=["created_at"], name="drf_webhooks_event_created"),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=drf_webhooks.indexes.SparseIndex(
                condition=models.Q(("due_at__isnull", False)),
                fields=["due_at"],
                name="drf_webhooks_delivery_due",
            ),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.UniqueConstraint(
                fields=("event", "endpoint"), name="drf_webhooks_delivery_once"
            ),
        ),
    ]
