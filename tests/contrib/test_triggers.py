"""Raw SQL, other programs and the database's own cascades, seen by triggers."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.core import checks
from django.db import connection, models, transaction
from django.db.backends.signals import connection_created
from django.db.migrations.state import ProjectState
from rest_framework import serializers

from drf_webhooks import pipeline
from drf_webhooks.changes import Changes
from drf_webhooks.contrib.triggers import definitions, journal, silence
from drf_webhooks.contrib.triggers.checks import check_triggers
from drf_webhooks.contrib.triggers.journal import Journal, monitored, relay
from drf_webhooks.contrib.triggers.models import RowChange
from drf_webhooks.contrib.triggers.operations import CaptureRows
from drf_webhooks.models import Endpoint, Event
from drf_webhooks.resources import ModelSerializerWebhook
from drf_webhooks.session import disable_webhooks, webhook_signal_session
from drf_webhooks.testing import isolated_registry
from drf_webhooks.transactions import log_of
from tests.app.models import (
    Deposit,
    Document,
    House,
    Landlord,
    Remark,
    RentalUnit,
    Tag,
    Tenant,
)
from tests.app.serializers import DepositSerializer, DocumentSerializer, form
from tests.app.webhooks import DepositWebhook
from tests.bookshop.models import Book, Chapter
from tests.chaos.servers import moved, pooled
from tests.factories import make_deposit, make_landlord, make_unit, make_user

pytestmark = pytest.mark.django_db(transaction=True)


def sql(statement: str, *params: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)


@cache
def today() -> ProjectState:
    return ProjectState.from_apps(apps)


def run(operation: CaptureRows, app_label: str, *, backwards: bool = False) -> None:
    state = today()
    with connection.schema_editor() as editor:
        act = operation.database_backwards if backwards else operation.database_forwards
        act(app_label, editor, state, state)


def operations() -> list[tuple[str, CaptureRows]]:
    return [
        (each._meta.app_label, CaptureRows(each._meta.object_name))
        for each in monitored() | {Chapter}
    ]


@pytest.fixture
def capture(transactional_db: None) -> Iterator[None]:
    if connection.vendor != "postgresql":
        pytest.skip("triggers are for PostgreSQL")
    config: Any = apps.get_app_config("drf_webhooks_triggers")
    config.connect()
    done = operations()
    for app_label, operation in done:
        run(operation, app_label)
    yield
    for app_label, operation in done:
        run(operation, app_label, backwards=True)
    pipeline.sources.clear()
    connection_created.disconnect(dispatch_uid="drf_webhooks.triggers.silence")
    connection.execute_wrappers[:] = [
        each for each in connection.execute_wrappers if type(each).__name__ != "_Silence"
    ]
    checks.registry.registry.registered_checks.discard(check_triggers)


@pytest.fixture
def deposit(capture: None, everything: Endpoint) -> Deposit:
    with disable_webhooks():
        return make_deposit()


def said() -> list[tuple[str, Any]]:
    events = Event.objects.filter(held_until=None).order_by("created_at", "id")
    return [(each.type.removeprefix("core."), each.data) for each in events]


def names() -> list[tuple[str, int]]:
    return [(name, data["id"]) for name, data in said()]


def test_nothing_is_journaled_in_a_disabled_block(deposit: Deposit) -> None:
    assert not RowChange.objects.exists()
    assert relay() == 0


def test_raw_sql_beside_the_orm_is_in_the_same_event(deposit: Deposit) -> None:
    with webhook_signal_session(), transaction.atomic():
        deposit.note = "by the ORM"
        deposit.save()
        sql("UPDATE core_deposit SET amount = 7")
        sql("UPDATE core_tenant SET name = 'raw'")

    ((name, data),) = said()
    assert (name, data["amount"], data["note"]) == ("deposit.updated", "7.00", "by the ORM")
    assert data["tenant"]["name"] == "raw"
    assert not RowChange.objects.exists()


def test_raw_changes_of_other_objects_are_events_of_their_own(deposit: Deposit) -> None:
    with disable_webhooks():
        gone = make_deposit(tenant=deposit.tenant)

    with transaction.atomic():
        deposit.save()
        sql("DELETE FROM core_deposit WHERE id = %s", gone.pk)
        sql(
            "INSERT INTO core_deposit (id, amount, note, tenant_id) VALUES (900, 1, '', %s)",
            deposit.tenant_id,
        )

    assert names() == [
        ("deposit.updated", deposit.pk),
        ("deposit.deleted", gone.pk),
        ("deposit.created", 900),
    ]
    assert relay() == 0


def test_raw_sql_alone_is_said_once_by_the_worker(deposit: Deposit) -> None:
    with webhook_signal_session():
        sql("UPDATE core_deposit SET amount = 7")
    before = names()

    counts = [relay(), relay()]

    assert before == []
    assert counts == [1, 0]
    assert [(name, data["amount"]) for name, data in said()] == [("deposit.updated", "7.00")]


def test_the_workers_housekeeping_relays(deposit: Deposit) -> None:
    journal.install()
    sql("UPDATE core_deposit SET amount = 7")

    released = pipeline.release_due()

    assert released == 1
    assert names() == [("deposit.updated", deposit.pk)]


def test_many_rows_are_relayed_in_lots(deposit: Deposit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "CHUNK", 2)
    with disable_webhooks():
        others = [make_deposit(tenant=deposit.tenant) for _ in range(3)]
    sql("UPDATE core_deposit SET amount = 7")

    assert relay() == 4
    assert names() == [("deposit.updated", each.pk) for each in [deposit, *others]]


def test_a_row_that_is_moved_concerns_both_parents(deposit: Deposit) -> None:
    old = deposit.unit.landlord
    new = make_landlord()
    Event.objects.all().delete()

    sql("UPDATE core_rentalunit SET landlord_id = %s", new.pk)
    relay()

    assert sorted(names()) == [("landlord.updated", old.pk), ("landlord.updated", new.pk)]


def test_a_row_that_is_moved_beside_the_orm_concerns_both_parents(deposit: Deposit) -> None:
    old = deposit.unit.landlord
    new = make_landlord()
    Event.objects.all().delete()

    with transaction.atomic():
        deposit.unit.save()
        sql("UPDATE core_rentalunit SET landlord_id = %s", new.pk)

    assert sorted(names()) == [
        ("deposit.updated", deposit.pk),
        ("landlord.updated", old.pk),
        ("landlord.updated", new.pk),
    ]


def test_a_row_that_is_deleted_concerns_its_parent(deposit: Deposit) -> None:
    landlord = deposit.landlord
    with disable_webhooks():
        unit = make_unit(landlord=landlord)

    sql("DELETE FROM core_rentalunit WHERE id = %s", unit.pk)
    relay()

    assert said()[0][0] == "landlord.updated"
    assert names() == [("landlord.updated", landlord.pk)]


def test_a_cascade_of_the_database_is_seen(deposit: Deposit) -> None:
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, "core_deposit")
    (key,) = [
        name
        for name, each in found.items()
        if each["columns"] == ["tenant_id"] and each["foreign_key"]
    ]
    constraint = (
        f"ALTER TABLE core_deposit DROP CONSTRAINT {key}, ADD CONSTRAINT {key} "
        "FOREIGN KEY (tenant_id) REFERENCES core_tenant (id) {} DEFERRABLE INITIALLY DEFERRED"
    )
    sql(constraint.format("ON DELETE CASCADE"))

    try:
        sql("DELETE FROM core_tenant")
        relay()
    finally:
        sql(constraint.format(""))

    assert names() == [("deposit.deleted", deposit.pk)]


def test_a_column_that_nobody_reads_is_changed_in_silence(deposit: Deposit) -> None:
    sql("UPDATE core_tenant SET notes = 'unread'")
    sql("UPDATE core_tenant SET name = name")

    assert relay() == 1
    assert said() == []


def test_what_is_rolled_back_says_nothing(deposit: Deposit) -> None:
    with transaction.atomic():
        sql("UPDATE core_deposit SET amount = 7")
        transaction.set_rollback(True)
    with transaction.atomic():
        Tag.objects.create(name="unused")
        with transaction.atomic():
            sql("UPDATE core_deposit SET amount = 7")
            transaction.set_rollback(True)

    assert relay() <= 1
    assert said() == []


@pytest.mark.parametrize("is_atomic", [True, False])
def test_disabled_blocks_say_nothing(deposit: Deposit, *, is_atomic: bool) -> None:
    def write() -> None:
        with disable_webhooks():
            sql("/* raw */ UPDATE core_deposit SET amount = 7")
            Deposit.objects.update(note="x")

    if is_atomic:
        with transaction.atomic():
            write()
            sql("SELECT 1")
            sql("UPDATE core_tenant SET name = 'said'")
    else:
        write()
        sql("UPDATE core_tenant SET name = 'said'")

    assert relay() == 1
    assert names() == [("deposit.updated", deposit.pk)]


def test_nothing_is_set_for_longer_than_a_transaction(deposit: Deposit) -> None:
    with connection.cursor() as cursor:
        with transaction.atomic(), disable_webhooks():
            sql("UPDATE core_deposit SET amount = 7")
            cursor.execute("SELECT current_setting('drf_webhooks.capture', true)")
            inside = cursor.fetchone()
        with disable_webhooks():
            sql("UPDATE core_deposit SET amount = 8")
        cursor.execute("SELECT current_setting('drf_webhooks.capture', true)")
        outside = cursor.fetchone()

    assert (inside, outside) == (("off",), ("",))


def test_behind_a_pool_of_transactions_nothing_is_left_behind(deposit: Deposit) -> None:
    """B28: each transaction gets the connection of the pool that has rested longest."""
    with pooled(servers=2) as place, moved(**place):
        for number in range(4):
            with disable_webhooks():
                sql("UPDATE core_deposit SET amount = %s", number)
            assert RowChange.objects.count() == number
            sql("UPDATE core_deposit SET amount = %s", number + 10)
        relay()

        assert said() == [("deposit.updated", form(DepositSerializer, Deposit.objects.get()))]


def test_a_session_of_several_transactions_says_one_thing_of_an_object(deposit: Deposit) -> None:
    with webhook_signal_session():
        fresh = Deposit.objects.create(tenant=deposit.tenant)
        with transaction.atomic():
            deposit.save()
            sql("DELETE FROM core_deposit WHERE id = %s", fresh.pk)
        with transaction.atomic():
            deposit.save()
            sql("UPDATE core_deposit SET amount = 7")

    assert [(name, data["amount"]) for name, data in said()] == [("deposit.updated", "7.00")]


def test_two_sessions_in_one_transaction_do_not_say_each_others_changes(deposit: Deposit) -> None:
    with transaction.atomic():
        Tenant.objects.update(name="implicit")
        with webhook_signal_session():
            deposit.landlord.save()

    assert sorted(names()) == [
        ("deposit.updated", deposit.pk),
        ("deposit.updated", deposit.pk),
        ("landlord.updated", deposit.landlord_id),
    ]


def test_another_program_is_heard(deposit: Deposit) -> None:
    stranger = connection.copy()
    stranger.ensure_connection()
    with stranger.connection.cursor() as cursor:
        cursor.execute("UPDATE core_deposit SET amount = 7")
    stranger.close()

    assert relay() == 1
    assert names() == [("deposit.updated", deposit.pk)]


def test_a_disabled_block_in_a_savepoint_leaves_nothing_behind(deposit: Deposit) -> None:
    with transaction.atomic():
        with transaction.atomic(), disable_webhooks():
            sql("UPDATE core_deposit SET amount = 7")
            transaction.set_rollback(True)
        sql("UPDATE core_deposit SET amount = 8")
    with transaction.atomic(), disable_webhooks():
        sql("UPDATE core_deposit SET amount = 9")
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            sql("UPDATE core_deposit SET amount = 10")
            raise ZeroDivisionError
        sql("UPDATE core_deposit SET amount = 11")

    assert relay() == 1
    assert [data["amount"] for _, data in said()] == ["11.00"]


def test_one_resource_may_be_disabled(deposit: Deposit) -> None:
    landlord = deposit.landlord

    with transaction.atomic(), disable_webhooks(DepositWebhook):
        sql("UPDATE core_landlord SET name = 'raw'")
        sql("UPDATE core_deposit SET amount = 7")
        deposit.unit.tags.add(Tag.objects.create(name="unsaid"))
    relay()

    assert names() == [("landlord.updated", landlord.pk)]


def test_outside_sessions_nothing_is_journaled_if_none_is_implicit(
    deposit: Deposit, settings: Any
) -> None:
    settings.DRF_WEBHOOKS = {"IMPLICIT_SESSIONS": False}

    sql("UPDATE core_deposit SET amount = 7")

    assert relay() == 0


def test_what_may_not_be_in_a_transaction_is_not_put_into_one(deposit: Deposit) -> None:
    with disable_webhooks():
        sql("VACUUM core_deposit")

    assert relay() == 0


def test_a_broken_transaction_is_left_alone(deposit: Deposit) -> None:
    with disable_webhooks(), pytest.raises(models.ProtectedError), transaction.atomic():
        with pytest.raises(Exception, match="division by zero"), transaction.atomic():
            sql("UPDATE core_deposit SET amount = 1 / 0")
        raise models.ProtectedError("", set())

    assert relay() == 0


def test_created_and_deleted_is_nothing(deposit: Deposit) -> None:
    with transaction.atomic():
        first = Deposit.objects.create(tenant=deposit.tenant)
        sql("DELETE FROM core_deposit WHERE id = %s", first.pk)
        second = Deposit.objects.create(tenant=deposit.tenant)
        second.delete()
        sql("INSERT INTO core_deposit (id, amount, note, tenant_id) VALUES (900, 1, '', %s)", 1)
        sql("DELETE FROM core_deposit WHERE id = 900")

    assert said() == []


def test_the_last_word_on_an_object_is_the_databases(deposit: Deposit) -> None:
    with disable_webhooks():
        other = make_deposit(tenant=deposit.tenant)
    with transaction.atomic():
        deposit.save()
        sql("DELETE FROM core_deposit WHERE id = %s", deposit.pk)
        sql(
            "INSERT INTO core_deposit (id, amount, note, tenant_id) VALUES (900, 1, '', %s)",
            deposit.tenant_id,
        )
        Deposit.objects.filter(pk=900).update(amount=2)
        pk = other.pk
        other.delete()
        sql(
            "INSERT INTO core_deposit (id, amount, note, tenant_id) VALUES (%s, 1, '', %s)",
            pk,
            deposit.tenant_id,
        )

    assert sorted(names()) == [
        ("deposit.created", 900),
        ("deposit.deleted", deposit.pk),
        ("deposit.updated", pk),
    ]


def test_a_key_that_is_changed_is_a_row_that_went_and_one_that_came(deposit: Deposit) -> None:
    sql("UPDATE core_deposit SET id = 900")
    relay()

    assert names() == [("deposit.deleted", deposit.pk), ("deposit.created", 900)]


def orm_only(deposit: Deposit) -> None:
    tag = Tag.objects.create(name="a")
    deposit.unit.tags.add(tag)
    with transaction.atomic():
        with webhook_signal_session():
            fresh = Deposit.objects.create(tenant=deposit.tenant, amount=3)
            fresh.amount = 4
            fresh.save()
            fresh.unit = deposit.unit
            fresh.save(update_fields=["unit"])
        fresh.save()
        with transaction.atomic():
            Deposit.objects.create(tenant=deposit.tenant)
            transaction.set_rollback(True)
        with webhook_signal_session():
            Tenant.objects.update(name="new", notes="x")
            Landlord.objects.bulk_create([Landlord(name="one"), Landlord(name="two")])
    with webhook_signal_session():
        unit = make_unit(landlord=deposit.landlord)
        RentalUnit.objects.filter(pk=unit.pk).update(landlord=Landlord.objects.get(name="one"))
        unit.delete()
        deposit.unit.tags.clear()
        Tag.objects.filter(pk=tag.pk).update(name="b")
    Remark.objects.create(
        text="x", content_type=ContentType.objects.get_for_model(Deposit), object_id=deposit.pk
    )
    with transaction.atomic():
        gone = Deposit.objects.create(tenant=deposit.tenant)
        gone.delete()
    Deposit.objects.filter(pk=fresh.pk).delete()
    Landlord.objects.filter(name="two").delete()
    deposit.landlord.delete()
    deposit.tenant.delete()


def test_the_orm_alone_says_exactly_what_it_says_without_triggers(
    everything: Endpoint, transactional_db: None, request: pytest.FixtureRequest
) -> None:
    def events() -> list[Any]:
        with disable_webhooks():
            deposit = make_deposit()
        orm_only(deposit)
        # Identifiers count on from one run to the next.
        seen: dict[Any, int] = {}
        plain = [
            (name, seen.setdefault((name.partition(".")[0], data["id"]), len(seen)))
            for name, data in said()
        ]
        for model in (Event, Deposit, Landlord, Tenant, RentalUnit, Tag, Remark):
            with disable_webhooks():
                model.objects.all().delete()
        return plain

    without = events()
    request.getfixturevalue("capture")
    captured = events()

    assert captured == without
    assert relay() <= 1
    assert not RowChange.objects.exists()


def test_rows_of_a_many_to_many_table_come_and_go(deposit: Deposit) -> None:
    with disable_webhooks():
        tag = Tag.objects.create(name="raw")

    sql(
        "INSERT INTO core_rentalunit_tags (rentalunit_id, tag_id) VALUES (%s, %s)",
        deposit.unit_id,
        tag.pk,
    )
    relay()
    sql("DELETE FROM core_rentalunit_tags")
    relay()

    assert [data["unit"]["tags"] for _, data in said()] == [["raw"], []]


def test_a_deleted_row_with_an_owner_is_said_to_the_owner_alone(capture: None) -> None:
    owner = make_user()
    Endpoint.objects.create(url="https://a.example/", event_types=["*"], owner=owner)
    Endpoint.objects.create(url="https://b.example/", event_types=["*"], owner=make_user())
    with disable_webhooks():
        document = Document.objects.create(title="a", user=owner)
        Document.objects.create(title="b")

    sql("DELETE FROM core_document")
    relay()

    (event,) = Event.objects.all()
    assert (event.type, event.data) == ("core.document.deleted", {"id": str(document.pk)})
    assert event.owner_id == owner.pk
    assert event.deliveries.count() == 1


def test_an_owner_that_the_keys_do_not_tell_hears_nothing(capture: None) -> None:
    owner = make_user(username="Ada")
    Endpoint.objects.create(url="https://a.example/", event_types=["*"], owner=owner)
    with isolated_registry():

        class TitledWebhook(ModelSerializerWebhook):
            serializer_class = DocumentSerializer

            @classmethod
            def get_owner(cls, instance: Document) -> Any:
                return type(owner).objects.get(username=instance.title)

        with disable_webhooks():
            Document.objects.create(title="Ada")
        sql("DELETE FROM core_document")
        relay()

    assert not Event.objects.exists()


def test_a_resource_that_compares_counts_raw_changes(deposit: Deposit) -> None:
    DepositWebhook.skip_unchanged = True
    try:
        with webhook_signal_session(), transaction.atomic():
            sql("UPDATE core_tenant SET name = 'raw'")
            deposit.save()
    finally:
        del DepositWebhook.skip_unchanged

    assert [data["tenant"]["name"] for _, data in said()] == ["raw"]


def test_a_payload_that_fails_does_not_stop_the_relay(deposit: Deposit, settings: Any) -> None:
    settings.DRF_WEBHOOKS = {"ON_PAYLOAD_ERROR": "raise"}

    sql("UPDATE core_deposit SET note = 'boom'")

    assert relay() == 1
    assert Event.objects.get().error


def test_a_row_of_a_parents_table_is_the_object_too(capture: None, everything: Endpoint) -> None:
    class HouseSerializer(serializers.ModelSerializer[House]):
        class Meta:
            model = House
            fields = ["id", "name", "floors"]

    with isolated_registry():

        class HouseWebhook(ModelSerializerWebhook):
            serializer_class = HouseSerializer

        run(CaptureRows("House"), "core")
        with disable_webhooks():
            house = House.objects.create(name="a")
        with transaction.atomic():
            house.save()
            sql("UPDATE core_rentalunit SET name = 'b'")
        sql("UPDATE core_rentalunit SET name = 'c'")
        relay()
        run(CaptureRows("House"), "core", backwards=True)

    assert [data["name"] for _, data in said()] == ["b", "c"]


def test_composite_keys_are_keys(capture: None) -> None:
    with disable_webhooks():
        book = Book.objects.create(name="a")
        Chapter.objects.create(book=book, number=1, title="a")
        Chapter.objects.create(book=book, number=2, title="b")

    sql("UPDATE bookshop_chapter SET title = 'c' WHERE number = 2")

    row = RowChange.objects.get()
    assert (row.operation, row.key, row.columns) == ("update", [book.pk, 2], ["title"])
    assert row.before == {"book_id": book.pk, "number": 2}


def test_the_operation_goes_forwards_and_backwards(capture: None) -> None:
    operation = CaptureRows("Tag")
    run(operation, "core")
    run(operation, "core", backwards=True)
    sql("INSERT INTO core_tag (name) VALUES ('unseen')")
    unseen = relay()

    run(CaptureRows("core.Tag"), "elsewhere")
    sql("INSERT INTO core_tag (name) VALUES ('seen')")

    assert (unseen, relay()) == (0, 1)
    assert str(RowChange(operation="insert", table="core_tag", key=[1])) == "insert core_tag [1]"
    assert operation.describe() == "Capture the rows of Tag"
    assert operation.migration_name_fragment == "capture_tag"


def test_missing_and_outdated_triggers_are_reported(capture: None) -> None:
    def reported() -> list[tuple[str | None, bool]]:
        found = check_triggers(databases=["default"])
        return [(each.id, "core.Tag" in each.msg) for each in found]

    whole = reported()
    run(CaptureRows("Tag"), "core", backwards=True)
    missing = reported()
    run(CaptureRows("Tag"), "core")
    name = definitions.function(Tag)
    sql(
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql "
        "AS 'BEGIN RETURN NULL; END'"
    )
    outdated = reported()

    assert whole == []
    assert missing == outdated == [("drf_webhooks.W101", True)]
    assert check_triggers(databases=None) == []


def test_a_form_that_was_taken_after_a_raw_write_is_not_compared_with(deposit: Deposit) -> None:
    with disable_webhooks():
        other = make_deposit(tenant=deposit.tenant)
    DepositWebhook.skip_unchanged = True
    try:
        with transaction.atomic():
            sql("UPDATE core_deposit SET amount = 7 WHERE id = %s", other.pk)
            deposit.tenant.save()
    finally:
        del DepositWebhook.skip_unchanged

    assert [(data["id"], data["amount"]) for _, data in said()] == [(other.pk, "7.00")]


@pytest.mark.skipif(connection.vendor == "postgresql", reason="it has triggers")
def test_another_database_is_left_alone(everything: Endpoint) -> None:
    silence.install()
    run(CaptureRows("Tag"), "core")
    Journal().complete({None: Changes()}, log_of("default"))

    found = check_triggers(databases=["default"])
    run(CaptureRows("Tag"), "core", backwards=True)

    assert [each.id for each in found] == ["drf_webhooks.W102"]
    assert relay() == 0


def test_a_long_name_and_a_name_with_a_schema_are_names() -> None:
    class Long(models.Model):
        class Meta:
            app_label = "core"
            db_table = "x" * 63
            managed = False

    class Elsewhere(models.Model):
        class Meta:
            app_label = "core"
            db_table = 'other"."there'
            managed = False

    class Gone(models.Model):
        number = models.IntegerField()

        class Meta:
            app_label = "gone"

    del apps.all_models["gone"]["gone"]
    try:
        assert definitions._kept(Gone) == ["id"]
        assert len(definitions.function(Long)) <= 63
        assert definitions.table_of(Elsewhere) == "there"
    finally:
        for name in ("long", "elsewhere"):
            del apps.all_models["core"][name]
        apps.clear_cache()
