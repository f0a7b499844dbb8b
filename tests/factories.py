"""Objects for tests: say only what the test is about."""

from typing import Any

from tests.app.models import Address, Deposit, Landlord, RentalUnit, Tenant, User


def make_address(**fields: Any) -> Address:
    return Address.objects.create(**{"street": "Main Street 1", **fields})


def make_landlord(**fields: Any) -> Landlord:
    return Landlord.objects.create(**{"name": "Grace", **fields})


def make_unit(**fields: Any) -> RentalUnit:
    return RentalUnit.objects.create(**{"name": "Top 5", **fields})


def make_user(**fields: Any) -> User:
    number = User.objects.count()
    return User.objects.create(**{"username": f"user{number}", **fields})


def make_tenant(**fields: Any) -> Tenant:
    return Tenant.objects.create(**{"name": "Ada", **fields})


def make_deposit(**fields: Any) -> Deposit:
    """A deposit with everything that its serializer nests."""
    given = dict(fields)
    if "tenant" not in given:
        given["tenant"] = make_tenant(address=make_address(street="Tenant 1"), user=make_user())
    if "landlord" not in given:
        given["landlord"] = make_landlord(address=make_address(street="Landlord 1"))
    if "unit" not in given:
        given["unit"] = make_unit(address=make_address(street="Unit 1"), landlord=given["landlord"])
    return Deposit.objects.create(**{"amount": 100, **given})
