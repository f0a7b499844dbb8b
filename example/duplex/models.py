"""What both systems have: contacts, each with a version that tells which change is the last."""

import uuid
from typing import Any

from django.conf import settings
from django.db import models, transaction

from drf_webhooks.session import disable_webhooks


class Contact(models.Model):
    """A person. Never deleted but marked, or an old change would bring it back."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=50)
    is_deleted = models.BooleanField(default=False)
    #: Counts the changes, here and there.
    version = models.PositiveBigIntegerField(default=0)
    #: The side of the last change. It decides if both have changed the same version.
    changed_by = models.CharField(max_length=5)

    def __str__(self) -> str:
        return self.name


def change(pk: uuid.UUID, **fields: Any) -> None:
    """Make or change a contact, as a user of this side does."""
    with transaction.atomic():
        contact = _locked(pk)
        _set(contact, version=contact.version + 1, changed_by=settings.SIDE, **fields)


def mirror(pk: uuid.UUID, **fields: Any) -> bool:
    """Take over a contact as the other side has it; return ``False`` if this one is newer."""
    with transaction.atomic():
        contact = _locked(pk)
        theirs = (fields["version"], fields["changed_by"])
        if (contact.version, contact.changed_by) >= theirs:
            return False
        _set(contact, **fields)
    return True


def _locked(pk: uuid.UUID) -> Contact:
    """Return a contact, made if need be, that nobody else changes meanwhile."""
    with disable_webhooks():
        Contact.objects.bulk_create([Contact(pk=pk)], ignore_conflicts=True)
    return Contact.objects.select_for_update().get(pk=pk)


def _set(contact: Contact, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(contact, name, value)
    contact.save()
