"""Django signals for what becomes of endpoints.

Each is sent by the process of a worker, with ``sender=Endpoint``, the ``endpoint``, and the
``notice`` that says why.
"""

from django.dispatch import Signal

__all__ = [
    "endpoint_disabled",
    "endpoint_enabled",
    "endpoint_failing",
    "endpoint_type_failing",
]

#: It has taken nothing for as long as one of ``WARN_AFTER``.
endpoint_failing = Signal()

#: It answers one event type with 4xx, and takes others.
endpoint_type_failing = Signal()

#: It hears nothing any more.
endpoint_disabled = Signal()

#: It hears again.
endpoint_enabled = Signal()
