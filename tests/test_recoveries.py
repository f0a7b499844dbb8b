"""Recoveries: carried out lot by lot, by turns, whoever dies and whoever cancels."""

import signal
import subprocess
import sys
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import Error, connection, connections, transaction
from django.db.models import Sum
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from drf_webhooks import recoveries, replay
from drf_webhooks.exceptions import RecoveryError
from drf_webhooks.housekeeping import keep_house
from drf_webhooks.models import Delivery, Endpoint, Event, Recovery
from drf_webhooks.session import disable_webhooks
from drf_webhooks.testing import WebhookReceiver, deliver_now
from tests.app.models import Deposit, Document, Tenant, User
from tests.e2e.test_death import _SETUP, environment, wait_until
from tests.factories import make_deposit, make_user

pytestmark = pytest.mark.django_db(transaction=True)

DAY = timedelta(days=1)


@pytest.fixture
def tenant(db: None) -> Tenant:
    with disable_webhooks():
        return make_deposit().tenant


def make_dead(owner: User, tenant: Tenant, count: int, **fields: Any) -> Endpoint:
    """An endpoint that has taken none of so many events."""
    endpoint = Endpoint.objects.create(
        **{
            "owner": owner,
            "url": "https://a.example/",
            "event_types": ["core.deposit.*"],
            **fields,
        }
    )
    with transaction.atomic():
        for amount in range(count):
            Deposit.objects.create(tenant=tenant, amount=amount)
    Delivery.objects.filter(endpoint=endpoint).give_up("A test.", now=timezone.now() - DAY / 2)
    Endpoint.objects.filter(pk=endpoint.pk).update(event_types=["nothing"])
    return endpoint


def ask(owner: User, kind: Any = "failed", **more: Any) -> Recovery:
    within = replay.span(timezone.now() - DAY, using="default")
    return recoveries.ask(kind, owner=owner, within=within, **more)


def run(limit: int = 1000, **more: Any) -> int:
    """Go on to the end; return how many lots that were."""
    lots = 0
    while lots < limit and recoveries.go_on("default", **more):
        lots += 1
    return lots


def test_what_failed_is_due_again_and_progress_is_seen(tenant: Tenant) -> None:
    ada = make_user()
    make_dead(ada, tenant, 5)
    asked = ask(ada)
    assert str(asked) == "failed waiting"

    recoveries.go_on("default", size=2)
    asked.refresh_from_db()
    seen = (asked.state, asked.expected, asked.looked_at, asked.replayed)
    assert seen == ("running", 5, 2, 2)
    assert Delivery.objects.filter(state="waiting").count() == 2
    assert run(size=2) == 3

    asked.refresh_from_db()
    assert (asked.state, asked.looked_at, asked.replayed, asked.error) == ("done", 5, 5, "")
    assert asked.ended_at is not None
    assert asked.due_at is None
    assert not Delivery.objects.filter(state="dead").exists()
    assert not recoveries.go_on("default")


def test_what_was_missing_is_brought_and_passed_over_only_once(tenant: Tenant) -> None:
    ada = make_user()
    Endpoint.objects.create(owner=ada, url="https://b.example/", event_types=["*"])
    for amount in range(3):
        Deposit.objects.create(tenant=tenant, amount=amount)
        Document.objects.create(title="Lease", user=ada)
    late = Endpoint.objects.create(
        owner=ada, url="https://c.example/", event_types=["core.document.*"]
    )

    asked = ask(ada, "missing", endpoint=late.pk)
    assert run(size=2) == 4

    asked.refresh_from_db()
    assert (asked.expected, asked.looked_at, asked.replayed) == (6, 6, 3)
    types = late.deliveries.values_list("event__type", flat=True)
    assert list(types) == ["core.document.created"] * 3


def test_a_worker_carries_it_out_beside_its_deliveries(tenant: Tenant) -> None:
    ada = make_user()
    with WebhookReceiver() as receiver:
        make_dead(ada, tenant, 4, url=receiver.url)
        ask(ada)
        deliver_now()

    assert len(receiver.requests) == 4
    assert Recovery.objects.get().state == "done"


def test_of_two_owners_each_has_a_lot_in_turn(tenant: Tenant) -> None:
    ada, bea = make_user(), make_user()
    make_dead(ada, tenant, 40)
    make_dead(bea, tenant, 2)
    many, few = ask(ada), ask(bea)

    run(5, size=2)

    many.refresh_from_db()
    few.refresh_from_db()
    assert few.state == "done"
    assert many.looked_at == 6


def test_housekeeping_does_not_go_on_for_longer_than_its_time(tenant: Tenant) -> None:
    ada = make_user()
    make_dead(ada, tenant, 250)
    asked = ask(ada)
    moments = iter([0.0, 0.05, 0.2])

    assert keep_house("default", clock=lambda: next(moments)) == 2

    asked.refresh_from_db()
    assert asked.looked_at == 2 * recoveries.LOT


def test_one_that_is_cancelled_stops_where_it_is(tenant: Tenant) -> None:
    ada = make_user()
    make_dead(ada, tenant, 4)
    asked = ask(ada)
    recoveries.go_on("default", size=1)

    assert recoveries.cancel(asked.pk)
    assert not recoveries.cancel(asked.pk)
    assert run() == 0

    asked.refresh_from_db()
    assert (asked.state, asked.looked_at) == ("cancelled", 1)
    assert Delivery.objects.filter(state="dead").count() == 3


def test_one_that_is_cancelled_between_two_lots_does_no_more(
    tenant: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    ada = make_user()
    make_dead(ada, tenant, 2)
    asked = ask(ada)

    def cancel(execute: Any, sql: str, *more: Any) -> Any:
        result = execute(sql, *more)
        # After it was taken, and before the lot.
        if "COUNT" in sql and not cancelled:
            cancelled.append(sql)
            recoveries.cancel(asked.pk)
        return result

    cancelled: list[str] = []
    caplog.set_level("INFO", "drf_webhooks")
    with connection.execute_wrapper(cancel):
        recoveries.go_on("default")

    asked.refresh_from_db()
    assert cancelled
    assert Delivery.objects.filter(state="dead").count() == 2
    assert "was cancelled, or taken by another worker" in caplog.text


def test_a_worker_that_was_away_for_longer_than_its_lease_does_nothing(tenant: Tenant) -> None:
    ada = make_user()
    make_dead(ada, tenant, 4)
    asked = ask(ada)

    def overtake(execute: Any, sql: str, *more: Any) -> Any:
        result = execute(sql, *more)
        # It was taken, and then another worker takes it and does the lot.
        if "COUNT" in sql and not overtaken:
            overtaken.append(sql)
            Recovery.objects.active().update(due_at=timezone.now() - DAY)
            recoveries.go_on("default", size=2)
        return result

    overtaken: list[str] = []
    with connection.execute_wrapper(overtake):
        recoveries.go_on("default", size=2)

    asked.refresh_from_db()
    assert overtaken
    assert (asked.looked_at, asked.replayed) == (2, 2)


def test_one_is_done_once_by_workers_at_the_same_time(tenant: Tenant) -> None:
    ada = make_user()
    make_dead(ada, tenant, 60)
    asked = ask(ada)
    start = threading.Barrier(3)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            start.wait(10)
            while Recovery.objects.active().exists():
                recoveries.go_on("default", size=4)
        except Exception as error:  # noqa: BLE001  # told at the end
            failures.append(error)
        finally:
            connections.close_all()

    workers = [threading.Thread(target=work) for _ in range(3)]
    for each in workers:
        each.start()
    for each in workers:
        each.join(60)

    asked.refresh_from_db()
    assert failures == []
    assert (asked.state, asked.looked_at, asked.replayed) == ("done", 60, 60)
    # Each was made due once.
    assert Delivery.objects.aggregate(Sum("fence"))["fence__sum"] == 2 * 60


def test_a_worker_that_is_killed_has_lost_one_lot(tenant: Tenant) -> None:
    ada = make_user()
    make_dead(ada, tenant, 30)
    asked = ask(ada)
    code = f"""{_SETUP}
from drf_webhooks import recoveries
while recoveries.go_on("default", size=1):
    pass
"""
    process = subprocess.Popen([sys.executable, "-c", code], env=environment())  # noqa: S603  # our own
    try:
        wait_until(lambda: Recovery.objects.get().looked_at >= 3)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    asked.refresh_from_db()
    done = asked.looked_at

    # Nobody waits for its lease here.
    Recovery.objects.active().update(due_at=timezone.now() - DAY)
    run(size=7)

    asked.refresh_from_db()
    assert (asked.state, asked.looked_at, asked.replayed) == ("done", 30, 30)
    assert done >= 3
    assert Delivery.objects.aggregate(Sum("fence"))["fence__sum"] == 2 * 30


def test_one_that_fails_is_put_off_and_given_up_in_the_end(
    tenant: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    ada, bea = make_user(), make_user()
    make_dead(ada, tenant, 1)
    make_dead(bea, tenant, 1)
    broken, well = ask(ada), ask(bea)
    # What no cursor of ours looks like.
    Recovery.objects.filter(pk=broken.pk).update(last_key="x", last_at=timezone.now())

    run()

    broken.refresh_from_db()
    well.refresh_from_db()
    assert (well.state, broken.state) == ("done", "running")
    assert broken.error == "ValueError: the log has the details."
    assert "could not go on" in caplog.text
    for _ in range(recoveries._MOST_TRIES):
        Recovery.objects.active().update(due_at=timezone.now() - DAY)
        run()
    broken.refresh_from_db()
    assert (broken.state, broken.error) == ("failed", "ValueError: the log has the details.")


def test_an_error_of_the_database_is_the_workers(tenant: Tenant) -> None:
    ada = make_user()
    make_dead(ada, tenant, 1)
    ask(ada)

    def fail(execute: Any, sql: str, *more: Any) -> Any:
        if "settled_at" in sql:
            raise Error(sql)
        return execute(sql, *more)

    with connection.execute_wrapper(fail), pytest.raises(Error):
        recoveries.go_on("default")

    # Others are not held up by it.
    assert not recoveries.go_on("default")
    assert Recovery.objects.get().tries == 1


def test_an_endpoint_that_was_given_away_is_brought_nothing(tenant: Tenant) -> None:
    ada, bea = make_user(), make_user()
    endpoint = make_dead(ada, tenant, 2)
    missing = ask(ada, "missing", endpoint=endpoint.pk)
    failed = ask(ada, endpoint=endpoint.pk)
    Endpoint.objects.filter(pk=endpoint.pk).give(
        bea, secret=endpoint._meta.get_field("secret").stored(endpoint), at=timezone.now()
    )

    run()

    missing.refresh_from_db()
    failed.refresh_from_db()
    assert (missing.state, missing.error) == ("failed", "The endpoint has another owner now.")
    assert (failed.state, failed.looked_at) == ("done", 0)
    assert not Delivery.objects.filter(state="waiting").exists()


def test_of_one_endpoint_only_its_own_are_sent_again(tenant: Tenant) -> None:
    ada = make_user()
    one, other = make_dead(ada, tenant, 2), make_dead(ada, tenant, 2)

    ask(ada, endpoint=one.pk)
    run()

    assert one.deliveries.filter(state="waiting").count() == 2
    assert not other.deliveries.filter(state="waiting").exists()


def test_anew_says_the_objects_as_they_are_now(tenant: Tenant) -> None:
    ada = make_user()
    endpoint = make_dead(ada, tenant, 1)
    with disable_webhooks():
        Deposit.objects.update(amount=77)
    Event.objects.update(body=None)

    plain = ask(ada)
    run()
    plain.refresh_from_db()
    anew = ask(ada, is_anew=True)
    run()
    anew.refresh_from_db()

    assert (plain.expected, plain.replayed) == (0, 0)
    assert (anew.expected, anew.replayed) == (1, 1)
    said = endpoint.deliveries.get(state="waiting").event
    assert said.data["amount"] == "77.00"


def test_an_owner_may_have_so_many_that_are_not_over() -> None:
    ada, bea = make_user(), make_user()
    for _ in range(recoveries.MOST):
        last = ask(ada)

    with pytest.raises(RecoveryError, match="5 recoveries are not over yet"):
        ask(ada)
    ask(bea)
    recoveries.cancel(last.pk)
    ask(ada)


def test_very_many_are_not_counted_to_the_end(tenant: Tenant) -> None:
    ada = make_user()
    make_dead(ada, tenant, 3)

    asked = ask(ada)
    run(counted=2)

    asked.refresh_from_db()
    assert (asked.expected, asked.looked_at) == (None, 3)


def test_while_nothing_is_asked_for_a_look_is_one_query(db: None) -> None:
    with CaptureQueriesContext(connection) as captured:
        assert not recoveries.go_on("default")

    assert len(captured) == 1


@pytest.mark.parametrize("count", [2, 50])
def test_a_lot_costs_the_same_whatever_its_size(tenant: Tenant, count: int) -> None:
    ada = make_user()
    make_dead(ada, tenant, count)
    ask(ada)

    with CaptureQueriesContext(connection) as captured:
        recoveries.go_on("default")

    told = [each["sql"].split()[0] for each in captured.captured_queries]
    statements = [each for each in told if each in {"SELECT", "UPDATE", "INSERT"}]
    assert len(statements) == 11, captured.captured_queries
