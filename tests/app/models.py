"""A rental business: every kind of relation that a serializer may follow."""

import uuid
from typing import ClassVar

from django.contrib.auth.models import AbstractUser
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models

from drf_webhooks.inbox import Inbox


class User(AbstractUser):
    """A person who can log in."""


class Address(models.Model):
    street = models.CharField(max_length=50)
    city = models.CharField(max_length=50, default="Graz")

    def __str__(self) -> str:
        return f"{self.street}, {self.city}"


class Tag(models.Model):
    name = models.CharField(max_length=50, unique=True)

    def __str__(self) -> str:
        return self.name


class Landlord(models.Model):
    name = models.CharField(max_length=50)
    address = models.ForeignKey(Address, models.SET_NULL, null=True)

    def __str__(self) -> str:
        return self.name


class RentalUnit(models.Model):
    name = models.CharField(max_length=50)
    address = models.OneToOneField(Address, models.SET_NULL, null=True, related_name="unit")
    landlord = models.ForeignKey(Landlord, models.SET_NULL, null=True, related_name="units")
    tags = models.ManyToManyField(Tag, related_name="units")
    inspectors: "models.ManyToManyField[User, Inspection]" = models.ManyToManyField(
        User, through="Inspection", related_name="inspected"
    )

    def __str__(self) -> str:
        return self.name


class House(RentalUnit):
    """A unit with a table of its own besides."""

    floors = models.IntegerField(default=1)


class Tenant(models.Model):
    name = models.CharField(max_length=50)
    notes = models.CharField(max_length=50, default="", blank=True)
    address = models.ForeignKey(Address, models.SET_NULL, null=True)
    user = models.OneToOneField(User, models.SET_NULL, null=True, related_name="tenant")
    friends: "models.ManyToManyField[Tenant, Tenant]" = models.ManyToManyField("self", blank=True)

    def __str__(self) -> str:
        return self.name


class Regular(Tenant):
    """A tenant under another name."""

    class Meta:
        proxy = True


class Remark(models.Model):
    """About anything."""

    text = models.CharField(max_length=50)
    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.BigIntegerField()
    target = GenericForeignKey()

    def __str__(self) -> str:
        return self.text


class Inspection(models.Model):
    """A visit of a user to a unit: a table between two models that has more to say."""

    unit = models.ForeignKey("RentalUnit", models.CASCADE, related_name="inspections")
    inspector = models.ForeignKey(User, models.CASCADE, related_name="+")
    note = models.CharField(max_length=50, default="")

    def __str__(self) -> str:
        return self.note


class Deposit(models.Model):
    remarks = GenericRelation(Remark)
    amount = models.DecimalField(max_digits=10, decimal_places=2, default=0)
    note = models.CharField(max_length=50, default="", blank=True)
    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="deposits")
    unit = models.ForeignKey(RentalUnit, models.CASCADE, null=True, related_name="deposits")
    landlord = models.ForeignKey(Landlord, models.SET_NULL, null=True, related_name="deposits")

    def __str__(self) -> str:
        return f"{self.amount}"


class Document(models.Model):
    """Owned by a user, with a key that is no number."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    title = models.CharField(max_length=50)
    user = models.ForeignKey(User, models.CASCADE, null=True)
    readers: "models.ManyToManyField[User, User]" = models.ManyToManyField(User, related_name="+")

    class Meta:
        ordering: ClassVar = ["pk"]

    def __str__(self) -> str:
        return self.title


class Received(Inbox):
    """What this project has received from another one."""
