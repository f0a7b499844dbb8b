"""The table of recoveries: what owners have asked to be sent again, and how far that is."""

from typing import Any, ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from drf_webhooks import scoping
from drf_webhooks.ids import uuid7
from drf_webhooks.indexes import SparseIndex

__all__ = ["Recovery", "RecoveryQuerySet"]


class RecoveryQuerySet(models.QuerySet["Recovery"]):
    """Queries by what they are for."""

    def owned_by(self, owner: Any) -> "RecoveryQuerySet":
        """Leave what an owner has asked for."""
        return self.filter(scoping.owned(owner))

    def active(self) -> "RecoveryQuerySet":
        """Leave those that are not over."""
        return self.filter(due_at__isnull=False)


class Recovery(models.Model):
    """A replay that workers carry out, a lot at a time.

    ``due_at`` is when the next lot may begin; a worker that takes it moves it on and raises
    ``turn``. What a lot has done is committed with how far it came, so a recovery whose worker
    dies goes on where it was.
    """

    class Kind(models.TextChoices):
        FAILED = "failed", _("what is dead")
        MISSING = "missing", _("what was never heard")

    class State(models.TextChoices):
        WAITING = "waiting", _("waiting")
        RUNNING = "running", _("running")
        DONE = "done", _("done")
        CANCELLED = "cancelled", _("cancelled")
        FAILED = "failed", _("failed")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = models.ForeignKey(
        scoping.owner_model(),
        on_delete=models.CASCADE,
        related_name="+",
        verbose_name=_("owner"),
    )
    endpoint = models.ForeignKey(
        "drf_webhooks.Endpoint",
        on_delete=models.CASCADE,
        null=True,
        related_name="+",
        verbose_name=_("endpoint"),
        help_text=_("None for all of the owner's."),
    )
    kind = models.CharField(_("kind"), max_length=16, choices=Kind.choices)
    since = models.DateTimeField(_("since"))
    until = models.DateTimeField(_("until"))
    is_anew = models.BooleanField(
        _("anew"), default=False, help_text=_("Say new events of the objects as they are now.")
    )
    state = models.CharField(
        _("state"), max_length=16, choices=State.choices, default=State.WAITING
    )
    due_at = models.DateTimeField(_("due at"), null=True)
    turn = models.PositiveIntegerField(_("turn"), default=0)
    tries = models.PositiveIntegerField(
        _("tries"), default=0, help_text=_("Since it last came on.")
    )
    expected = models.BigIntegerField(
        _("expected"), null=True, help_text=_("How much there is to look at. None: not known.")
    )
    looked_at = models.BigIntegerField(_("looked at"), default=0)
    replayed = models.BigIntegerField(_("replayed"), default=0)
    last_at = models.DateTimeField(_("came to"), null=True)
    last_key = models.CharField(max_length=40, blank=True, default="", editable=False)
    error = models.CharField(_("error"), max_length=300, blank=True, default="")
    created_at = models.DateTimeField(_("created at"))
    started_at = models.DateTimeField(_("started at"), null=True)
    ended_at = models.DateTimeField(_("ended at"), null=True)

    objects = RecoveryQuerySet.as_manager()

    class Meta:
        verbose_name = _("recovery")
        verbose_name_plural = _("recoveries")
        indexes: ClassVar = [
            SparseIndex(
                fields=["due_at"],
                condition=models.Q(due_at__isnull=False),
                name="drf_webhooks_recovery_due",
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.state}"
