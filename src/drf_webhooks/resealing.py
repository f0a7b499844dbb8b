"""Encrypt anew what the database keeps of secrets, a batch at a time."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Q, QuerySet

from drf_webhooks.conf import config
from drf_webhooks.encryption import PREFIX, Stored, in_clear, marks, seal
from drf_webhooks.exceptions import SecretError
from drf_webhooks.models import Endpoint

__all__ = ["Batch", "in_plain_text", "reseal", "to_reseal", "unreadable"]

COLUMNS = ("secret", "old_secrets", "headers")
SIZE = 200


@dataclass(frozen=True)
class Batch:
    """What became of some endpoints: how many were written, and which nobody can decrypt."""

    looked_at: int
    written: int
    unreadable: tuple[uuid.UUID, ...]


def to_reseal(using: str, *, decrypt: bool = False) -> QuerySet[Endpoint]:
    """Return the endpoints with a secret that the first of ``ENCRYPTION_KEYS`` has not encrypted.

    Args:
        using: The database.
        decrypt: Those with one that is encrypted at all instead.

    """
    rows = Endpoint.objects.using(using)
    if decrypt:
        return rows.filter(_any(lambda each: Q(**{f"{each}__startswith": PREFIX})))
    first = marks(config().ENCRYPTION_KEYS[:1])[0]
    # Nothing is not encrypted.
    wrong = _any(lambda each: ~Q(**{f"{each}__startswith": first}) & ~Q(**{each: Stored("")}))
    return rows.filter(wrong)


def unreadable(using: str) -> QuerySet[Endpoint]:
    """Return the endpoints with a secret that was encrypted with none of ``ENCRYPTION_KEYS``."""
    known = marks(config().ENCRYPTION_KEYS)

    def is_strange(column: str) -> Q:
        strange = Q(**{f"{column}__startswith": PREFIX})
        for mark in known:
            strange &= ~Q(**{f"{column}__startswith": mark})
        return strange

    return Endpoint.objects.using(using).filter(_any(is_strange))


def in_plain_text(using: str) -> QuerySet[Endpoint]:
    """Return the endpoints with a secret that is not encrypted."""
    return Endpoint.objects.using(using).filter(
        _any(lambda each: ~Q(**{f"{each}__startswith": PREFIX}) & ~Q(**{each: Stored("")}))
    )


def reseal(using: str, *, decrypt: bool = False, size: int = SIZE) -> Iterator[Batch]:
    """Encrypt with the first of ``ENCRYPTION_KEYS`` what is not yet, a transaction for a batch.

    Broken off, it goes on where it was: what is done is not found any more. A secret that is
    replaced at the same time is left as it is: its new text is encrypted by who wrote it.
    """
    change: Callable[[Stored], Stored] = in_clear if decrypt else _sealed
    after: uuid.UUID | None = None
    while True:
        rows = to_reseal(using, decrypt=decrypt).order_by("pk")
        if after is not None:
            rows = rows.filter(pk__gt=after)
        found = list(rows.values_list("pk", *COLUMNS)[:size])
        if not found:
            return
        with transaction.atomic(using=using):
            batch = _written(found, change, using)
        yield batch
        after = found[-1][0]


def _sealed(stored: Stored) -> Stored:
    first = marks(config().ENCRYPTION_KEYS[:1])[0]
    return stored if stored.text.startswith(first) else seal(in_clear(stored).text)


def _written(
    found: Sequence[tuple[uuid.UUID, Stored, Stored, Stored]],
    change: Callable[[Stored], Stored],
    using: str,
) -> Batch:
    written, lost = 0, []
    for pk, *texts in found:
        before = dict(zip(COLUMNS, texts, strict=True))
        try:
            after = {name: change(text) for name, text in before.items()}
        except SecretError:
            lost.append(pk)
            continue
        # Unless another process has replaced one meanwhile.
        row = Endpoint.objects.using(using).filter(pk=pk, **before)
        written += row.update(**after)
    return Batch(len(found), written, tuple(lost))


def _any(condition: Callable[[str], Q]) -> Q:
    found = Q()
    for each in COLUMNS:
        found |= condition(each)
    return found
