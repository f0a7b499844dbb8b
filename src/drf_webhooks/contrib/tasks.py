"""Deliver by ``django.tasks``: ``ENGINE = "drf_webhooks.contrib.tasks.Engine"``.

Django 6 has it; on 5.2 the package ``django-tasks`` is used instead.
"""

from typing import Any

from drf_webhooks import engines

try:
    from django.tasks import task, task_backends
    from django.tasks.backends.immediate import ImmediateBackend  # pragma: no cover  # Django 6
except ImportError:
    from django_tasks import task, task_backends  # type: ignore[no-redef,assignment,unused-ignore]
    from django_tasks.backends.immediate import (  # type: ignore[no-redef,assignment,unused-ignore]
        ImmediateBackend,
    )

__all__ = ["Engine", "deliver", "sweep"]

#: What settings.TASKS may have for webhooks alone: a backend of this name, or a queue.
_OWN = "drf_webhooks"


def _place() -> dict[str, str]:
    """Return the backend and the queue that the project has for webhooks."""
    names: Any = task_backends
    alias = _OWN if _OWN in names.settings else "default"
    queues = names[alias].queues
    return {"backend": alias, "queue_name": _OWN if _OWN in queues else "default"}


@task(**_place(), takes_context=True)  # type: ignore[arg-type,call-overload,untyped-decorator,unused-ignore]  # what is asked of the settings
def deliver(context: Any, using: str = "default") -> None:
    """Deliver what is due, for a limited time, and enqueue itself if there is more."""
    this = context.task_result.task
    while engines.deliver(using):
        if not isinstance(this.get_backend(), ImmediateBackend):
            this.enqueue(using)
            return


@task(**_place())  # type: ignore[arg-type,call-overload,untyped-decorator,unused-ignore]  # as above
def sweep(using: str = "default") -> None:
    """Do what nobody was woken for, retries among it. To be enqueued again and again."""
    engines.sweep(using)
    deliver.enqueue(using)


class Engine:
    """Enqueues ``deliver``."""

    def wake(self, using: str) -> None:
        """Enqueue, in the thread of wake-ups; the immediate backend delivers in it, too."""
        result: Any = deliver.enqueue(using)
        # The immediate backend keeps what was raised.
        for each in result.errors:
            raise RuntimeError(each.traceback)
