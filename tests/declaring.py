"""Resources that a test declares, and what they said."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework import serializers

from drf_webhooks.models import Event
from drf_webhooks.resources import ModelSerializerWebhook
from tests.app.models import Deposit, User
from tests.app.serializers import NoteField, TenantSerializer

_CONTROL = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


class DepositForm(serializers.ModelSerializer[Deposit]):
    note = NoteField()
    tenant = TenantSerializer()

    class Meta:
        model = Deposit
        fields: ClassVar = ["id", "amount", "note", "tenant"]


def declare(**attributes: Any) -> Any:
    """Declare a resource of deposits; functions become class methods."""
    return type(
        "DepositWebhook",
        (ModelSerializerWebhook,),
        {
            "serializer_class": DepositForm,
            **{
                name: classmethod(each) if type(each).__name__ == "function" else each
                for name, each in attributes.items()
            },
        },
    )


def said() -> list[tuple[str, Any]]:
    """Return the names of the events and their data, in the order of their numbers."""
    return [(each.type.rpartition(".")[2], each.data) for each in recorded()]


def names() -> list[str]:
    return [name for name, _ in said()]


def recorded() -> list[Event]:
    return list(Event.objects.filter(held_until=None).order_by("sequence", "created_at", "pk"))


def owned_by(*users: User) -> Any:
    """Return a ``get_owner()`` for :func:`declare`."""

    def get_owner(cls: Any, instance: Any) -> list[User]:
        del cls, instance
        return list(users)

    return get_owner


@contextmanager
def statements() -> Iterator[list[str]]:
    """Give a list that holds, at the block's end, the statements but for those of transactions."""
    found: list[str] = []
    with CaptureQueriesContext(connection) as captured:
        yield found
    found += [each["sql"] for each in captured if not each["sql"].startswith(_CONTROL)]
