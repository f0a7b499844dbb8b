"""Handle each webhook once, though it comes again: a table of the ids that were handled."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import models, router, transaction
from django.utils.translation import gettext_lazy as _

from drf_webhooks.fields import ExactCharField

__all__ = ["Inbox"]

_LONGEST = 200
_PLAIN = re.compile(rf"[!-~]{{1,{_LONGEST}}}")


class Inbox(models.Model):
    """The base of a project's own model: a row for each webhook that was handled.

    One model for each sender, as ids of two may be the same.
    """

    webhook_id = ExactCharField(_("webhook-id"), max_length=_LONGEST, unique=True)
    received_at = models.DateTimeField(_("received at"), auto_now_add=True, db_index=True)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return str(self.webhook_id)

    @classmethod
    @contextmanager
    def once(cls, webhook_id: str, *, using: str | None = None) -> Iterator[bool]:
        """Open a transaction, and tell whether a webhook is new.

        The id is stored in the transaction that the block is in: both are kept, or neither. If
        the block raises, the webhook was not handled, and is new when the sender tries again.
        Of two requests at the same time the later one waits for the first.

        Args:
            webhook_id: As it came.
            using: The database, that of what the block writes; by default where the router
                has the model's rows written.

        Raises:
            DatabaseError: the database fails; answer with 500, which Django does by itself.

        """
        using = using or router.db_for_write(cls)
        if not _PLAIN.fullmatch(webhook_id):
            # Some databases take texts for the same that end in different spaces.
            webhook_id = f"sha256:{hashlib.sha256(webhook_id.encode()).hexdigest()}"
        manager: Any = cls._default_manager.using(using)
        with transaction.atomic(using=using):
            _, is_new = manager.get_or_create(webhook_id=webhook_id)
            yield is_new
