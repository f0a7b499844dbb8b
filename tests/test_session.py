"""Sessions, transactions, and what is said of them."""

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import DatabaseError, connection, connections, transaction
from django.utils import timezone

from drf_webhooks import pipeline
from drf_webhooks.exceptions import PayloadError
from drf_webhooks.models import Delivery, Endpoint, Event
from drf_webhooks.session import WebhookSignalSession, disable_webhooks, webhook_signal_session
from tests.app.models import Deposit, Document, Tenant
from tests.app.serializers import DepositSerializer, form
from tests.app.webhooks import DepositWebhook, LandlordWebhook
from tests.factories import make_deposit, make_user
from tests.loops import run


def said(resource: str = "core.deposit") -> list[tuple[str, Any]]:
    events = Event.objects.filter(resource=resource, held_until=None)
    ordered = sorted(events, key=lambda each: (each.created_at, each.pk))
    return [(each.type.rpartition(".")[2], each.data) for each in ordered]


def names(resource: str = "core.deposit") -> list[str]:
    return [name for name, _ in said(resource)]


@pytest.mark.django_db(transaction=True)
def test_an_autocommit_save_is_one_event_with_the_form_of_the_api(everything: Endpoint) -> None:
    deposit = make_deposit()

    assert said() == [("created", form(DepositSerializer, deposit))]
    assert Delivery.objects.count() == Event.objects.count()


@pytest.mark.django_db(transaction=True)
def test_many_transactions_of_a_session_are_said_once(everything: Endpoint) -> None:
    with webhook_signal_session():
        deposit = make_deposit()
        deposit.amount = 7
        deposit.save()
        assert names() == []
        deposit.tenant.name = "Bea"
        deposit.tenant.save()

    assert said() == [("created", form(DepositSerializer, deposit))]
    assert not Event.objects.exclude(held_until=None).exists()


@pytest.mark.django_db(transaction=True)
def test_created_and_deleted_is_nothing(everything: Endpoint) -> None:
    with webhook_signal_session():
        make_deposit().delete()

    assert names() == []


@pytest.mark.django_db(transaction=True)
def test_updated_and_deleted_is_deleted(everything: Endpoint) -> None:
    with disable_webhooks():
        deposit = make_deposit()
    pk = deposit.pk
    with webhook_signal_session():
        deposit.save()
        deposit.delete()

    assert said() == [("deleted", {"id": pk})]


@pytest.mark.django_db(transaction=True)
def test_what_a_savepoint_undid_is_not_said(everything: Endpoint) -> None:
    with disable_webhooks():
        one, two = make_deposit(), make_deposit()
    with transaction.atomic():
        one.save()
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            two.save()
            raise ZeroDivisionError

    assert [data["id"] for _, data in said()] == [one.pk]


@pytest.mark.django_db(transaction=True)
def test_a_rolled_back_transaction_says_nothing(everything: Endpoint) -> None:
    with pytest.raises(ZeroDivisionError), webhook_signal_session(), transaction.atomic():
        make_deposit()
        raise ZeroDivisionError

    assert not Event.objects.exists()
    assert not Deposit.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_nested_changes_are_noticed(everything: Endpoint) -> None:
    with disable_webhooks():
        deposit = make_deposit()
        other = make_deposit()
    deposit.unit.address.city = "Wien"
    deposit.unit.address.save()
    deposit.tenant.user.username = "new"
    deposit.tenant.user.save()
    deposit.unit.tags.create(name="balcony")
    deposit.landlord.address.delete()

    assert [data["id"] for _, data in said()] == [deposit.pk] * 4
    assert said()[-1][1] == form(DepositSerializer, deposit)
    assert other.pk != deposit.pk


@pytest.mark.django_db(transaction=True)
def test_a_moved_child_changes_both_parents(everything: Endpoint) -> None:
    with disable_webhooks():
        one, two = make_deposit(), make_deposit()
    one.unit.landlord = two.landlord
    one.unit.save()

    changed = {data["id"] for _, data in said("core.landlord")}
    assert changed == {one.landlord_id, two.landlord_id}


@pytest.mark.django_db
def test_a_test_case_says_what_production_says(everything: Endpoint) -> None:
    deposit = make_deposit()
    deposit.delete()

    assert names() == ["created", "deleted"]


@pytest.mark.django_db(transaction=True)
def test_trigger(everything: Endpoint) -> None:
    with disable_webhooks():
        deposit = make_deposit()
        Deposit.objects.update(amount=3)
    DepositWebhook.trigger(Deposit.objects.all(), "updated")

    assert said() == [("updated", form(DepositSerializer, deposit))]


def in_thread(function: Any) -> None:
    """Run a function in a thread that closes its connections."""

    def run() -> None:
        try:
            function()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(timeout=30)


@pytest.fixture
def deposit(transactional_db: None, everything: Endpoint) -> Deposit:
    with disable_webhooks():
        return make_deposit()


def test_a_nested_session_joins_the_outer_one(deposit: Deposit) -> None:
    with webhook_signal_session() as outer:
        with webhook_signal_session() as inner:
            deposit.save()
        assert inner is outer
        assert names() == []
        deposit.save()

    assert names() == ["updated"]


def test_a_decorated_function_is_a_session_for_each_call(deposit: Deposit) -> None:
    @webhook_signal_session()
    def save_twice() -> str:
        deposit.save()
        deposit.save()
        return "done"

    assert [save_twice(), save_twice()] == ["done", "done"]
    assert names() == ["updated", "updated"]


def test_an_async_session_survives_sync_to_async(deposit: Deposit) -> None:
    @webhook_signal_session()
    async def save_twice() -> None:
        await deposit.asave()
        await sync_to_async(deposit.tenant.save)()

    async def main() -> None:
        await save_twice()
        async with webhook_signal_session():
            await deposit.asave()
            await deposit.asave()
        async with disable_webhooks():
            await deposit.asave()

    run(main())

    assert names() == ["updated", "updated"]


def test_tasks_that_run_together_each_have_their_session(deposit: Deposit) -> None:
    with disable_webhooks():
        other = make_deposit()

    async def save_twice(each: Deposit) -> None:
        async with webhook_signal_session():
            await each.asave()
            await each.asave()

    async def main() -> None:
        await asyncio.gather(save_twice(deposit), save_twice(other))

    run(main())

    assert sorted(data["id"] for _, data in said()) == [deposit.pk, other.pk]


def test_a_thread_does_not_see_the_session_of_another(deposit: Deposit) -> None:
    with webhook_signal_session():
        in_thread(deposit.save)
        assert names() == ["updated"]

    assert names() == ["updated"]


def test_a_thread_with_a_copy_of_the_context_joins_the_session(deposit: Deposit) -> None:
    with webhook_signal_session():
        deposit.save()
        context = contextvars.copy_context()
        in_thread(lambda: context.run(deposit.save))
        assert names() == []

    assert names() == ["updated"]


def test_what_outlives_its_session_is_recorded_by_transaction(deposit: Deposit) -> None:
    with webhook_signal_session():
        context = contextvars.copy_context()
    in_thread(lambda: context.run(deposit.save))

    assert names() == ["updated"]


def test_threads_save_the_same_object_at_once_and_count_its_events(deposit: Deposit) -> None:
    def save(_: int) -> None:
        try:
            with transaction.atomic():
                Deposit.objects.select_for_update().get(pk=deposit.pk).save()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(save, range(12)))

    numbers = Event.objects.filter(resource="core.deposit").values_list("sequence", flat=True)
    assert sorted(number or 0 for number in numbers) == list(range(1, 13))


def test_without_implicit_sessions_only_sessions_record(deposit: Deposit, settings: Any) -> None:
    settings.DRF_WEBHOOKS = {"IMPLICIT_SESSIONS": False}
    deposit.save()
    deposit.unit.tags.create(name="garden")
    assert names() == []

    DepositWebhook.trigger(deposit)
    with webhook_signal_session():
        deposit.save()

    assert names() == ["updated", "updated"]


def test_a_failed_session_says_what_was_committed(deposit: Deposit) -> None:
    with pytest.raises(ZeroDivisionError), webhook_signal_session():
        deposit.save()
        with transaction.atomic():
            deposit.tenant.deposits.create(amount=3)
            raise ZeroDivisionError

    assert [data["id"] for _, data in said()] == [deposit.pk]


def test_a_session_inside_a_transaction_commits_with_it(deposit: Deposit) -> None:
    with transaction.atomic():
        with webhook_signal_session():
            deposit.save()
        assert names() == ["updated"]
        deposit.save()

    assert names() == ["updated", "updated"]


def test_a_session_that_fails_inside_a_transaction_that_goes_on(deposit: Deposit) -> None:
    with transaction.atomic(), pytest.raises(ZeroDivisionError), webhook_signal_session():
        deposit.save()
        raise ZeroDivisionError

    assert names() == ["updated"]


def test_a_transaction_marked_for_rollback_says_nothing(deposit: Deposit) -> None:
    with transaction.atomic(), webhook_signal_session():
        deposit.save()
        transaction.set_rollback(True)

    assert not Event.objects.exists()


def test_savepoints_by_hand_undo_what_they_undo(deposit: Deposit) -> None:
    with disable_webhooks():
        other = make_deposit()
    # Django 6.1 has given it another name.
    create: Any = getattr(transaction, "savepoint_create", None) or transaction.savepoint
    with transaction.atomic():
        sid = create()
        deposit.save()
        transaction.savepoint_rollback(sid)
        other.save()
        transaction.savepoint_commit(sid)

    assert [data["id"] for _, data in said()] == [other.pk]


def test_a_savepoint_in_raw_sql_is_followed(deposit: Deposit) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SAVEPOINT mine")
        deposit.save()
        cursor.execute("ROLLBACK TO SAVEPOINT mine")

    assert names() == []


def test_transactions_by_hand(deposit: Deposit) -> None:
    transaction.set_autocommit(False)
    try:
        deposit.save()
        transaction.rollback()
        deposit.save()
        transaction.commit()
        deposit.tenant.save()
        transaction.commit()
    finally:
        transaction.set_autocommit(True)

    assert names() == ["updated", "updated"]


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_each_database_stores_the_events_of_its_own_changes() -> None:
    Endpoint.objects.using("other").create(url="https://a.example/", event_types=["*"])
    with webhook_signal_session():
        with transaction.atomic(using="other"):
            tenant = Tenant.objects.using("other").create(name="Ada")
            deposit = Deposit.objects.using("other").create(tenant=tenant)
            Deposit.objects.create(tenant=Tenant.objects.create(name="Bea"))
        with pytest.raises(ZeroDivisionError), transaction.atomic(using="other"):
            Deposit.objects.using("other").create(tenant=tenant)
            raise ZeroDivisionError

    assert [each.data["id"] for each in Event.objects.using("other")] == [deposit.pk]
    assert Delivery.objects.using("other").count() == 1
    assert not Event.objects.exists()


def test_created_in_one_transaction_and_deleted_in_another_is_nothing(
    transactional_db: None, everything: Endpoint
) -> None:
    with webhook_signal_session():
        made = make_deposit()
        assert Event.objects.filter(resource="core.deposit").exists()
        made.delete()

    assert not Event.objects.filter(resource="core.deposit").exists()


def test_what_somebody_else_told_of_meanwhile_is_deleted_all_the_same(
    transactional_db: None, everything: Endpoint
) -> None:
    with webhook_signal_session():
        made = make_deposit()

        def rename() -> None:
            Tenant.objects.filter(pk=made.tenant_id).update(name="Eve")
            connections.close_all()

        # In no session: whoever does it tells of it at once.
        thread = threading.Thread(target=rename)
        thread.start()
        thread.join()
        made.delete()

    deposits = Event.objects.filter(resource="core.deposit").order_by("sequence")
    assert [(each.type, each.sequence) for each in deposits] == [
        ("core.deposit.updated", 1),
        ("core.deposit.deleted", 2),
    ]


def test_deleted_in_a_session_without_an_owner_is_nothing(
    transactional_db: None, everything: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    document = Document.objects.create(title="Nobody's")

    with webhook_signal_session():
        document.delete()

    assert not Event.objects.exists()
    assert not caplog.records


def test_deleted_and_created_again_is_updated(deposit: Deposit) -> None:
    with webhook_signal_session():
        pk = deposit.pk
        deposit.delete()
        Deposit.objects.create(pk=pk, tenant=deposit.tenant, unit=deposit.unit, amount=9)

    assert [(name, data["amount"]) for name, data in said()] == [("updated", "9.00")]


def test_the_events_of_a_session_that_died_are_released_once(deposit: Deposit) -> None:
    session = webhook_signal_session()
    context = contextvars.Context()
    context.run(session.__enter__)
    context.run(deposit.save)
    assert pipeline.release_due() == 0

    Event.objects.update(held_until=timezone.now() - timedelta(seconds=1))
    assert pipeline.release_due() == 1
    context.run(session.__exit__, None, None, None)

    assert said() == [("updated", form(DepositSerializer, deposit))]


def test_changes_after_a_hold_ran_out_are_said_too(deposit: Deposit) -> None:
    with webhook_signal_session():
        deposit.save()
        Event.objects.update(held_until=timezone.now() - timedelta(seconds=1))
        pipeline.release_due()
        deposit.amount = 55
        deposit.save()

    assert [data["amount"] for _, data in said()] == ["100.00", "55.00"]


def test_by_hand_through_the_session(deposit: Deposit, settings: Any) -> None:
    # As if nothing were noticed by itself.
    settings.DRF_WEBHOOKS = {"CAPTURE_BULK": False}
    with webhook_signal_session() as session:
        Deposit.objects.filter(pk=deposit.pk).update(amount=4)
        session.updated(deposit)
        session.updated(Tenant.objects.all())
        fresh = Deposit.objects.bulk_create([Deposit(tenant=deposit.tenant)])
        session.created(fresh[0])
        gone = Deposit.objects.bulk_create([Deposit(tenant=deposit.tenant)])[0]
        session.deleted(gone)

    assert [(name, data["id"]) for name, data in said()] == [
        ("updated", deposit.pk),
        ("created", fresh[0].pk),
        ("deleted", gone.pk),
    ]


def test_an_object_without_key_cannot_be_named() -> None:
    with pytest.raises(ValueError, match="has no primary key"):
        WebhookSignalSession().updated(Tenant())


def test_disable_named_resources_only(deposit: Deposit) -> None:
    @disable_webhooks(DepositWebhook)
    def change() -> None:
        deposit.save()
        deposit.tenant.save()
        deposit.unit.save()
        deposit.unit.tags.create(name="cellar")
        deposit.delete()

    change()

    assert names() == []
    assert set(names("core.landlord")) == {"updated"}


def test_what_is_disabled_asks_nothing_either(deposit: Deposit) -> None:
    with disable_webhooks(LandlordWebhook):
        deposit.unit.save()
    with disable_webhooks():
        deposit.delete()

    assert names("core.landlord") == []
    assert names() == ["updated"]


def test_disabled_blocks_nest(deposit: Deposit) -> None:
    with disable_webhooks():
        with disable_webhooks(DepositWebhook):
            deposit.save()
        deposit.save()
    deposit.save()

    assert names() == ["updated"]


def test_an_unserializable_object_is_parked_and_its_save_succeeds(
    deposit: Deposit, caplog: pytest.LogCaptureFixture
) -> None:
    Deposit.objects.filter(pk=deposit.pk).update(note="boom")

    event = Event.objects.get()
    assert event.body is None
    assert "ValueError: boom" in event.error
    assert not Delivery.objects.exists()
    assert "parked" in caplog.text


def test_an_unserializable_object_can_fail_its_save(deposit: Deposit, settings: Any) -> None:
    settings.DRF_WEBHOOKS = {"ON_PAYLOAD_ERROR": "raise"}
    deposit.note = "boom"
    with pytest.raises(PayloadError, match=f"Deposit {deposit.pk}: ValueError: boom"):
        deposit.save()

    assert Deposit.objects.get().note == ""
    assert not Event.objects.exists()
    deposit.note = ""
    deposit.save()
    assert names() == ["updated"]


def test_a_session_that_cannot_release_leaves_its_events_held(
    deposit: Deposit, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(execute: Any, sql: str, params: Any, many: Any, context: Any) -> Any:
        if "FOR UPDATE" in sql or sql.startswith("DELETE"):
            msg = "the database went away"
            raise DatabaseError(msg)
        return execute(sql, params, many, context)

    with webhook_signal_session():
        deposit.save()
        blocker = connection.execute_wrapper(refuse)
        blocker.__enter__()
    blocker.__exit__(None, None, None)

    assert "stay held" in caplog.text
    assert Event.objects.exclude(held_until=None).count() == 1


def test_only_the_owner_hears_of_an_owned_object(transactional_db: None) -> None:
    ada, bea = make_user(username="ada"), make_user(username="bea")
    mine = Endpoint.objects.create(owner=ada, url="https://a.example/", event_types=["*"])
    Endpoint.objects.create(owner=bea, url="https://b.example/", event_types=["*"])
    Endpoint.objects.create(owner=None, url="https://c.example/", event_types=["*"])

    document = Document.objects.create(title="Lease", user=ada)
    Document.objects.create(title="Nobody's")
    document.delete()

    assert [each.endpoint_id for each in Delivery.objects.all()] == [mine.pk, mine.pk]
    assert names("core.document") == ["created", "deleted"]


def test_an_owner_without_endpoints_costs_no_event(transactional_db: None) -> None:
    ada, bea = make_user(username="ada"), make_user(username="bea")
    Endpoint.objects.create(owner=ada, url="https://a.example/", event_types=["*"])

    Document.objects.create(title="Lease", user=bea)

    assert not Event.objects.exists()


def test_an_object_may_go_together_with_its_owner(transactional_db: None) -> None:
    ada = make_user(username="ada")
    Endpoint.objects.create(owner=ada, url="https://a.example/", event_types=["*"])
    Endpoint.objects.create(url="https://b.example/", event_types=["*"])
    with disable_webhooks():
        Document.objects.create(title="Lease", user=ada)

    ada.delete()

    assert not Document.objects.exists()
    assert not Delivery.objects.exists()


def test_endpoints_hear_what_they_subscribe_to(deposit: Deposit) -> None:
    Endpoint.objects.all().delete()
    for number, types in enumerate(
        [["core.deposit.*"], ["core.deposit.updated"], ["core.deposit.created"], ["core.tenant.*"]]
    ):
        Endpoint.objects.create(url=f"https://{number}.example/", event_types=types)
    Endpoint.objects.create(url="https://off.example/", event_types=["*"], state="disabled")

    deposit.save()

    urls = {each.endpoint.url for each in Delivery.objects.select_related("endpoint")}
    assert urls == {"https://0.example/", "https://1.example/"}


def test_nobody_subscribed_nothing_stored(transactional_db: None) -> None:
    make_deposit()

    assert not Event.objects.exists()


def test_an_endpoint_made_in_the_same_session_hears_what_follows(transactional_db: None) -> None:
    with webhook_signal_session():
        deposit = make_deposit()
        Endpoint.objects.create(url="https://a.example/", event_types=["*"])
        deposit.save()

    assert names() == ["updated"]


def test_by_hand_with_disabled_resources(deposit: Deposit) -> None:
    with webhook_signal_session() as session, disable_webhooks(DepositWebhook):
        session.updated(deposit)
        session.updated(deposit.tenant)
        DepositWebhook.trigger(deposit)

    assert names() == []


def test_a_session_by_hand_goes_on_after_its_end(deposit: Deposit) -> None:
    with webhook_signal_session() as session:
        pass
    session.updated(deposit)

    assert names() == ["updated"]


def test_a_session_merges_what_it_held_with_what_is_still_open(deposit: Deposit) -> None:
    transaction.set_autocommit(False)
    try:
        with webhook_signal_session():
            deposit.save()
            transaction.commit()
            deposit.amount = 8
            deposit.save()
        transaction.commit()
    finally:
        transaction.set_autocommit(True)

    assert [(name, data["amount"]) for name, data in said()] == [("updated", "8.00")]


def test_a_shared_session_is_left_by_who_joined_it(deposit: Deposit) -> None:
    async def main() -> None:
        async with webhook_signal_session() as outer:
            async with webhook_signal_session() as inner:
                await deposit.asave()
            assert inner is outer

    run(main())

    assert names() == ["updated"]
