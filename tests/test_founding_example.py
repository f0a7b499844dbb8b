"""The class of the project's founding document, word for word, and with nothing declared."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management import call_command

from drf_webhooks.models import Endpoint
from drf_webhooks.registry import registry
from drf_webhooks.session import disable_webhooks, webhook_signal_session
from drf_webhooks.utils import ModelSerializerWebhook
from tests.app.models import Address, Deposit, Landlord, RentalUnit, Tenant, User
from tests.app.serializers import DepositSerializer, form
from tests.factories import make_deposit
from tests.test_session import said


def declare_with_getters() -> None:
    class DepositSerializerWebhook(ModelSerializerWebhook):
        serializer_class = DepositSerializer
        base_name = "core.deposit"

        @staticmethod
        def get_address_instance_base(address):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN205  # as it was published
            for tenant in address.tenant_set.all():
                yield from tenant.deposits.all()
            unit = getattr(address, "unit", None)
            if unit:
                yield from address.unit.deposits.all()

        signal_model_instance_base_getters = {  # as it was published
            Tenant: lambda x: x.deposits.all(),
            User: lambda x: x.tenant.deposits.all(),
            RentalUnit: lambda x: x.deposits.all(),
            Address: get_address_instance_base,
            Landlord: lambda x: [],
        }


def declare_without() -> None:
    class DepositSerializerWebhook(ModelSerializerWebhook):
        serializer_class = DepositSerializer
        base_name = "core.deposit"


@pytest.fixture(params=[declare_with_getters, declare_without], ids=["getters", "automatic"])
def declared(request: pytest.FixtureRequest) -> Iterator[str]:
    with registry.isolated():
        request.param()
        yield "automatic" if request.param is declare_without else "getters"


CHANGES: dict[str, Callable[[Deposit], Any]] = {
    "the deposit itself": lambda deposit: deposit.save(),
    "tenant": lambda deposit: deposit.tenant.save(),
    "user through the tenant": lambda deposit: deposit.tenant.user.save(),
    "tenant's address": lambda deposit: deposit.tenant.address.save(),
    "unit's address": lambda deposit: deposit.unit.address.save(),
    "unit": lambda deposit: deposit.unit.save(),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_each_nested_object_leads_back(
    change: Callable[[Deposit], Any], declared: str, everything: Endpoint
) -> None:
    with disable_webhooks():
        deposit = make_deposit()
        make_deposit()

    with webhook_signal_session():
        change(deposit)

    assert said() == [("updated", form(DepositSerializer, deposit))]


@pytest.mark.django_db(transaction=True)
def test_a_user_without_tenant_concerns_nothing(declared: str, everything: Endpoint) -> None:
    User.objects.create(username="nobody").save()

    assert said() == []


@pytest.mark.django_db(transaction=True)
def test_a_declared_getter_replaces_what_was_found(declared: str, everything: Endpoint) -> None:
    with disable_webhooks():
        deposit = make_deposit()

    deposit.landlord.save()

    assert len(said()) == (1 if declared == "automatic" else 0)


@pytest.mark.django_db(transaction=True)
def test_a_nested_delete_under_a_getter_is_noticed(declared: str, everything: Endpoint) -> None:
    with disable_webhooks():
        deposit = make_deposit()

    deposit.unit.address.delete()

    assert said() == [("updated", form(DepositSerializer, deposit))]


def test_the_declaration_passes_the_checks(declared: str) -> None:
    call_command("check", tags=["drf_webhooks"], fail_level="WARNING")
