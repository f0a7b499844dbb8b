"""Django signals: what a project may want to know of attempts and of endpoints.

Attempts come in lots and as plain values. The signals of endpoints are sent by the process of
a worker, with ``sender=Endpoint``, the ``endpoint``, and the ``notice`` that says why.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.dispatch import Signal

__all__ = [
    "SettledAttempt",
    "attempts_settled",
    "endpoint_disabled",
    "endpoint_enabled",
    "endpoint_failing",
    "endpoint_type_failing",
    "worker_started",
]


@dataclass(frozen=True)
class SettledAttempt:
    """What came of one request; nothing of what was sent or answered.

    ``state`` is the delivery's now: ``"delivered"``, ``"dead"``, or ``"waiting"`` for another
    attempt. ``status`` is ``None`` when no answer came, and then ``error`` is a short word.
    """

    delivery: int
    endpoint: uuid.UUID
    message_id: str
    number: int
    started_at: datetime
    duration: timedelta
    state: str
    status: int | None
    error: str


#: Results were stored and committed, by the process that stored them: once for each lot, with
#: ``attempts``, a tuple of :class:`SettledAttempt`; ``refused``, how many of them came after
#: their lease and changed nothing; and ``using``. Sent with ``sender=Delivery`` and
#: ``send_robust()``: what a receiver raises is logged, and harms no delivery.
attempts_settled = Signal()

#: A worker begins: with ``using``, from its main thread, before it delivers anything.
worker_started = Signal()

#: It has taken nothing for as long as one of ``WARN_AFTER``.
endpoint_failing = Signal()

#: It answers one event type with 4xx, and takes others.
endpoint_type_failing = Signal()

#: It hears nothing any more.
endpoint_disabled = Signal()

#: It hears again.
endpoint_enabled = Signal()
