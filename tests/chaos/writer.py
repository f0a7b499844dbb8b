"""A process that changes objects in every way, and keeps a book of what it commits.

A change writes a token into the object's form, and the same token into the book, in the same
transaction. Tokens of changes that are undone begin with ``undone``; those of changes in
autocommit, which cannot share a transaction with the book, with ``alone``. Each change of a
deposit raises its amount, so that a later state has a higher one.
"""

import itertools
import os
import random
import signal
import time
from collections.abc import Callable

from django.contrib.auth.models import Group
from django.db import Error, connection, transaction
from django.db.models import F

from drf_webhooks.session import webhook_signal_session
from tests.app.models import Deposit, Landlord, RentalUnit, Tag, Tenant

__all__ = ["Writer"]

_PATIENCE_SECONDS = 60


class UndoneError(Exception):
    """Has a block rolled back."""


class Writer:
    """Works a shift: some units of work, chosen at random."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  # a program, no secret
        self._numbers = itertools.count(1)
        self._seed = seed
        self._is_stopping = False

    def work(self, units: int) -> None:
        """Do some units of work, none of them twice; SIGTERM ends it after the present one.

        What the database refuses has not happened. Whether something was committed when the
        server went away is not known; the next unit begins when there is a server again.
        """
        signal.signal(signal.SIGTERM, self._stop)
        ways = [self._transaction, self._change, self._session, self._undone, self._partly_undone]
        for _ in range(units):
            if self._is_stopping:
                return
            way = self._random.choice(ways)
            try:
                way()
            except Error:
                # A deadlock with another writer, or the server was restarted.
                self._reconnect()

    def _stop(self, *_: object) -> None:
        self._is_stopping = True

    def _reconnect(self) -> None:
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                # What Django does at the end of a request.
                connection.close_if_unusable_or_obsolete()
                connection.ensure_connection()
            except Error:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
            else:
                return

    def _token(self, prefix: str = "") -> str:
        return f"{prefix}{self._seed}-{os.getpid()}-{next(self._numbers)}"

    def _change(self, token: str | None = None) -> None:
        """One change, in the open transaction or in autocommit."""
        often = [self._create, self._save]
        ways = [*often, *often, self._update, self._rename, self._move, self._tag, self._delete]
        act: Callable[[str], None] = self._random.choice(ways)
        act(token or self._token("alone"))

    def _noted(self) -> None:
        """A change, and its line in the book."""
        token = self._token()
        self._change(token)
        Group.objects.create(name=token)

    def _transaction(self) -> None:
        with transaction.atomic():
            for _ in range(self._random.randint(1, 3)):
                self._noted()

    def _session(self) -> None:
        with webhook_signal_session():
            for _ in range(self._random.randint(1, 3)):
                way = self._random.choice([self._transaction, self._change, self._partly_undone])
                way()

    def _undone(self) -> None:
        try:
            with transaction.atomic():
                self._noted_as_undone()
        except UndoneError:
            return

    def _partly_undone(self) -> None:
        with transaction.atomic():
            self._noted()
            try:
                with transaction.atomic():
                    self._noted_as_undone()
            except UndoneError:
                self._noted()

    def _noted_as_undone(self) -> None:
        self._change(self._token("undone"))
        raise UndoneError

    def _one(self) -> Deposit:
        keys = list(Deposit.objects.order_by("pk").values_list("pk", flat=True)[:50])
        found = Deposit.objects.filter(pk=self._random.choice(keys)).first() if keys else None
        return found or Deposit.objects.create(tenant=self._tenant(), amount=1)

    def _tenant(self) -> Tenant:
        tenants = list(Tenant.objects.order_by("pk"))
        return self._random.choice(tenants)

    def _create(self, token: str) -> None:
        Deposit.objects.create(
            tenant=self._tenant(), unit=RentalUnit.objects.first(), amount=1, note=token
        )

    def _save(self, token: str) -> None:
        deposit = self._one()
        deposit.amount, deposit.note = F("amount") + 1, token
        deposit.save(update_fields=["amount", "note"])

    def _update(self, token: str) -> None:
        some = [self._one().pk, self._one().pk]
        Deposit.objects.filter(pk__in=some).update(amount=F("amount") + 1, note=token)

    def _rename(self, token: str) -> None:
        people: list[Tenant | Landlord] = [self._tenant(), *Landlord.objects.order_by("pk")]
        person = self._random.choice(people)
        person.name = token
        person.save(update_fields=["name"])

    def _move(self, token: str) -> None:
        deposit = self._one()
        Deposit.objects.filter(pk=deposit.pk).update(
            tenant=self._tenant(), amount=F("amount") + 1, note=token
        )

    def _tag(self, token: str) -> None:
        unit = RentalUnit.objects.order_by("pk").first()
        assert unit is not None
        unit.tags.set([Tag.objects.create(name=token)])

    def _delete(self, token: str) -> None:
        self._one().delete()
