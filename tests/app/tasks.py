"""Celery tasks of the project under test; ``tests/test_ways_in.py`` starts their worker."""

import os

from celery import Celery
from django.db import transaction

from drf_webhooks.session import webhook_signal_session
from tests.app.models import Deposit

__all__ = ["app", "fail", "save_twice", "save_twice_in_a_session"]

app = Celery("tests", broker=os.environ.get("CELERY_BROKER", "redis://127.0.0.1:6379/5"))
app.conf.task_default_queue = os.environ.get("CELERY_QUEUE", "drf_webhooks_tests")


@app.task
def save_twice(pk: int) -> None:
    for _ in range(2):
        Deposit.objects.get(pk=pk).save()


@app.task
@webhook_signal_session()
def save_twice_in_a_session(pk: int) -> None:
    save_twice(pk)


@app.task
def fail(pk: int) -> None:
    with transaction.atomic():
        Deposit.objects.get(pk=pk).save()
        raise ZeroDivisionError
