"""The tables of an endpoint's health: what the breaker remembers, and what is to be said of it.

Apart from the endpoint itself, so that settling results does not contend with, and is not
overwritten by, those who edit it.
"""

from typing import Any, ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from drf_webhooks import scoping
from drf_webhooks.indexes import SparseIndex

__all__ = ["EndpointHealth", "Notice", "Verification"]


class EndpointHealth(models.Model):
    """What is remembered of an endpoint that has failed; none that never did has one.

    A claim reads ``paused_until``, until when nothing is sent, and ``ramp``, how many
    deliveries one round may have while the endpoint recovers (``None``: as many as any).
    """

    endpoint = models.OneToOneField(
        "drf_webhooks.Endpoint",
        on_delete=models.CASCADE,
        primary_key=True,
        related_name="health",
        verbose_name=_("endpoint"),
    )
    is_clean = models.BooleanField(
        _("is clean"), default=True, help_text=_("A success would change nothing.")
    )
    failures = models.PositiveIntegerField(_("failures in a row"), default=0)
    window_started_at = models.DateTimeField(_("window started at"), null=True)
    window_total = models.PositiveIntegerField(_("results in the window"), default=0)
    window_failures = models.PositiveIntegerField(_("failures in the window"), default=0)
    failing_since = models.DateTimeField(
        _("failing since"), null=True, help_text=_("The first failure since the last success.")
    )
    failed_at = models.DateTimeField(_("failed at"), null=True)
    warned = models.PositiveSmallIntegerField(_("warnings given"), default=0)
    warned_at = models.DateTimeField(_("warned at"), null=True)
    openings = models.PositiveIntegerField(_("pauses in a row"), default=0)
    paused_until = models.DateTimeField(_("paused until"), null=True)
    ramp = models.PositiveIntegerField(_("at once"), null=True)
    round = models.PositiveIntegerField(_("round"), default=0)
    round_left = models.PositiveIntegerField(_("results to come"), default=0)
    types = models.JSONField(_("failing event types"), default=dict)

    class Meta:
        verbose_name = _("health")
        verbose_name_plural = _("health")

    def __str__(self) -> str:
        if self.is_clean:
            return "well"
        if self.paused_until is not None:
            return f"paused until {self.paused_until:%Y-%m-%d %H:%M:%S} UTC"
        if self.failing_since is not None:
            return f"failing since {self.failing_since:%Y-%m-%d %H:%M} UTC"
        return "recovering"


class NoticeQuerySet(models.QuerySet["Notice"]):
    """Queries by what they are for."""

    def owned_by(self, owner: Any) -> "NoticeQuerySet":
        """Leave what was said of an owner's endpoints since they are its own."""
        return self.filter(scoping.of_endpoint(owner))


class Notice(models.Model):
    """Something that is said about an endpoint: by a signal, by an event, by the handler.

    It is due until each of these has it. Stored with what made it true, so that it is neither
    lost nor said twice.
    """

    class Kind(models.TextChoices):
        FAILING = "failing", _("failing")
        TYPE_FAILING = "type_failing", _("event type failing")
        DISABLED = "disabled", _("disabled")
        ENABLED = "enabled", _("enabled")

    id = models.BigAutoField(primary_key=True)
    endpoint = models.ForeignKey(
        "drf_webhooks.Endpoint",
        on_delete=models.CASCADE,
        related_name="notices",
        verbose_name=_("endpoint"),
    )
    kind = models.CharField(_("kind"), max_length=16, choices=Kind.choices)
    reason = models.CharField(_("reason"), max_length=300, blank=True, default="")
    event_type = models.CharField(_("event type"), max_length=200, blank=True, default="")
    failing_since = models.DateTimeField(_("failing since"), null=True)
    created_at = models.DateTimeField(_("created at"))
    due_at = models.DateTimeField(
        _("due at"), null=True, help_text=_("None when everybody has it.")
    )
    tries = models.PositiveIntegerField(_("tries"), default=0)
    error = models.CharField(
        _("error"), max_length=300, blank=True, default="", help_text=_("Of the last try.")
    )
    is_recorded = models.BooleanField(_("has its events"), default=False)
    is_signalled = models.BooleanField(_("has its signal"), default=False)

    objects = NoticeQuerySet.as_manager()

    class Meta:
        verbose_name = _("notice")
        verbose_name_plural = _("notices")
        indexes: ClassVar = [
            SparseIndex(
                fields=["due_at"],
                condition=models.Q(due_at__isnull=False),
                name="drf_webhooks_notice_due",
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.endpoint_id}"


class Verification(models.Model):
    """Whether an endpoint has shown that it wants webhooks; only of those that were asked.

    The question is an event, and the answer what came back at the first attempt to deliver it.
    """

    class State(models.TextChoices):
        PENDING = "pending", _("pending")
        VERIFIED = "verified", _("verified")
        FAILED = "failed", _("failed")

    endpoint = models.OneToOneField(
        "drf_webhooks.Endpoint",
        on_delete=models.CASCADE,
        primary_key=True,
        related_name="verification",
        verbose_name=_("endpoint"),
    )
    state = models.CharField(
        _("state"), max_length=16, choices=State.choices, default=State.PENDING
    )
    #: Its key only: retention deletes deliveries without looking here.
    delivery = models.BigIntegerField(_("delivery"), help_text=_("The one that asks."))
    error = models.CharField(_("why not"), max_length=300, blank=True, default="")
    asked_at = models.DateTimeField(_("asked at"))
    settled_at = models.DateTimeField(_("settled at"), null=True)

    class Meta:
        verbose_name = _("verification")
        verbose_name_plural = _("verifications")
        indexes: ClassVar = [
            SparseIndex(
                fields=["settled_at", "asked_at"],
                condition=models.Q(settled_at__isnull=True),
                name="drf_webhooks_verification_due",
            )
        ]

    def __str__(self) -> str:
        return f"{self.endpoint_id} {self.state}"
