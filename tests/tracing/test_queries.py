"""How many statements it costs to say what changed: the same for one object and for many."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from drf_webhooks.models import Endpoint, Event
from drf_webhooks.session import disable_webhooks, webhook_signal_session
from tests.app.models import Deposit, Tenant
from tests.factories import make_address, make_deposit, make_landlord, make_unit, make_user

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def statements(extra: list[int], plain: int) -> Iterator[None]:
    with CaptureQueriesContext(connection) as captured:
        yield
    transaction_control = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE")
    found = [each["sql"] for each in captured if not each["sql"].startswith(transaction_control)]
    extra.append(len(found) - plain)


def deposits(count: int) -> list[Deposit]:
    with disable_webhooks():
        landlord = make_landlord(address=make_address())
        tenant = make_tenant_of()
        return [
            make_deposit(tenant=tenant, landlord=landlord, unit=make_unit(address=make_address()))
            for _ in range(count)
        ]


def make_tenant_of() -> Tenant:
    return Tenant.objects.create(name="Ada", address=make_address(), user=make_user())


def save_each(some: list[Deposit]) -> int:
    for each in some:
        each.save()
    return len(some)


def save_tenant(some: list[Deposit]) -> int:
    some[0].tenant.save()
    return 1


def save_addresses(some: list[Deposit]) -> int:
    for each in some:
        each.unit.address.save()
    return len(some)


@pytest.mark.parametrize(
    ("change", "most"),
    [
        pytest.param(save_each, 6, id="deposits saved"),
        pytest.param(save_tenant, 7, id="a nested tenant saved"),
        pytest.param(save_addresses, 12, id="nested addresses saved"),
    ],
)
def test_statements_do_not_grow_with_objects(
    change: Callable[[list[Deposit]], int], most: int, everything: Endpoint
) -> None:
    extra: list[int] = []
    for count in (1, 20):
        some = deposits(count)
        with statements(extra, 1 if change is save_tenant else count), transaction.atomic():
            change(some)

    # MariaDB reads the numbers back in a statement of its own.
    assert extra[0] == extra[1] <= most + (connection.vendor == "mysql")


def test_statements_do_not_grow_with_endpoints(everything: Endpoint) -> None:
    extra: list[int] = []
    (deposit,) = deposits(1)
    with statements(extra, 1):
        deposit.save()
    for number in range(20):
        Endpoint.objects.create(url=f"https://{number}.example/", event_types=["core.*"])
    with statements(extra, 1):
        deposit.save()

    assert extra[0] == extra[1]


def test_a_change_that_nobody_hears_costs_one_statement() -> None:
    extra: list[int] = []
    (deposit,) = deposits(1)
    with statements(extra, 4), webhook_signal_session():
        deposit.unit.save()
        deposit.save()
        deposit.tenant.save()
        deposit.unit.address.save()

    assert extra == [1]


def test_a_cascade_asks_once_for_all_its_rows(everything: Endpoint) -> None:
    counts: list[int] = []
    for count in (1, 20):
        some = deposits(count)
        with statements(counts, 0):
            some[0].tenant.delete()

    assert Event.objects.filter(type="core.deposit.deleted").count() == 21
    # The first one may also look up a content type.
    assert counts[1] <= counts[0]


def test_a_thousand_saves_in_one_transaction(everything: Endpoint) -> None:
    extra: list[int] = []
    some = deposits(1000)
    with statements(extra, 1000), transaction.atomic():
        save_each(some)

    assert extra[0] <= 20
    assert Event.objects.filter(type="core.deposit.updated").count() == 1000


def test_what_nested_saves_cost(everything: Endpoint) -> None:
    counts: list[int] = []
    some = deposits(25)
    with statements(counts, 0), transaction.atomic(), webhook_signal_session():
        some[0].unit.address.save()
    with statements(counts, 0), transaction.atomic(), webhook_signal_session():
        some[0].tenant.save()
    with statements(counts, 25), transaction.atomic(), webhook_signal_session():
        for _ in range(25):
            some[0].tenant.save()

    # One of 25 objects is concerned; all of them; all of them, 25 times.
    # The save itself; interest, keys, numbers, objects and their tags, events and deliveries,
    # which are one statement on PostgreSQL. MariaDB reads the numbers back in another one.
    most = {"postgresql": 7, "sqlite": 8, "mysql": 9}[connection.vendor]
    assert max(counts) <= most
    assert Event.objects.count() == 1 + 25 + 25


@pytest.mark.parametrize("count", [1, 10, 1000])
def test_an_update_of_many_rows_costs_what_one_costs(count: int, everything: Endpoint) -> None:
    extra: list[int] = []
    deposits(count)
    with statements(extra, 1):
        Deposit.objects.update(amount=9)

    # In lots of 500 objects: those that number, load, prefetch and write stand for each lot.
    lot = {"postgresql": 4, "sqlite": 5, "mysql": 6}[connection.vendor]
    assert extra[0] == 2 + lot * (1 + (count > 500))
    assert Event.objects.count() == count


def test_an_untouched_model_sends_no_query(everything: Endpoint) -> None:
    extra: list[int] = []
    with statements(extra, 1):
        everything.save()

    assert extra == [0]
    assert not Event.objects.exists()
