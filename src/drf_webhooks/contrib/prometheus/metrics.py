"""Counters of what this process attempts, and gauges of what the database holds."""

import logging
import os
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from drf_webhooks import status
from drf_webhooks.conf import config
from drf_webhooks.signals import SettledAttempt, attempts_settled, worker_started

__all__ = ["Gauges", "connect", "registry"]

logger = logging.getLogger(__name__)

#: Rows that each gauge counts at most, and then stays at.
LIMIT = 100_000

ATTEMPTS = Counter(
    "drf_webhooks_attempts",
    "Attempts whose result was stored, by what became of the delivery, and by the class of "
    "status or the error.",
    ["outcome", "result"],
)
REFUSED = Counter(
    "drf_webhooks_results_refused",
    "Results that came after their lease was over and changed nothing.",
)
DURATION = Histogram(
    "drf_webhooks_attempt_duration_seconds",
    "How long attempts took.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30),
)

#: What becomes of a delivery, as a past participle each.
_OUTCOMES = {"waiting": "retried"}


def connect() -> None:
    """Count from now on."""
    attempts_settled.connect(_count, dispatch_uid="drf_webhooks.prometheus")
    worker_started.connect(_serve, dispatch_uid="drf_webhooks.prometheus")


def _count(*, attempts: Iterable[SettledAttempt], refused: int, **_: Any) -> None:
    for each in attempts:
        result = each.error or "none"
        if each.status is not None:
            result = f"{each.status // 100}xx"
        ATTEMPTS.labels(_OUTCOMES.get(each.state, each.state), result).inc()
        DURATION.observe(each.duration.total_seconds())
    REFUSED.inc(refused)


def _serve(**_: Any) -> None:
    """Let a worker be asked at a port of its own."""
    bind = config().METRICS_BIND
    if bind is None:
        return
    host, _colon, port = bind.rpartition(":")
    try:
        start_http_server(int(port), host.strip("[]"))
    except OSError as error:
        # Of several workers on one machine one has the port. They all deliver.
        logger.warning("Metrics cannot be served at %s: %s", bind, error)


class Gauges(Collector):
    """What waits, fails and is dead: the same in whichever process is asked."""

    def __init__(self, using: str) -> None:
        self._using = using

    def collect(self) -> Iterator[Metric]:
        """Ask the database."""
        found = status.read(using=self._using, limit=LIMIT)
        waits = found.backlog
        for name, text, value in (
            ("deliveries_waiting", "Deliveries that are not settled.", waits.waiting.value),
            ("deliveries_failing", "Those that have had an attempt.", waits.failing.value),
            ("deliveries_dead", "Deliveries that were given up and are kept.", found.dead.value),
            (
                "oldest_due_seconds",
                "For how long the oldest delivery to an enabled endpoint has been due.",
                waits.oldest_age.total_seconds(),
            ),
        ):
            yield GaugeMetricFamily(f"drf_webhooks_{name}", text, value)
        endpoints = GaugeMetricFamily("drf_webhooks_endpoints", "Endpoints.", labels=["state"])
        for state, count in found.endpoints.items():
            endpoints.add_metric([state], count)
        yield endpoints


def registry(using: str) -> CollectorRegistry:
    """Return what is shown: the gauges, and the counters of all processes that share them.

    This process alone would know nothing of what workers count. Those that share a folder,
    ``PROMETHEUS_MULTIPROC_DIR``, are summed here; others are asked themselves.
    """
    shown = CollectorRegistry()
    shown.register(Gauges(using))
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(shown)  # type: ignore[no-untyped-call]  # it has no types
    return shown
