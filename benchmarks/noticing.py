"""What noticing costs, on PostgreSQL: ``python -m benchmarks.noticing``.

Start-up, writes without signals, sessions of many rows, and watching code that reads. Each
ratio is of two things measured in turns in this process. Figures are medians.
"""

import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from django.db import connection, transaction

from benchmarks.sides import database


def main() -> None:
    """Measure and print."""
    with database(1000):
        _start_up()
        _capture()
        _sessions()
        _watching()


def _start_up() -> None:
    from benchmarks import resource  # noqa: PLC0415  # models exist only after setup()
    from drf_webhooks.registry import registry  # noqa: PLC0415  # as above
    from drf_webhooks.tracing.index import Index  # noqa: PLC0415  # as above

    with registry.isolated():
        resource.declare_many(100, nested=10)
        made = _times(
            lambda: [each.serializer_class(context={}).fields for each in registry], count=5
        )
        walked = _times(
            lambda: [resource.walk(each.serializer_class(context={})) for each in registry], count=5
        )
        compiled = _times(lambda: Index(registry), count=5)
    print("start-up, 100 resources of 10 nested serializers, no query")
    print(f"  DRF alone makes the outer serializers' fields      {made * 1000:8.1f} ms")
    print(f"  DRF alone makes all fields, nested ones too        {walked * 1000:8.1f} ms")
    print(f"  paths compiled from them                           {compiled * 1000:8.1f} ms")


def _capture() -> None:
    from benchmarks import resource  # noqa: PLC0415  # as above
    from drf_webhooks.models import Endpoint  # noqa: PLC0415  # as above
    from drf_webhooks.session import disable_webhooks  # noqa: PLC0415  # as above
    from tests.app.models import Deposit, Document, Tag, Tenant  # noqa: PLC0415  # as above

    resource.declare(serialize="snapshot")
    tenant = Tenant.objects.order_by("pk").first()
    unit = Deposit.objects.order_by("pk").first().unit
    tag = Tag.objects.create(name="tag")

    def documents() -> None:
        Document.objects.filter(title="none").update(title="new")

    def notes() -> None:
        Tenant.objects.filter(pk=tenant.pk).update(address=None)

    def one() -> None:
        Deposit.objects.filter(tenant=tenant).update(amount=5)

    def thousand() -> None:
        Deposit.objects.filter(note="").update(amount=5)

    def created() -> None:
        Deposit.objects.bulk_create([Deposit(tenant=tenant) for _ in range(100)])

    def tags() -> None:
        unit.tags.add(tag)
        unit.tags.remove(tag)

    print("writes without signals, one endpoint, the whole transaction, each rolled back")
    print(f"  {'case':44} {'plain ms':>9} {'ms':>9} {'ratio':>6} {'statements':>11}")
    cases: list[tuple[str, Callable[[], None], bool]] = [
        ("update() of a model that nobody monitors", documents, True),
        ("update() of a column that nobody reads", notes, True),
        ("update() of 1 row, nobody subscribed", one, False),
        ("update() of 1 row, 1 event", one, True),
        ("update() of 1000 rows, nobody subscribed", thousand, False),
        ("update() of 1000 rows, 1000 events", thousand, True),
        ("bulk_create() of 100 rows, nobody subscribed", created, False),
        ("bulk_create() of 100 rows, 100 events", created, True),
        ("m2m add and remove, nobody monitors", tags, True),
    ]
    for name, act, is_heard in cases:
        Endpoint.objects.all().delete()
        if is_heard:
            Endpoint.objects.create(url="https://0.example/", event_types=["*"])
        plain, full = _paired(act, disable_webhooks)
        more = _statements(act) - _statements(act, disable_webhooks)
        print(f"  {name:44} {plain:9.3f} {full:9.3f} {full / plain:6.2f} {more:+11d}")


def _sessions() -> None:
    from drf_webhooks.session import webhook_signal_session  # noqa: PLC0415  # as above
    from tests.app.models import Deposit  # noqa: PLC0415  # as above
    from tests.factories import make_deposit  # noqa: PLC0415  # as above

    with transaction.atomic():
        first = make_deposit()
        Deposit.objects.bulk_create(
            [
                Deposit(tenant=first.tenant, unit=first.unit, landlord=first.landlord)
                for _ in range(10_000)
            ]
        )
    connection.close()
    deposits = list(Deposit.objects.order_by("pk"))
    print("one session of one transaction, each row saved; the session's end alone")
    print(f"  {'rows':>7} {'end ms':>9} {'ms a row':>9} {'statements':>11} {'peak MiB':>9}")
    for count in (100, 1000, 10_000):
        gc.collect()
        with ExitStack() as stack:
            counted = _Counter()
            session = webhook_signal_session()
            outer = transaction.atomic()
            outer.__enter__()
            session.__enter__()
            for each in deposits[:count]:
                each.save()
            stack.enter_context(connection.execute_wrapper(counted))
            tracemalloc.start()
            started = time.perf_counter()
            session.__exit__(None, None, None)
            took = time.perf_counter() - started
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            transaction.set_rollback(True)
            outer.__exit__(None, None, None)
        print(
            f"  {count:7} {took * 1000:9.1f} {took * 1000 / count:9.3f} {counted.count:11} "
            f"{peak / 2**20:9.1f}"
        )


def _watching() -> None:
    from benchmarks import resource  # noqa: PLC0415  # as above
    from drf_webhooks import payloads  # noqa: PLC0415  # as above
    from drf_webhooks.json_text import encode  # noqa: PLC0415  # as above
    from tests.app.models import Deposit  # noqa: PLC0415  # as above

    declared = resource.declare_with_code()
    pks = list(Deposit.objects.order_by("pk").values_list("pk", flat=True)[:200])
    serializer = declared.serializer_class(context={})

    def plain() -> None:
        for each in payloads.load(declared, pks, "default").values():
            encode(serializer.to_representation(each.instance))

    def watched() -> None:
        for each in payloads.load(declared, pks, "default").values():
            payloads.data_of(declared, each.instance)

    watched()
    times: dict[str, list[float]] = {"plain": [], "watched": []}
    for _ in range(30):
        times["plain"].append(_time(plain))
        times["watched"].append(_time(watched))
    before, after = (statistics.median(each) / len(pks) * 1e6 for each in times.values())
    print("an object with two fields of code that follow three relations, once all is learnt")
    print(
        f"  loaded and serialized {before:.0f} us, watched {after:.0f} us, "
        f"ratio {after / before:.2f}"
    )


class _Counter:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self, execute: Any, *arguments: Any) -> Any:
        self.count += 1
        return execute(*arguments)


def _time(act: Callable[[], Any]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def _times(act: Callable[[], Any], count: int) -> float:
    return statistics.median(_time(act) for _ in range(count))


def _rolled_back(act: Callable[[], Any]) -> None:
    with transaction.atomic():
        act()
        # What is noted is stored before the commit: the same is done here.
        from drf_webhooks.transactions import log_of  # noqa: PLC0415  # as above

        log_of("default").before_commit()
        transaction.set_rollback(True)


def _paired(act: Callable[[], Any], disabled: Callable[[], Any]) -> tuple[float, float]:
    plain, full = [], []
    for turn in range(25):
        with disabled():
            before = _time(lambda: _rolled_back(act))
        after = _time(lambda: _rolled_back(act))
        if turn >= 5:  # the first ones warm up
            plain.append(before * 1000)
            full.append(after * 1000)
    return statistics.median(plain), statistics.median(full)


def _statements(act: Callable[[], Any], disabled: Callable[[], Any] = ExitStack) -> int:
    counted = _Counter()
    with disabled(), connection.execute_wrapper(counted):
        _rolled_back(act)
    return counted.count


if __name__ == "__main__":
    main()
