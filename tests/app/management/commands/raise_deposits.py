"""Raise each deposit, as a project's own command would."""

from typing import Any

from django.core.management.base import BaseCommand

from tests.app.models import Deposit

__all__ = ["Command"]


class Command(BaseCommand):
    def handle(self, **options: Any) -> None:
        for deposit in Deposit.objects.all():
            deposit.amount += 1
            deposit.save()
