"""A project's Celery app as its worker imports it; what a test decides comes by environment."""

import json
import os
from datetime import timedelta

from celery import Celery
from django.conf import settings
from kombu import Queue

settings.DATABASES["default"]["NAME"] = os.environ["TEST_DB_NAME"]
# Celery's checks ask each database at the start, and this one is known by another name.
del settings.DATABASES["other"]
settings.DRF_WEBHOOKS = {
    **settings.DRF_WEBHOOKS,
    "ENGINE": "drf_webhooks.contrib.celery.Engine",
    **{
        name: timedelta(seconds=seconds)
        for name, seconds in json.loads(os.environ.get("TEST_SECONDS", "{}")).items()
    },
}

app = Celery("tests.contrib.celery_project")
app.config_from_object(
    {
        "broker_url": os.environ["TEST_BROKER"],
        "broker_connection_retry_on_startup": True,
        "task_default_queue": os.environ["TEST_QUEUE"],
        # Gone by itself when a test has ended.
        "task_queues": [
            Queue(os.environ["TEST_QUEUE"], queue_arguments={"x-expires": 120_000}),
        ],
        "worker_enable_remote_control": False,
        "beat_schedule": {"webhooks": {"task": "drf_webhooks.sweep", "schedule": 1}},
    }
)
