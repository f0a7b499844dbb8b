import drf_webhooks.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("core", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="Received",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "webhook_id",
                    drf_webhooks.fields.ExactCharField(
                        max_length=200, unique=True, verbose_name="webhook-id"
                    ),
                ),
                (
                    "received_at",
                    models.DateTimeField(
                        auto_now_add=True, db_index=True, verbose_name="received at"
                    ),
                ),
            ],
            options={"abstract": False},
        )
    ]
