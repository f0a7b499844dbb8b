"""B26: PostgreSQL is restarted while writers write and requests are in the air."""

import signal
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection

from tests.chaos.harness import Chaos, wait_until
from tests.chaos.servers import Cluster, moved

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.chaos,
    pytest.mark.skipif(connection.vendor != "postgresql", reason="restarts PostgreSQL"),
]


@pytest.fixture
def cluster(transactional_db: None) -> Iterator[Cluster]:
    with Cluster.running() as cluster, moved(**cluster.place()):
        yield cluster


def test_b26_the_server_crashes_and_is_restarted_in_good_order(
    cluster: Cluster, record_property: Any
) -> None:
    with Chaos.world(is_private=True) as chaos:
        chaos.receiver.respond(delay=timedelta(milliseconds=200))
        worker = chaos.worker()
        writers = [chaos.writer(seed, units=10**6) for seed in range(2)]
        for mode in ("immediate", "fast"):
            known = len(chaos.receiver.requests)
            chaos.receiver.wait_for(known + 3, timeout=timedelta(seconds=60))
            cluster.restart(mode)
            connection.close()
            written = Group.objects.count()
            wait_until(lambda: Group.objects.count() > written + 1, "writers that were cut off")  # noqa: B023
        for each in writers:
            each.signal(signal.SIGTERM)
        assert [each.wait() for each in writers] == [0, 0]
        chaos.receiver.respond()
        wait_until(chaos.is_at_rest, "the worker that was cut off")
        is_over = worker.is_over()
        worker.signal(signal.SIGTERM)
        worker.wait()
        books = chaos.rest()
        record_property("chaos", {"restarts": 2, **books.totals})

    assert books.wrong == {}
    assert not is_over
    again = Counter(each.headers["webhook-id"] for each in chaos.receiver.requests)
    assert max(again.values()) <= 3
