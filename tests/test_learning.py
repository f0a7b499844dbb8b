"""What was learnt is kept, loaded by other processes, and never stands in the way."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from rest_framework import serializers

from drf_webhooks import learning
from drf_webhooks.models import Endpoint, LearntPath
from drf_webhooks.registry import registry
from drf_webhooks.resources import ModelSerializerWebhook
from drf_webhooks.session import disable_webhooks
from drf_webhooks.testing import capture_events
from drf_webhooks.tracing.learnt import learnt
from tests.app.models import Deposit, Landlord, Remark, Tenant
from tests.factories import make_deposit

pytestmark = pytest.mark.django_db(transaction=True)


class DepositSerializer(serializers.ModelSerializer[Deposit]):
    who = serializers.SerializerMethodField()

    class Meta:
        model = Deposit
        fields = ("id", "who")

    def get_who(self, deposit: Deposit) -> str:
        return f"{deposit.tenant.name} {Remark.objects.filter(text=deposit.note).count()}"


@pytest.fixture
def resource(everything: Endpoint) -> Iterator[type[ModelSerializerWebhook]]:
    with registry.isolated():

        class DepositWebhook(ModelSerializerWebhook):
            serializer_class = DepositSerializer

        yield DepositWebhook
    learnt.forget()


@pytest.fixture
def deposit(resource: Any) -> Deposit:
    with disable_webhooks():
        return make_deposit()


def rename(tenant: Tenant) -> None:
    tenant.name += "!"
    tenant.save()


def spellings() -> list[str]:
    return list(LearntPath.objects.order_by("pk").values_list("spelling", flat=True))


def test_the_first_event_teaches_and_the_next_change_is_noticed(deposit: Deposit) -> None:
    with capture_events() as before:
        rename(deposit.tenant)
        deposit.save()
    with capture_events() as after:
        rename(deposit.tenant)

    assert [each.data["who"] for each in before] == ["Ada! 0"]
    assert [each.data["who"] for each in after] == ["Ada!! 0"]
    assert spellings() == [
        '{"lookup": "tenant", "model": "core.tenant"}',
        '{"model": "core.remark", "whole": true}',
    ]


def test_another_process_knows_what_was_stored(deposit: Deposit) -> None:
    deposit.save()
    learnt.forget()
    assert not learnt.of(next(iter(registry)))

    learning.load("default")

    with capture_events() as events:
        rename(deposit.tenant)
    assert len(events) == 1


def test_it_is_loaded_when_a_process_connects(
    deposit: Deposit, monkeypatch: pytest.MonkeyPatch
) -> None:
    deposit.save()
    learnt.forget()
    monkeypatch.setattr(learning, "_loaded_at", None)
    connection.close()

    assert Landlord.objects.exists()

    assert learnt.of(next(iter(registry)))


def test_what_is_stored_of_things_that_are_gone_is_passed_over(deposit: Deposit) -> None:
    LearntPath.objects.create(resource="core.deposit", spelling='{"model": "core.gone"}')
    LearntPath.objects.create(resource="core.gone", spelling='{"model": "core.tenant"}')
    LearntPath.objects.create(
        resource="core.deposit", spelling='{"model": "core.tenant", "lookup": "renamed"}'
    )

    learning.load("default")

    with capture_events() as events:
        deposit.save()
    assert len(events) == 1


def test_what_a_rolled_back_transaction_learnt_is_stored_later(deposit: Deposit) -> None:
    with transaction.atomic():
        deposit.save()
        with transaction.atomic():
            deposit.save()
        transaction.set_rollback(True)
    assert spellings() == []

    deposit.save()

    assert len(spellings()) == 2


def test_a_table_that_is_missing_stops_nobody(
    deposit: Deposit, caplog: pytest.LogCaptureFixture
) -> None:
    name = LearntPath._meta.db_table
    LearntPath._meta.db_table = "not_migrated"
    try:
        learning.load("default")
        with caplog.at_level(logging.ERROR, "drf_webhooks"), capture_events() as events:
            deposit.save()
    finally:
        LearntPath._meta.db_table = name

    assert len(events) == 1
    assert "What was learnt could not be stored." in caplog.text


def test_a_table_read_as_a_whole_says_so_when_there_are_too_many(
    deposit: Deposit, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with disable_webhooks():
        make_deposit()
    deposit.save()
    with capture_events() as events:
        Remark.objects.create(text="", target=deposit)
    assert len(events) == 2

    settings.DRF_WEBHOOKS = {"WHOLE_TABLE_LIMIT": 1}
    with capture_events() as events:
        Remark.objects.create(text="", target=deposit)

    assert events == []
    assert "DepositWebhook reads all rows of core.Remark." in caplog.text


def test_learning_serializes_objects_that_are_there(
    deposit: Deposit, caplog: pytest.LogCaptureFixture
) -> None:
    learning.learn(sample=1)

    assert len(spellings()) == 2
    Deposit.objects.update(tenant=deposit.tenant)
    DepositSerializer.get_who, kept = None, DepositSerializer.get_who  # type: ignore[assignment,method-assign]  # broken on purpose
    try:
        learning.learn(sample=1)
    finally:
        DepositSerializer.get_who = kept  # type: ignore[method-assign]  # mended
    assert "Nothing is learnt of one object" in caplog.text


def test_a_test_case_stores_nothing(db: None) -> None:
    assert str(LearntPath(resource="a", spelling="b")) == "a b"
