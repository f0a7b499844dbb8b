"""Deliver by Celery: ``ENGINE = "drf_webhooks.contrib.celery.Engine"``."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

from celery import _state, current_app, shared_task
from celery.app.task import Task
from django.core import checks

from drf_webhooks import engines
from drf_webhooks.conf import config

__all__ = ["Engine", "deliver", "sweep"]

#: For connecting to the broker, and for each answer of it. Only the thread that wakes waits.
_BROKER_SECONDS = 2.0


# acks_late and reject_on_worker_lost: a process that dies leaves its message to another one.
# Only the alias of a database is in it.
@shared_task(  # type: ignore[untyped-decorator]  # Celery has no types
    name="drf_webhooks.deliver",
    bind=True,
    acks_late=True,
    reject_on_worker_lost=True,
    ignore_result=True,
)
def deliver(self: Task, using: str = "default") -> None:
    """Deliver what is due, for a limited time, and enqueue itself if there is more."""
    if engines.deliver(using):
        self.apply_async((using,))


@shared_task(  # type: ignore[untyped-decorator]  # as above
    name="drf_webhooks.sweep",
    acks_late=True,
    reject_on_worker_lost=True,
    ignore_result=True,
)
def sweep(using: str = "default") -> None:
    """Do what nobody was woken for, retries among it. To be called by beat every few seconds."""
    engines.sweep(using)
    deliver.apply_async((using,))


class Engine:
    """Publishes ``drf_webhooks.deliver``, on a connection of its own, with short time-outs."""

    def __init__(self) -> None:
        self._connection: Any = None

    def wake(self, using: str) -> None:
        """Publish once; a connection that was kept may be gone, so then once more on a new one."""
        if self._connection is not None:
            try:
                self._publish(using)
            except Exception:  # noqa: BLE001  # each transport of Celery has errors of its own
                self._close()
            else:
                return
        self._connection = _connect()
        try:
            self._publish(using)
        except BaseException:
            self._close()
            raise

    def _publish(self, using: str) -> None:
        deliver.apply_async((using,), connection=self._connection, retry=False)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        # It is broken, so that closing it may fail too; the time-outs hold for that as well.
        with suppress(Exception):
            connection.release()

    def check(self) -> list[checks.CheckMessage]:
        """Name what keeps deliveries from being started, as far as this process can see it."""
        # Without the project's app there is nothing else to look at.
        return [*_check_app()] or [*_check_schedule(), *_check_limits()]


def _connect() -> Any:
    """Return a connection that never waits for long, unless the project's options say so."""
    conf = current_app.conf
    connection = current_app.connection_for_write(connect_timeout=_BROKER_SECONDS, heartbeat=0)
    ours = {
        "redis": {
            "socket_timeout": _BROKER_SECONDS,
            "socket_connect_timeout": _BROKER_SECONDS,
        },
        "amqp": {
            "read_timeout": _BROKER_SECONDS,
            "write_timeout": _BROKER_SECONDS,
            # Else a connection that the other side has closed would swallow a wake-up.
            "confirm_publish": True,
        },
    }.get(connection.transport.driver_type, {})
    connection.transport_options = {**ours, **conf.broker_transport_options}
    return connection


def _check_app() -> Iterator[checks.CheckMessage]:
    app = _state.default_app
    if app is None or app.main == "default":
        yield checks.Warning(
            "This process has no Celery app: wake-ups would go to amqp://localhost, where "
            "nobody may listen.",
            hint=(
                "Import the project's app in its package's __init__.py, as Celery's guide for "
                "Django says, after DJANGO_SETTINGS_MODULE is set."
            ),
            id="drf_webhooks.W110",
        )


def _check_schedule() -> Iterator[checks.CheckMessage]:
    conf = current_app.conf
    # Others, as django-celery-beat's, keep their entries where a check does not look.
    is_known = conf.beat_scheduler == "celery.beat:PersistentScheduler"
    tasks = {each.get("task") for each in (conf.beat_schedule or {}).values()}
    if is_known and sweep.name not in tasks:
        yield checks.Warning(
            "Nothing in Celery's beat_schedule calls drf_webhooks.sweep: retries, and what a "
            "broker has lost, wait for a running webhooks_worker.",
            hint=(
                "Add {'task': 'drf_webhooks.sweep', 'schedule': 10} to CELERY_BEAT_SCHEDULE, "
                "or silence this check if webhooks_worker runs."
            ),
            id="drf_webhooks.W111",
        )


def _check_limits() -> Iterator[checks.CheckMessage]:
    needed = config().ENGINE_TIME_LIMIT + config().REQUEST_TIMEOUT
    for name in ("task_time_limit", "task_soft_time_limit"):
        given = current_app.conf[name]
        if given is not None and timedelta(seconds=given) <= needed:
            yield checks.Warning(
                f"Celery's {name} is {given} seconds. A task that delivers takes up to "
                f"ENGINE_TIME_LIMIT and REQUEST_TIMEOUT, {needed}, and would be cut short.",
                hint="Make ENGINE_TIME_LIMIT shorter, or the limit longer.",
                id="drf_webhooks.W112",
            )
