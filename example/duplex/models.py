"""What both systems have: contacts, each with a version that tells which change is the last."""

import uuid
from typing import Any

from django.conf import settings
from django.db import models, transaction


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
        found = Contact.objects.select_for_update().filter(pk=pk).first()
        version = 1 if found is None else found.version + 1
        more = {"version": version, "changed_by": settings.SIDE}
        Contact.objects.update_or_create(pk=pk, defaults={**fields, **more})


def mirror(pk: uuid.UUID, **fields: Any) -> bool:
    """Take over a contact as the other side has it; return ``False`` if this one is newer."""
    with transaction.atomic():
        found = Contact.objects.select_for_update().filter(pk=pk).first()
        theirs = (fields["version"], fields["changed_by"])
        if found is not None and (found.version, found.changed_by) >= theirs:
            return False
        Contact.objects.update_or_create(pk=pk, defaults=fields)
    return True
