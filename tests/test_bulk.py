"""Writes that send no signal: what is said of them, and what the capture leaves alone."""

import logging
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import FieldDoesNotExist, FieldError
from django.db import IntegrityError, NotSupportedError, connection, transaction
from django.db.models import F, Q, QuerySet, Value
from django.db.models.signals import post_save
from django.db.models.sql import UpdateQuery

from drf_webhooks import bulk
from drf_webhooks.inserts import _conditions, unique_sets
from drf_webhooks.models import Delivery, Endpoint, Event
from drf_webhooks.session import disable_webhooks, webhook_signal_session
from drf_webhooks.testing import capture_events
from tests.app.models import Deposit, Document, RentalUnit, Tag, Tenant
from tests.bookshop.models import Chapter
from tests.factories import make_deposit

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def deposit(everything: Endpoint) -> Deposit:
    with disable_webhooks():
        return make_deposit()


def said() -> list[tuple[str, Any]]:
    events = Event.objects.filter(held_until=None).order_by("created_at", "id")
    return [(each.type.removeprefix("core."), each.data) for each in events]


def test_an_update_in_autocommit_and_its_event_are_one_transaction(deposit: Deposit) -> None:
    Deposit.objects.update(amount=3)

    assert [(name, data["amount"]) for name, data in said()] == [("deposit.updated", "3.00")]


def test_an_update_that_is_rolled_back_says_nothing(deposit: Deposit) -> None:
    with transaction.atomic():
        Deposit.objects.update(amount=3)
        transaction.set_rollback(True)

    assert said() == []


def test_the_rows_are_known_before_the_filter_stops_to_match(deposit: Deposit) -> None:
    Deposit.objects.filter(amount=100).update(amount=F("amount") + 1)

    assert [data["amount"] for _, data in said()] == ["101.00"]


def test_a_column_that_nobody_reads_is_updated_in_silence(deposit: Deposit) -> None:
    with capture_events() as events:
        Tenant.objects.update(notes="unread")

    assert events == []


def test_rows_that_are_inserted_or_updated_are_told_apart(deposit: Deposit) -> None:
    both = [
        Deposit(pk=deposit.pk, tenant=deposit.tenant, amount=3),
        Deposit(pk=deposit.pk + 1, tenant=deposit.tenant, amount=4),
    ]
    # Only some databases let one name the columns that no two rows share.
    has_target = connection.features.supports_update_conflicts_with_target
    target = {"unique_fields": ["id"]} if has_target else {}

    Deposit.objects.bulk_create(both, update_conflicts=True, update_fields=["amount"], **target)

    assert sorted((name, data["id"], data["amount"]) for name, data in said()) == [
        ("deposit.created", deposit.pk + 1, "4.00"),
        ("deposit.updated", deposit.pk, "3.00"),
    ]


def test_capture_can_be_turned_off(deposit: Deposit, settings: Any) -> None:
    settings.DRF_WEBHOOKS = {"CAPTURE_BULK": False}

    Deposit.objects.update(amount=3)
    Deposit.objects.bulk_create([Deposit(tenant=deposit.tenant)])
    deposit.unit.tags.through.objects.create(
        rentalunit=deposit.unit, tag=Tag.objects.create(name="new")
    )

    assert said() == []


def test_created_in_bulk_and_told_by_hand_is_one_event(deposit: Deposit) -> None:
    with webhook_signal_session():
        (fresh,) = Deposit.objects.bulk_create([Deposit(tenant=deposit.tenant)])
        post_save.send(
            Deposit, instance=fresh, created=True, raw=False, using="default", update_fields=None
        )

    assert [(name, data["id"]) for name, data in said()] == [("deposit.created", fresh.pk)]


def test_a_bulk_insert_that_fails_leaves_nothing(deposit: Deposit) -> None:
    with pytest.raises(IntegrityError):
        Deposit.objects.bulk_create([Deposit(pk=deposit.pk, tenant=deposit.tenant)])

    assert said() == []


def test_a_key_that_is_updated_is_a_row_that_went_and_one_that_came(everything: Endpoint) -> None:
    owner = everything.owner
    assert owner is None
    with disable_webhooks():
        deposit = make_deposit()
    old = deposit.pk

    Deposit.objects.filter(pk=old).update(id=Value(old + 1000))

    assert [(name, data["id"]) for name, data in said()] == [
        ("deposit.deleted", old),
        ("deposit.created", old + 1000),
    ]


def test_installing_twice_wraps_once() -> None:
    update = QuerySet.update

    bulk.install()

    assert QuerySet.update is update
    assert QuerySet.update.alters_data  # type: ignore[attr-defined]  # what templates look at


def test_rows_whose_keys_the_database_does_not_tell_are_reported(
    deposit: Deposit, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # MySQL has no RETURNING; MariaDB, PostgreSQL and SQLite have.
    monkeypatch.setattr(type(connection.features), "can_return_rows_from_bulk_insert", False)
    with caplog.at_level(logging.WARNING, "drf_webhooks"):
        Deposit.objects.bulk_create(
            [Deposit(tenant=deposit.tenant), Deposit(tenant=deposit.tenant)],
            ignore_conflicts=True,
        )
        Deposit.objects.bulk_create([Deposit(tenant=deposit.tenant)])

    assert said() == []
    assert [record.args[0] for record in caplog.records] == [2, 1]  # type: ignore[index]  # our own


def test_keys_that_the_filter_names_are_not_asked_for(deposit: Deposit) -> None:
    title = Document.objects.create(title="old")
    with capture_events() as events:
        Document.objects.filter(pk__in=[title.pk]).update(title="new")
        Deposit.objects.filter(pk=deposit.pk).update(amount=1)
        Deposit.objects.filter(pk__in=Deposit.objects.filter(amount=1).values("pk")).update(
            amount=2
        )
        Deposit.objects.exclude(pk=deposit.pk).update(amount=7)

    assert [each.data["amount"] for each in events if each.type == "core.deposit.updated"] == [
        "1.00",
        "2.00",
    ]


def test_rows_between_two_models_may_be_moved_in_bulk(deposit: Deposit) -> None:
    assert deposit.unit is not None
    old, new = Tag.objects.create(name="old"), Tag.objects.create(name="new")
    with disable_webhooks():
        deposit.unit.tags.add(old)
        other = make_deposit()

    with capture_events() as tagged:
        deposit.unit.tags.through.objects.update(tag=new)
    with capture_events() as moved:
        deposit.unit.tags.through.objects.update(rentalunit=other.unit)

    assert [each.data["unit"]["tags"] for each in tagged] == [["new"]]
    assert sorted(each.data["id"] for each in moved) == [deposit.pk, other.pk]


def test_a_row_between_two_models_may_be_deleted_as_an_instance(deposit: Deposit) -> None:
    assert deposit.unit is not None
    with disable_webhooks():
        deposit.unit.tags.add(Tag.objects.create(name="old"))

    with capture_events() as events:
        deposit.unit.tags.through.objects.get().delete()

    assert [each.data["unit"]["tags"] for each in events] == [[]]


def test_what_cannot_be_updated_is_djangos_to_say(deposit: Deposit) -> None:
    with pytest.raises(FieldDoesNotExist):
        Deposit.objects.update(nothing=1)
    # Of Django 5.2 the second, for what is no column at all.
    with pytest.raises((FieldError, AttributeError)):
        RentalUnit.objects.update(deposits=1, name="x")
    with pytest.raises(NotSupportedError):
        Deposit.objects.union(Deposit.objects.all()).update(amount=1)
    with pytest.raises(TypeError):
        Deposit.objects.all()[:1].update(amount=1)

    assert said() == []


def test_what_a_deletion_sets_in_loaded_rows(deposit: Deposit, settings: Any) -> None:
    with transaction.atomic():
        UpdateQuery(Deposit).update_batch([deposit.pk], {"amount": 4}, "default")
        UpdateQuery(ContentType).update_batch([], {"id": 1}, "default")
    settings.DRF_WEBHOOKS = {"CAPTURE_BULK": False}
    UpdateQuery(Deposit).update_batch([deposit.pk], {"amount": 5}, "default")

    assert [data["amount"] for _, data in said()] == ["4.00"]


def test_nothing_is_asked_when_nobody_listens(deposit: Deposit) -> None:
    assert deposit.unit is not None
    tag = Tag.objects.create(name="new")
    with disable_webhooks():
        deposit.unit.tags.add(tag)
    Endpoint.objects.all().delete()

    tag.units.clear()
    tag.units.add(deposit.unit)
    deposit.tenant.delete()

    assert said() == []


def test_rows_deleted_without_being_loaded(deposit: Deposit) -> None:
    Deposit.objects.filter(pk=deposit.pk)._raw_delete("default")

    assert said() == [("deposit.deleted", {"id": deposit.pk})]


def test_a_row_is_looked_for_by_the_keys_that_it_has() -> None:
    rows = [{"id": None, "name": "a"}, {"id": 1, "name": None}]

    assert list(_conditions(rows, [["id"], ["name"]])) == [Q(name="a"), Q(id=1)]


def test_what_no_two_rows_share_is_known_from_the_model() -> None:
    assert ["event_id", "endpoint_id"] in list(unique_sets(Delivery))
    assert ["app_label", "model"] in list(unique_sets(ContentType))
    assert ["name"] in list(unique_sets(Tag))
    # Its other constraint is no such thing.
    assert list(unique_sets(Chapter)) == [["book_id", "number"]]
