"""The tables of what is owed to endpoints: deliveries, and the attempts at them."""

from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from drf_webhooks import scoping
from drf_webhooks.indexes import SparseIndex
from drf_webhooks.waking import wake_on_commit

__all__ = ["Attempt", "AttemptQuerySet", "Delivery", "DeliveryQuerySet", "again"]


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    """Queries by what they are for."""

    def owned_by(self, owner: Any) -> "DeliveryQuerySet":
        """Leave what an owner may see: what its endpoints were sent since they are its own."""
        return self.filter(scoping.delivered_to(owner))

    def failed(self, since: datetime, until: datetime) -> "DeliveryQuerySet":
        """Leave those that died in a stretch of time, and were not said anew since."""
        return self.filter(
            state=Delivery.State.DEAD,
            settled_at__gte=since,
            settled_at__lt=until,
            replaced_by=None,
        )

    def skip(self) -> int:
        """Let what waits behind dead deliveries of ordered endpoints go on; return how many."""
        return self.filter(state=Delivery.State.DEAD, order_key__isnull=False).update(
            order_key=None
        )

    def send_again(self, *, by_hand: bool = False, to_disabled: bool = False) -> int:
        """Make deliveries due at once, the settled ones included; return how many.

        The event's message stays what it was. A worker that is about to settle one of them
        is too late: its fence is an old one. So the attempt takes the place of the next retry.

        Args:
            by_hand: A person asks for these few. They do not wait for an endpoint that is
                paused, and a failure is not charged to it. One that is already on its way by
                hand is left alone and not counted.
            to_disabled: With ``by_hand``: send to disabled endpoints too. Else what is for
                these waits until they are enabled.

        """
        chosen = self.filter(event__body__isnull=False)
        if by_hand:
            chosen = chosen.filter(is_by_hand=False)
            is_heard = models.Q() if to_disabled else models.Q(endpoint__state="enabled")
            sent = chosen.filter(is_heard)._make_due(is_by_hand=True)
            return sent if to_disabled else sent + chosen.exclude(is_heard)._make_due()
        return chosen._make_due()

    def _make_due(self, *, is_by_hand: bool = False) -> int:
        count = self.update(
            state=Delivery.State.WAITING,
            # Long past by every clock.
            due_at=timezone.now() - timedelta(days=1),
            leased_at=None,
            lane=Delivery.Lane.BY_HAND if is_by_hand else again(),
            settled_at=None,
            reason="",
            fence=models.F("fence") + 1,
            is_by_hand=is_by_hand,
        )
        wake_on_commit(self.db)
        return count


def again() -> models.Case:
    """Return the lane of what is sent again: one that others wait for keeps its place."""
    return models.Case(
        models.When(order_key=None, then=Delivery.Lane.RETRY), default=Delivery.Lane.ORDERED
    )


class Delivery(models.Model):
    """The duty to bring one event to one endpoint.

    ``due_at`` is when the next attempt may start; a lease moves it to the lease's end, notes
    its start in ``leased_at`` and raises ``fence``, so that a worker that was away too long
    cannot store its late result. A settled delivery has no ``due_at``. One that is due and
    still has a ``leased_at`` was held by a worker that is lost.

    ``lane`` parts what is due, so that no first attempt waits behind retries. A delivery that
    waits for its turn among those of its object has an ``order_key``, the same for all of them;
    the one with the lowest ``sequence`` goes next. See ``docs/explanation/delivery.md``.
    """

    class Lane(models.IntegerChoices):
        FIRST = 0
        RETRY = 1
        ORDERED = 2
        BY_HAND = 3

    class State(models.TextChoices):
        WAITING = "waiting", _("waiting")
        DELIVERED = "delivered", _("delivered")
        DEAD = "dead", _("dead")

    id = models.BigAutoField(primary_key=True)
    event = models.ForeignKey(
        "drf_webhooks.Event",
        on_delete=models.CASCADE,
        # The constraint below has one that begins with it.
        db_index=False,
        related_name="deliveries",
        verbose_name=_("event"),
    )
    endpoint = models.ForeignKey(
        "drf_webhooks.Endpoint",
        on_delete=models.CASCADE,
        related_name="deliveries",
        verbose_name=_("endpoint"),
    )
    state = models.CharField(
        _("state"), max_length=16, choices=State.choices, default=State.WAITING
    )
    due_at = models.DateTimeField(_("due at"), null=True)
    leased_at = models.DateTimeField(_("leased at"), null=True)
    fence = models.PositiveIntegerField(_("fence"), default=0)
    attempt_count = models.PositiveIntegerField(_("attempts"), default=0)
    reason = models.CharField(
        _("reason"), max_length=200, blank=True, default="", help_text=_("Why it is dead.")
    )
    # A default of the database: rows are made by an INSERT that does not name it.
    is_by_hand = models.BooleanField(
        _("by hand"),
        default=False,
        db_default=False,
        help_text=_("A person asked for this attempt: sent at once, and not charged."),
    )
    lane = models.PositiveSmallIntegerField(
        choices=Lane.choices, default=Lane.FIRST, db_default=Lane.FIRST, editable=False
    )
    order_key = models.BigIntegerField(null=True, editable=False)
    sequence = models.BigIntegerField(null=True, editable=False)
    created_at = models.DateTimeField(_("created at"))
    settled_at = models.DateTimeField(_("settled at"), null=True)
    replaced_by = models.UUIDField(
        _("replaced by"), null=True, help_text=_("The event that says the same anew.")
    )

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["event", "endpoint"], name="drf_webhooks_delivery_once")
        ]
        indexes: ClassVar = [
            SparseIndex(
                fields=["lane", "due_at"],
                condition=models.Q(due_at__isnull=False),
                name="drf_webhooks_delivery_lane",
            ),
            SparseIndex(
                fields=["lane", "endpoint", "due_at"],
                condition=models.Q(due_at__isnull=False),
                name="drf_webhooks_delivery_turn",
            ),
            SparseIndex(
                fields=["endpoint", "order_key", "sequence"],
                condition=models.Q(order_key__isnull=False),
                name="drf_webhooks_delivery_order",
            ),
            SparseIndex(
                fields=["state", "settled_at"],
                condition=models.Q(state="dead"),
                name="drf_webhooks_delivery_dead",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.pk} {self.state}"


class AttemptQuerySet(models.QuerySet["Attempt"]):
    """Queries by what they are for."""

    def owned_by(self, owner: Any) -> "AttemptQuerySet":
        """Leave the attempts at deliveries that an owner may see."""
        return self.filter(scoping.delivered_to(owner, "delivery__"))


class Attempt(models.Model):
    """One HTTP request for a delivery, and what came back.

    The three parts of ``duration`` are ``None`` as far as there were none: nothing is looked up
    or connected for a request on a connection that was open already.
    """

    class End(models.TextChoices):
        """How the body of the answer ended."""

        WHOLE = "whole", _("whole")
        CUT = "cut", _("cut: there was more than is kept")
        BROKEN = "broken", _("broken off by the receiver, or by the time that it took")

    id = models.BigAutoField(primary_key=True)
    delivery = models.ForeignKey(
        Delivery, on_delete=models.CASCADE, related_name="attempts", verbose_name=_("delivery")
    )
    number = models.PositiveIntegerField(_("number"), help_text=_("Counts from 1."))
    started_at = models.DateTimeField(_("started at"))
    duration = models.DurationField(_("duration"))
    looked_up_in = models.DurationField(_("looked up in"), null=True)
    connected_in = models.DurationField(_("connected in"), null=True, help_text=_("With TLS."))
    answered_in = models.DurationField(
        _("answered in"), null=True, help_text=_("From sending to the first byte.")
    )
    url = models.CharField(_("URL"), max_length=2048)
    status = models.PositiveSmallIntegerField(
        _("status"), null=True, help_text=_("None when no answer came.")
    )
    error = models.CharField(_("error"), max_length=40, blank=True, default="")
    detail = models.CharField(_("detail"), max_length=500, blank=True, default="")
    response_headers = models.JSONField(_("response headers"), default=list)
    response_body = models.BinaryField(_("response body"), default=b"")
    response_end = models.CharField(
        _("response body is"),
        max_length=8,
        choices=End.choices,
        blank=True,
        default="",
        # Workers of the version before go on inserting while the new ones start.
        db_default="",
        help_text=_("Empty when no answer came."),
    )

    objects = AttemptQuerySet.as_manager()

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")

    def __str__(self) -> str:
        return f"{self.number}: {self.status or self.error}"
