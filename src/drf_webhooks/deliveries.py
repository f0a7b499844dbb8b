"""The tables of what is owed to endpoints: deliveries, and the attempts at them."""

from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from drf_webhooks import scoping, versions
from drf_webhooks.clock import Clock
from drf_webhooks.fields import ExactCharField
from drf_webhooks.indexes import SparseIndex
from drf_webhooks.waking import wake_on_commit

__all__ = [
    "Attempt",
    "AttemptQuerySet",
    "Delivery",
    "DeliveryQuerySet",
    "EventBody",
    "Feed",
    "again",
    "is_thin",
]


#: Characters of a variant's name: a version, and that it is thin.
VARIANT = versions.LONGEST + len("/thin")


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    """Queries by what they are for."""

    def owned_by(self, owner: Any) -> "DeliveryQuerySet":
        """Leave what an owner may see: what its endpoints were sent since they are its own."""
        return self.filter(scoping.delivered_to(owner))

    def with_bodies(self) -> "DeliveryQuerySet":
        """Read with each delivery the message that is sent: ``body`` asks nothing more."""
        variants = EventBody.objects.using(self.db).filter(
            event=models.OuterRef("event"), variant=models.OuterRef("variant")
        )
        return self.annotate(
            sent_body=models.Case(
                models.When(variant="", then=models.F("event__body")),
                default=models.Subquery(variants.values("body")[:1]),
            )
        )

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

    def cancel(self, reason: str) -> int:
        """Let deliveries that wait be dead; return how many.

        Of one that is on its way nobody can tell whether the receiver takes it: the request goes
        on, and its attempt is logged, but its result changes nothing any more. What waits behind
        one of an ordered endpoint goes on.

        Args:
            reason: Why; cut to 200 characters.

        """
        return self.filter(state=Delivery.State.WAITING).update(
            state=Delivery.State.DEAD,
            due_at=None,
            leased_at=None,
            settled_at=Clock(),
            reason=reason[:200],
            # That of the worker which may have it is an old one.
            fence=models.F("fence") + 1,
            is_by_hand=False,
            order_key=None,
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
        if by_hand:
            chosen = self.sendable()
            is_heard = models.Q() if to_disabled else models.Q(endpoint__state="enabled")
            sent = chosen.filter(is_heard)._make_due(is_by_hand=True)
            return sent if to_disabled else sent + chosen.exclude(is_heard)._make_due()
        return self.filter(event__body__isnull=False)._make_due()

    def sendable(self) -> "DeliveryQuerySet":
        """Leave those that a person can send: with a message, and not on their way by hand."""
        return self.filter(event__body__isnull=False, is_by_hand=False)

    def give_up(self, reason: str, *, now: datetime) -> int:
        """Let those that wait be dead; return how many.

        A worker that is sending one is too late to say what came of it: its fence is an old one.
        """
        return self.filter(state=Delivery.State.WAITING).update(
            state=Delivery.State.DEAD,
            due_at=None,
            leased_at=None,
            settled_at=now,
            reason=reason,
            fence=models.F("fence") + 1,
            is_by_hand=False,
            order_key=None,
        )

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


def is_thin(variant: str) -> bool:
    """Tell by the name of a variant whether it only says which object it is of."""
    return variant.rpartition("/")[2] == "thin"


class EventBody(models.Model):
    """An event's message as some endpoints get it: in another version, or thin.

    The event's own body is not among them. Which one a delivery has is decided when it is made.
    """

    id = models.BigAutoField(primary_key=True)
    event = models.ForeignKey(
        "drf_webhooks.Event",
        on_delete=models.CASCADE,
        # The constraint below has one that begins with it.
        db_index=False,
        related_name="bodies",
        verbose_name=_("event"),
    )
    variant = ExactCharField(_("variant"), max_length=VARIANT)
    body = models.BinaryField(_("body"))

    class Meta:
        verbose_name = _("body of an event")
        verbose_name_plural = _("bodies of events")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["event", "variant"], name="drf_webhooks_eventbody_once")
        ]

    def __str__(self) -> str:
        return f"{self.event_id} {self.variant}"


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
        # The index of the feed begins with it.
        db_index=False,
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
    variant = models.CharField(
        _("variant"),
        max_length=VARIANT,
        blank=True,
        default="",
        db_default="",
        editable=False,
        help_text=_("Which of the event's messages is sent: empty for its own body."),
    )

    #: Its place in the endpoint's feed, once somebody has read so far.
    position = models.BigIntegerField(null=True, editable=False)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["event", "endpoint"], name="drf_webhooks_delivery_once")
        ]
        indexes: ClassVar = [
            # These two keep equal entries apart on PostgreSQL: migration 0015.
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
            models.Index(fields=["endpoint", "position"], name="drf_webhooks_delivery_feed"),
            # Pages of one endpoint, by key: else its few rows are looked for among all.
            models.Index(fields=["endpoint", "id"], name="drf_webhooks_delivery_page"),
        ]

    def __str__(self) -> str:
        return f"{self.pk} {self.state}"

    @property
    def body(self) -> bytes | None:
        """The message that is sent, as far as it is kept; may be a query.

        None for what :meth:`DeliveryQuerySet.with_bodies` has read.
        """
        if "sent_body" in self.__dict__:
            read = self.__dict__["sent_body"]
            return None if read is None else bytes(read)
        if not self.variant:
            own = self.event.body
            return None if own is None else bytes(own)
        found = EventBody.objects.using(self._state.db).filter(
            event=self.event_id, variant=self.variant
        )
        body = found.values_list("body", flat=True).first()
        return None if body is None else bytes(body)


class Feed(models.Model):
    """How far the deliveries of an endpoint have been given places in its feed.

    Its row is the lock under which they are. None for an endpoint whose feed nobody reads.
    """

    endpoint = models.OneToOneField(
        "drf_webhooks.Endpoint",
        on_delete=models.CASCADE,
        primary_key=True,
        related_name="+",
        verbose_name=_("endpoint"),
    )
    last = models.BigIntegerField(_("last position"), default=0)

    class Meta:
        verbose_name = _("feed")
        verbose_name_plural = _("feeds")

    def __str__(self) -> str:
        return f"{self.endpoint_id} {self.last}"


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
    is_public = models.BooleanField(
        _("from the public internet"),
        null=True,
        help_text=_("Whether the address that answered is on it. None: not known."),
    )

    objects = AttemptQuerySet.as_manager()

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")

    def __str__(self) -> str:
        return f"{self.number}: {self.status or self.error}"
