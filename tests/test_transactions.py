"""The commit: events are stored before it, or it does not happen."""

from collections.abc import Iterator
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, connections, transaction
from django.test import TestCase, TransactionTestCase
from rest_framework import serializers

from drf_webhooks import pipeline
from drf_webhooks.exceptions import PayloadError, RecordingError
from drf_webhooks.models import Endpoint, Event
from drf_webhooks.registry import registry
from drf_webhooks.resources import ModelSerializerWebhook
from drf_webhooks.session import disable_webhooks, webhook_signal_session
from drf_webhooks.testing import capture_events
from drf_webhooks.transactions import log_of
from tests.app.models import Deposit, Tag, Tenant
from tests.factories import make_deposit
from tests.test_session import in_thread, names


@pytest.fixture
def deposit(transactional_db: None, everything: Endpoint) -> Deposit:
    with disable_webhooks():
        return make_deposit()


class Swallowing(serializers.ModelSerializer[Tag]):
    """Reads another table, and takes the error for an answer."""

    more = serializers.SerializerMethodField()

    class Meta:
        model = Tag
        fields = ("id", "more")

    def get_more(self, _: Tag) -> str:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT * FROM there_is_no_such_table")
        except DatabaseError:
            return "nothing"
        return "something"


class Failing(Swallowing):
    def get_more(self, _: Tag) -> str:
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM there_is_no_such_table")
        return "something"


class OnCommit(Swallowing):
    said: list[str] = []  # what the callbacks of a test leave behind

    def get_more(self, tag: Tag) -> str:
        transaction.on_commit(lambda: self.said.append(tag.name))
        with transaction.atomic():
            return str(Tag.objects.count())


def declare(serializer: type[serializers.ModelSerializer[Tag]]) -> None:
    class TagWebhook(ModelSerializerWebhook):
        serializer_class = serializer
        base_name = "core.tag"


class Owned(serializers.ModelSerializer[Tag]):
    class Meta:
        model = Tag
        fields = ("id",)


@pytest.fixture(autouse=True)
def _declared_as_before() -> Iterator[None]:
    known = list(registry)
    with registry.isolated():
        for resource in known:
            registry.add(resource)
        yield


def test_a_database_error_in_a_serializer_fails_the_commit(
    transactional_db: None, everything: Endpoint
) -> None:
    declare(Failing)

    with pytest.raises(DatabaseError):
        Tag.objects.create(name="balcony")

    assert not Tag.objects.exists()
    assert not Event.objects.exists()
    assert connection.get_autocommit()


def test_a_swallowed_database_error_never_loses_the_change_in_silence(
    transactional_db: None, everything: Endpoint
) -> None:
    declare(Swallowing)

    try:
        Tag.objects.create(name="balcony")
    except (RecordingError, DatabaseError):
        assert connection.vendor == "postgresql"

    assert Tag.objects.count() == Event.objects.count()


def test_an_error_swallowed_at_the_very_end_is_noticed(
    transactional_db: None, everything: Endpoint
) -> None:
    class TagWebhook(ModelSerializerWebhook):
        serializer_class = Owned
        base_name = "core.tag"

        @classmethod
        def get_owner(cls, instance: Tag) -> None:
            Swallowing().get_more(instance)

    if connection.vendor == "postgresql":
        with pytest.raises(RecordingError, match="was swallowed"):
            Tag.objects.create(name="balcony")
        assert not Tag.objects.exists()
    else:
        Tag.objects.create(name="balcony")
        assert Tag.objects.exists()


def test_savepoints_that_are_unknown_are_left_alone(deposit: Deposit) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        connection.execute_wrappers, kept = [], connection.execute_wrappers
        cursor.execute("SAVEPOINT unseen")
        connection.execute_wrappers = kept
        deposit.save()
        cursor.execute("RELEASE SAVEPOINT unseen")

    assert names() == ["updated"]


def test_a_savepoint_adds_to_what_was_noted_before(deposit: Deposit) -> None:
    with transaction.atomic():
        deposit.save()
        with transaction.atomic():
            deposit.delete()

    assert names() == ["deleted"]


def test_a_connection_is_followed_before_it_is_open() -> None:
    logs = []

    def first_use() -> None:
        logs.append((log_of("default"), log_of("default"), connections["default"].connection))

    in_thread(first_use)

    ((first, second, opened),) = logs
    assert first is second
    assert opened is None


def test_callbacks_and_blocks_work_while_events_are_stored(
    transactional_db: None, everything: Endpoint
) -> None:
    declare(OnCommit)
    OnCommit.said.clear()

    Tag.objects.create(name="balcony")

    assert OnCommit.said == ["balcony"]
    assert names("core.tag") == ["created"]


def test_a_callback_of_somebody_else_that_raises_takes_no_event_away(deposit: Deposit) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), transaction.atomic():
        transaction.on_commit(fail)
        deposit.save()

    assert names() == ["updated"]


def test_a_save_in_autocommit_stores_both_or_neither(deposit: Deposit) -> None:
    def refuse(execute: Any, sql: str, params: Any, many: Any, context: Any) -> Any:
        if "drf_webhooks_event" in sql:
            msg = "the disk is full"
            raise DatabaseError(msg)
        return execute(sql, params, many, context)

    with pytest.raises(DatabaseError, match="the disk is full"), connection.execute_wrapper(refuse):
        Tenant.objects.filter(pk=deposit.tenant_id).update(notes="x")
        deposit.amount = 3
        deposit.save()

    deposit.refresh_from_db()
    assert deposit.amount == 100
    assert names() == []
    deposit.save()
    assert names() == ["updated"]


def test_a_commit_that_fails_leaves_nothing_behind(deposit: Deposit) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        deposit.save()
        Deposit.objects.create(tenant_id=10**9)

    assert names() == []
    deposit.save()
    assert names() == ["updated"]


def test_commit_inside_a_block_is_refused_as_ever(deposit: Deposit) -> None:
    with pytest.raises(transaction.TransactionManagementError), transaction.atomic():
        deposit.save()
        transaction.commit()

    assert names() == []


def test_turning_autocommit_on_commits_what_is_open(deposit: Deposit) -> None:
    transaction.set_autocommit(False)
    deposit.save()
    transaction.set_autocommit(True)

    assert names() == ["updated"]


def test_a_lost_connection_takes_its_transaction_along(deposit: Deposit) -> None:
    # MariaDB's driver lets its own error through from here.
    errors = (DatabaseError, connection.Database.Error)  # type: ignore[attr-defined]  # the driver's module
    with pytest.raises(errors), transaction.atomic():
        deposit.save()
        connection.close()
        deposit.save()
    connection.connect()

    deposit.tenant.save()

    assert names() == ["updated"]


@pytest.mark.parametrize("savepoint", [True, False])
def test_blocks_nest_to_any_depth(deposit: Deposit, *, savepoint: bool) -> None:
    with transaction.atomic(durable=True):
        for _ in range(2):
            with transaction.atomic(savepoint=savepoint), transaction.atomic():
                deposit.save()
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            with transaction.atomic():
                deposit.delete()
            raise ZeroDivisionError

    assert names() == ["updated"]


def test_a_question_undone_by_its_savepoint_is_not_answered(deposit: Deposit) -> None:
    with transaction.atomic(), pytest.raises(ZeroDivisionError), transaction.atomic():
        deposit.tenant.delete()
        raise ZeroDivisionError

    assert names() == []
    assert Deposit.objects.exists()


class InTestCase(TestCase):
    """What a project's own tests see."""

    deposit: Deposit

    @classmethod
    def setUpTestData(cls) -> None:
        Endpoint.objects.create(url="https://receiver.example/", event_types=["*"])
        cls.deposit = make_deposit()

    def test_blocks_count_as_committed_when_they_end(self) -> None:
        with transaction.atomic():
            self.deposit.save()
            self.deposit.save()
        self.deposit.delete()

        assert names() == ["created", "updated", "deleted"]

    def test_a_capture_gives_what_was_said_inside_it(self) -> None:
        pk = self.deposit.pk
        with capture_events() as events:
            with transaction.atomic():
                self.deposit.save()
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                self.deposit.delete()
                raise ZeroDivisionError
            self.deposit.tenant.save()

        assert [(each.type, each.object_key) for each in events] == [
            ("core.deposit.updated", str(pk))
        ] * 2

    def test_what_was_undone_is_not_said(self) -> None:
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            self.deposit.save()
            raise ZeroDivisionError

        assert names() == ["created"]

    def test_many_to_many_rows(self) -> None:
        assert self.deposit.unit is not None
        self.deposit.unit.tags.create(name="balcony")
        self.deposit.unit.tags.clear()

        assert names() == ["created", "updated", "updated"]


class InTransactionTestCase(TransactionTestCase):
    def test_the_same_is_said(self) -> None:
        Endpoint.objects.create(url="https://receiver.example/", event_types=["*"])
        deposit = make_deposit()
        with transaction.atomic():
            deposit.save()
            deposit.save()
        deposit.delete()

        assert names() == ["created", "updated", "deleted"]


def without_events() -> Any:
    """Have the database refuse what is recorded, as one without room does."""

    def refused(execute: Any, sql: str, *arguments: Any) -> Any:
        if "INSERT INTO" in sql and "drf_webhooks_baseobject" in sql:
            msg = "no space left on device"
            raise DatabaseError(msg)
        return execute(sql, *arguments)

    return connection.execute_wrapper(refused)


@pytest.mark.parametrize("in_session", [False, True])
def test_what_cannot_be_recorded_fails_the_commit(deposit: Deposit, *, in_session: bool) -> None:
    block = webhook_signal_session() if in_session else nullcontext()
    with (
        without_events(),
        pytest.raises(DatabaseError, match="no space left"),
        transaction.atomic(),
        block,
    ):
        Deposit.objects.create(tenant=deposit.tenant)

    assert Deposit.objects.count() == 1
    assert not Event.objects.exists()


def test_what_cannot_be_recorded_may_be_parked(deposit: Deposit, settings: Any) -> None:
    settings.DRF_WEBHOOKS = {**settings.DRF_WEBHOOKS, "ON_RECORDING_ERROR": "park"}

    with without_events(), transaction.atomic():
        deposit.note = "kept"
        deposit.save()
        deposit.tenant.name = "kept too"
        deposit.tenant.save()
        gone = Deposit.objects.create(tenant=deposit.tenant)
        gone.delete()
    deposit.refresh_from_db()
    deposit.save()

    *parked, last = Event.objects.order_by("created_at", "id")
    assert deposit.note == "kept"
    assert sorted((each.type, each.object_key) for each in parked) == [
        ("core.deposit.updated", str(deposit.pk)),
        ("core.deposit.updated", "null"),
    ]
    assert all("DatabaseError: no space left on device" in each.error for each in parked)
    assert any(f"core.Tenant that changed: {deposit.tenant_id}." in each.error for each in parked)
    assert (last.error, last.data["note"]) == ("", "kept")


def test_a_session_of_several_transactions_may_park_too(deposit: Deposit, settings: Any) -> None:
    settings.DRF_WEBHOOKS = {**settings.DRF_WEBHOOKS, "ON_RECORDING_ERROR": "park"}

    def refused(execute: Any, sql: str, *arguments: Any) -> Any:
        if "INSERT INTO" in sql and "drf_webhooks_event" in sql and not done:
            done.append(sql)
            msg = "no space left on device"
            raise DatabaseError(msg)
        return execute(sql, *arguments)

    done: list[str] = []
    with connection.execute_wrapper(refused), webhook_signal_session():
        deposit.save()
        Deposit.objects.create(tenant=deposit.tenant)

    assert sorted((each.type, bool(each.error)) for each in Event.objects.all()) == [
        ("core.deposit.created", False),
        ("core.deposit.updated", True),
    ]


def test_a_form_that_must_not_fail_fails_the_commit_all_the_same(
    deposit: Deposit, settings: Any
) -> None:
    settings.DRF_WEBHOOKS = {
        **settings.DRF_WEBHOOKS,
        "ON_RECORDING_ERROR": "park",
        "ON_PAYLOAD_ERROR": "raise",
    }

    with pytest.raises(PayloadError):
        Deposit.objects.create(tenant=deposit.tenant, note="boom")

    assert Deposit.objects.count() == 1


class Broken:
    """A source of changes that cannot tell them now."""

    def complete(self, noted: Any, log: Any) -> None:
        msg = "not now"
        raise DatabaseError(msg)

    def relay(self, using: str) -> int:
        return 0


@pytest.mark.parametrize("chosen", ["raise", "park"])
def test_a_source_that_fails(deposit: Deposit, settings: Any, chosen: str) -> None:
    settings.DRF_WEBHOOKS = {**settings.DRF_WEBHOOKS, "ON_RECORDING_ERROR": chosen}
    pipeline.sources.append(Broken())
    try:
        with suppress(DatabaseError):
            deposit.save()
    finally:
        pipeline.sources.clear()

    assert [each.error for each in Event.objects.all()] == ([] if chosen == "raise" else [""])
