"""The rental business: who rents what from whom, and what was paid for it."""

from django.conf import settings
from django.db import models


class Address(models.Model):
    street = models.CharField(max_length=100)
    city = models.CharField(max_length=100)

    def __str__(self) -> str:
        return f"{self.street}, {self.city}"


class Landlord(models.Model):
    name = models.CharField(max_length=100)
    address = models.ForeignKey(Address, models.PROTECT)

    def __str__(self) -> str:
        return self.name


class Amenity(models.Model):
    name = models.CharField(max_length=100, unique=True)

    class Meta:
        verbose_name_plural = "amenities"

    def __str__(self) -> str:
        return self.name


class RentalUnit(models.Model):
    name = models.CharField(max_length=100)
    address = models.OneToOneField(Address, models.PROTECT, related_name="unit")
    landlord = models.ForeignKey(Landlord, models.CASCADE, related_name="units")
    amenities = models.ManyToManyField(Amenity, related_name="units", blank=True)

    def __str__(self) -> str:
        return self.name


class Tenant(models.Model):
    name = models.CharField(max_length=100)
    address = models.ForeignKey(Address, models.PROTECT)
    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, related_name="tenant")

    def __str__(self) -> str:
        return self.name


class Deposit(models.Model):
    amount = models.DecimalField(max_digits=10, decimal_places=2)
    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="deposits")
    landlord = models.ForeignKey(Landlord, models.CASCADE, related_name="deposits")
    unit = models.ForeignKey(RentalUnit, models.CASCADE, related_name="deposits")

    def __str__(self) -> str:
        return f"{self.amount} by {self.tenant}"
