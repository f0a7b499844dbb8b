"""Ask whether owners may receive still: once for all owners of a claim, and not every time."""

import logging
import time
from collections.abc import Callable, Collection, Iterable
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.db import Error
from django.db.models import QuerySet
from django.utils.module_loading import import_string

from drf_webhooks.conf import config
from drf_webhooks.models import owner_model
from drf_webhooks.scoping import owner_key

__all__ = ["Access", "active"]

#: How long a worker relies on an answer.
KEPT = timedelta(seconds=10)

logger = logging.getLogger(__name__)

_ACTIVE = "drf_webhooks.delivery.access.active"


def active(owners: QuerySet[Any]) -> Iterable[Any]:
    """Return the owners that are active. Not asked if their model has no such column."""
    return owners.filter(is_active=True)


def _has_column() -> bool:
    try:
        field = apps.get_model(owner_model())._meta.get_field("is_active")
    except FieldDoesNotExist:
        return False
    return bool(field.concrete)


class Access:
    """What is known of owners, for one worker.

    Args:
        clock: Seconds that go on, for what is kept.
        most: How many answers are kept at most.

    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, most: int = 10_000) -> None:
        self._clock = clock
        self._most = most
        self._known: dict[Any, tuple[float, bool]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def refused(self, owners: Collection[Any], *, using: str) -> frozenset[Any] | None:
        """Return the keys of those owners that may not receive: one query, or none.

        An owner that cannot be found may not. ``None`` if that cannot be told, because the
        project's function raised: then nothing may be sent.
        """
        path = config().OWNER_MAY_RECEIVE
        if path is None or not owners or (path == _ACTIVE and not _has_column()):
            return frozenset()
        now = self._clock()
        answers = {key: self._known.get(key, (now, False)) for key in owners}
        unknown = [key for key, (until, _) in answers.items() if until <= now]
        if unknown:
            try:
                allowed = _allowed(unknown, import_string(path), using)
            except Error:
                raise
            except Exception:
                logger.exception("%s failed. What it was asked of waits for %s.", path, KEPT)
                return None
            until = now + KEPT.total_seconds()
            answers |= {key: (until, key in allowed) for key in unknown}
            live = {key: each for key, each in self._known.items() if each[0] > now}
            self._known = dict([*live.items(), *answers.items()][-self._most :])
        return frozenset(key for key, (_, may_receive) in answers.items() if not may_receive)


def _allowed(
    keys: Collection[Any], may_receive: Callable[[QuerySet[Any]], Iterable[Any]], using: str
) -> set[Any]:
    rows: Any = apps.get_model(owner_model())._base_manager.using(using).filter(pk__in=keys)
    found = may_receive(rows)
    if isinstance(found, QuerySet):
        found = found.values_list("pk", flat=True)
    return {owner_key(each) for each in found}
