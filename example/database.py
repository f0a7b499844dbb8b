"""The demo's database: made, filled, watched, and removed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection

from drf_webhooks.models import Delivery, Event
from drf_webhooks.session import disable_webhooks
from example.core.models import Address, Landlord, RentalUnit, Tenant

__all__ = ["fill", "is_quiet", "made"]


@contextmanager
def made() -> Iterator[None]:
    """Make a database with its tables; on a server, drop it at the end."""
    name = connection.ops.quote_name(str(settings.DATABASES["default"]["NAME"]))
    has_server = connection.vendor != "sqlite"
    if has_server:
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
    try:
        call_command("migrate", verbosity=0)
        yield
    finally:
        connection.close()
        if has_server:
            with connection._nodb_cursor() as cursor:
                cursor.execute(f"DROP DATABASE {name}")


def fill(password: str) -> dict[str, Any]:
    """Make what exists before the demo begins, and return its keys."""
    with disable_webhooks():
        user_model = get_user_model()
        user_model._default_manager.create_superuser("admin", password=password)
        unit_address = _address("Ring 5")
        landlords = [
            Landlord.objects.create(name=name, address=_address(f"{name} Street 1"))
            for name in ("Grace", "Edsger")
        ]
        tenants = [
            Tenant.objects.create(
                name=name,
                address=_address(f"{name} Lane 2"),
                user=user_model._default_manager.create(username=name.lower()),
            )
            for name in ("Ada", "Alan")
        ]
        unit = RentalUnit.objects.create(name="Top 5", address=unit_address, landlord=landlords[0])
    return {
        "tenant": tenants[0].pk,
        "other_tenant": tenants[1].pk,
        "landlord": landlords[0].pk,
        "other_landlord": landlords[1].pk,
        "unit": unit.pk,
        "unit_address": unit_address.pk,
    }


def is_quiet() -> bool:
    """Tell whether nothing waits to be sent."""
    return not (
        Delivery.objects.filter(state=Delivery.State.WAITING).exists()
        or Event.objects.filter(held_until__isnull=False).exists()
    )


def _address(street: str) -> Address:
    return Address.objects.create(street=street, city="Graz")
