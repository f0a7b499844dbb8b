"""Read the pages of one endpoint's deliveries by an index.

Cost: builds an index of all deliveries, under a lock against writes for as long as it takes to
read the table. Then each delivery costs a little more to write.
Old code on the new schema: works.
New code on the old schema: works; on a large table pages of an endpoint with few deliveries are
slow.
Backwards: drops the index.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("drf_webhooks", "0013_versions_and_retention")]

    operations = [
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(fields=["endpoint", "id"], name="drf_webhooks_delivery_page"),
        ),
    ]
