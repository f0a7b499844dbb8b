"""Declaring resources, and naming objects by hand."""

from collections.abc import Iterator
from typing import Any

import pytest
from rest_framework import serializers

from drf_webhooks.registry import registered_event_types, registry
from drf_webhooks.resources import ModelSerializerWebhook
from tests.app.models import Deposit, Tenant
from tests.app.serializers import DepositSerializer, TenantSerializer
from tests.app.webhooks import DepositWebhook


@pytest.fixture(autouse=True)
def _isolated() -> Iterator[None]:
    with registry.isolated():
        yield


def test_the_name_follows_from_the_model() -> None:
    class TenantWebhook(ModelSerializerWebhook):
        serializer_class = TenantSerializer

    assert TenantWebhook.base_name == "core.tenant"
    assert list(registry) == [TenantWebhook]
    assert registry.get("core.tenant") is TenantWebhook
    assert registry.get("core.deposit") is None


def test_a_class_without_serializer_declares_nothing() -> None:
    class Shared(ModelSerializerWebhook):
        delete = False

    class TenantWebhook(Shared):
        serializer_class = TenantSerializer

    assert list(registry) == [TenantWebhook]
    assert registered_event_types() == {"core.tenant.created", "core.tenant.updated"}


def test_a_serializer_without_model_has_the_name_of_the_class() -> None:
    class Plain(serializers.Serializer[Any]):
        pass

    class PlainWebhook(ModelSerializerWebhook):
        serializer_class = Plain

    class Named(ModelSerializerWebhook):
        serializer_class = Plain
        base_name = "plain"

    assert (PlainWebhook.base_name, Named.base_name) == ("PlainWebhook", "plain")


def test_a_resource_without_get_owner_has_no_owners() -> None:
    class DepositWebhook(ModelSerializerWebhook):
        serializer_class = DepositSerializer

    assert not DepositWebhook.is_scoped()
    assert DepositWebhook.get_owner(None) is None


@pytest.mark.parametrize(
    ("objects", "operation", "said"),
    [
        (Deposit(pk=1), "changed", "'changed' is no operation"),
        (Tenant(pk=1), "updated", "Give it an instance or a queryset of core.Deposit"),
        (Deposit(), "updated", "has no primary key"),
    ],
)
def test_what_cannot_be_triggered_is_refused(objects: Any, operation: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DepositWebhook.trigger(objects, operation)
