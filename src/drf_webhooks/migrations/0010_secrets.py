"""Let secrets be encrypted and replaced with an overlap.

Cost: adds a text column whose default the database keeps, and makes that of secrets wider, which
rewrites no table on PostgreSQL; elsewhere copies that of endpoints. Changes no row: secrets stay
as they are until ``webhooks_rotate_keys`` is run.
Old code on the new schema: works as long as ENCRYPTION_KEYS is not set anywhere and no secret is
replaced with an overlap. So migrate, replace all processes, and then set ENCRYPTION_KEYS: a
worker of the version before takes an encrypted secret for a broken one, and gives its deliveries up.
New code on the old schema: fails; migrate before the processes are replaced.
Backwards: drops old secrets, so who has not taken over the new one yet verifies nothing. Run
``webhooks_rotate_keys --decrypt`` before: what is encrypted does not fit into the column of before.
"""

import drf_webhooks.fields
import drf_webhooks.secret_keys
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("drf_webhooks", "0009_fewer_indexes")]

    operations = [
        migrations.AlterModelOptions(
            name="endpoint",
            options={
                "permissions": [("reveal_secret", "Can see the secret of an endpoint")],
                "verbose_name": "endpoint",
                "verbose_name_plural": "endpoints",
            },
        ),
        migrations.AddField(
            model_name="endpoint",
            name="old_secrets",
            field=drf_webhooks.fields.OldSecretsField(
                blank=True,
                db_default="",
                default=tuple,
                editable=False,
                verbose_name="old secrets",
            ),
        ),
        migrations.AlterField(
            model_name="endpoint",
            name="secret",
            field=drf_webhooks.fields.SecretField(
                default=drf_webhooks.secret_keys.generate,
                max_length=255,
                validators=[drf_webhooks.secret_keys.validate],
                verbose_name="secret",
            ),
        ),
    ]
