"""The tables of the outbox, where the half that records and the half that delivers meet."""

import json
import uuid
from datetime import timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from drf_webhooks import secret_keys
from drf_webhooks.conf import given
from drf_webhooks.endpoint_urls import validate_url
from drf_webhooks.fields import EventTypesField, ExactCharField
from drf_webhooks.ids import uuid7
from drf_webhooks.indexes import SparseIndex

__all__ = ["Attempt", "BaseObject", "Delivery", "Endpoint", "Event", "LearntPath", "owner_model"]


def owner_model() -> str:
    """Return the label of the model that owns endpoints."""
    # Unchecked: models are loaded before the system checks say what is wrong with settings.
    written = given()
    chosen = written.get("OWNER_MODEL") if isinstance(written, dict) else None
    return chosen if isinstance(chosen, str) else settings.AUTH_USER_MODEL


class Endpoint(models.Model):
    """A subscriber's URL, its secret, and what it wants to hear."""

    class State(models.TextChoices):
        ENABLED = "enabled", _("enabled")
        DISABLED = "disabled", _("disabled")

    class Ordering(models.TextChoices):
        NONE = "none", _("none")
        OBJECT = "object", _("by object")

    class OnDead(models.TextChoices):
        SKIP = "skip", _("go on with the next")
        BLOCK = "block", _("keep the rest waiting")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = models.ForeignKey(
        owner_model(),
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("owner"),
        help_text=_("Without one it hears only of resources that have no owner."),
    )
    url = models.CharField(_("URL"), max_length=2048, validators=[validate_url])
    event_types = EventTypesField(
        _("event types"),
        default=list,
        help_text=_("Like core.deposit.created, core.deposit.* or *, one a line."),
    )
    description = models.CharField(_("description"), max_length=200, blank=True)
    secret = models.CharField(
        _("secret"),
        max_length=128,
        default=secret_keys.generate,
        validators=[secret_keys.validate],
    )
    state = models.CharField(
        _("state"), max_length=16, choices=State.choices, default=State.ENABLED
    )
    disabled_reason = models.CharField(_("why disabled"), max_length=200, blank=True)
    concurrency = models.PositiveSmallIntegerField(
        _("concurrency"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("Requests in the air at once, for one worker; by default the setting."),
    )
    rate = models.FloatField(
        _("rate"),
        null=True,
        blank=True,
        validators=[MinValueValidator(0.01)],
        help_text=_("Requests a second, of all workers together; by default the setting."),
    )
    rate_from = models.DateTimeField(null=True, editable=False)
    ordering = models.CharField(
        _("ordering"),
        max_length=16,
        choices=Ordering.choices,
        default=Ordering.NONE,
        db_default=Ordering.NONE,
        help_text=_("Whether an event of an object waits for those before it."),
    )
    on_dead = models.CharField(
        _("on dead"),
        max_length=16,
        choices=OnDead.choices,
        default=OnDead.SKIP,
        db_default=OnDead.SKIP,
        help_text=_("With ordering: what becomes of the rest when one delivery is dead."),
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name = _("endpoint")
        verbose_name_plural = _("endpoints")
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(state__in=["enabled", "disabled"]),
                name="drf_webhooks_endpoint_state",
            )
        ]

    def __str__(self) -> str:
        return self.url

    def save(self, *args: Any, **kwargs: Any) -> None:
        # Rows made in code skip form validation, and a worker could never send to a bad one.
        validate_url(self.url)
        secret_keys.validate(self.secret)
        self._meta.get_field("event_types").get_prep_value(self.event_types)  # type: ignore[union-attr]  # a column
        super().save(*args, **kwargs)


class Event(models.Model):
    """A stored fact about a base object, with the message that says it.

    It is *held* while its session is open or its serialization is left to the worker
    (``held_until`` is set, no body), *parked* if it could not be serialized (``error`` says
    why), and else *recorded*: its body never changes again.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    type = ExactCharField(_("type"), max_length=200)
    resource = ExactCharField(_("resource"), max_length=200)
    object_key = ExactCharField(
        _("object key"), max_length=400, help_text=_("The primary key as JSON.")
    )
    sequence = models.BigIntegerField(
        _("sequence"), null=True, help_text=_("Counts the events of one object from 1.")
    )
    #: The same for all events of an object, and short: what deliveries are ordered by.
    object_hash = models.BigIntegerField(null=True, editable=False)
    # Scoped for ever, even when the owner is gone: without a constraint a last "deleted"
    # can still be stored in the transaction that deletes the owner too.
    owner = models.ForeignKey(
        owner_model(),
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        null=True,
        related_name="+",
        verbose_name=_("owner"),
    )
    body = models.BinaryField(_("body"), null=True)
    session = models.UUIDField(_("session"), null=True)
    held_until = models.DateTimeField(_("held until"), null=True, db_index=True)
    recheck_at = models.DateTimeField(
        _("recheck at"),
        null=True,
        help_text=_("When the object is compared with what this event said of it."),
    )
    error = models.TextField(_("why parked"), blank=True, default="")
    created_at = models.DateTimeField(_("created at"))

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        indexes: ClassVar = [
            models.Index(fields=["resource", "object_key"], name="drf_webhooks_event_object"),
            models.Index(fields=["created_at"], name="drf_webhooks_event_created"),
            SparseIndex(
                fields=["recheck_at"],
                condition=models.Q(recheck_at__isnull=False),
                name="drf_webhooks_event_recheck",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.object_key}"

    @property
    def message_id(self) -> str:
        """The ``webhook-id`` header, the same for every attempt."""
        return self.message_id_of(self.id)

    @staticmethod
    def message_id_of(pk: uuid.UUID) -> str:
        """Return the ``webhook-id`` of an event by its primary key."""
        return f"evt_{pk.hex}"

    @property
    def data(self) -> Any:
        """The ``data`` member of the body, or ``None`` while there is no body."""
        return None if self.body is None else json.loads(bytes(self.body))["data"]

    @property
    def payload(self) -> Any:
        """The same as :attr:`data`."""
        return self.data


class BaseObject(models.Model):
    """What is known of one base object besides its row: how many events it had.

    Raising the number locks the row until the transaction ends, so that the numbers of one
    object are in the order of its commits.
    """

    id = models.BigAutoField(primary_key=True)
    resource = ExactCharField(max_length=200)
    object_key = ExactCharField(max_length=400)
    sequence = models.BigIntegerField()

    class Meta:
        verbose_name = _("base object")
        verbose_name_plural = _("base objects")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["resource", "object_key"], name="drf_webhooks_baseobject_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.resource} {self.object_key}"


class LearntPath(models.Model):
    """What code of a serializer was seen to read, and how such rows lead to base objects."""

    #: Longest text that a database can hold unique beside the resource's name, in characters.
    LONGEST: ClassVar[int] = 400

    id = models.BigAutoField(primary_key=True)
    resource = ExactCharField(_("resource"), max_length=200)
    spelling = ExactCharField(_("spelling"), max_length=LONGEST)
    learnt_at = models.DateTimeField(_("learnt at"), auto_now_add=True)

    class Meta:
        verbose_name = _("learnt path")
        verbose_name_plural = _("learnt paths")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["resource", "spelling"], name="drf_webhooks_learntpath_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.resource} {self.spelling}"


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    """Queries by what they are for."""

    def skip(self) -> int:
        """Let what waits behind dead deliveries of ordered endpoints go on; return how many."""
        return self.filter(state=Delivery.State.DEAD, order_key__isnull=False).update(
            order_key=None
        )

    def send_again(self) -> int:
        """Make deliveries due at once, the settled ones included; return how many.

        The event's message stays what it was. A worker that is about to settle one of them
        is too late: its fence is an old one.
        """
        return self.filter(event__body__isnull=False).update(
            state=Delivery.State.WAITING,
            # Long past by every clock.
            due_at=timezone.now() - timedelta(days=1),
            # By hand, so it waits for nothing; one that others wait for keeps its place.
            lane=models.Case(
                models.When(order_key=None, then=Delivery.Lane.RETRY),
                default=Delivery.Lane.ORDERED,
            ),
            settled_at=None,
            reason="",
            fence=models.F("fence") + 1,
        )


class Delivery(models.Model):
    """The duty to bring one event to one endpoint.

    ``due_at`` is when the next attempt may start; a lease moves it to the lease's end and
    raises ``fence``, so that a worker that was away too long cannot store its late result.
    A settled delivery has no ``due_at``.

    ``lane`` parts what is due, so that no first attempt waits behind retries. A delivery that
    waits for its turn among those of its object has an ``order_key``, the same for all of them;
    the one with the lowest ``sequence`` goes next. See ``docs/explanation/delivery.md``.
    """

    class Lane(models.IntegerChoices):
        FIRST = 0
        RETRY = 1
        ORDERED = 2

    class State(models.TextChoices):
        WAITING = "waiting", _("waiting")
        DELIVERED = "delivered", _("delivered")
        DEAD = "dead", _("dead")

    id = models.BigAutoField(primary_key=True)
    event = models.ForeignKey(
        Event, on_delete=models.CASCADE, related_name="deliveries", verbose_name=_("event")
    )
    endpoint = models.ForeignKey(
        Endpoint, on_delete=models.CASCADE, related_name="deliveries", verbose_name=_("endpoint")
    )
    state = models.CharField(
        _("state"), max_length=16, choices=State.choices, default=State.WAITING
    )
    due_at = models.DateTimeField(_("due at"), null=True)
    fence = models.PositiveIntegerField(_("fence"), default=0)
    attempt_count = models.PositiveIntegerField(_("attempts"), default=0)
    reason = models.CharField(
        _("reason"), max_length=200, blank=True, default="", help_text=_("Why it is dead.")
    )
    lane = models.PositiveSmallIntegerField(
        choices=Lane.choices, default=Lane.FIRST, db_default=Lane.FIRST, editable=False
    )
    order_key = models.BigIntegerField(null=True, editable=False)
    sequence = models.BigIntegerField(null=True, editable=False)
    created_at = models.DateTimeField(_("created at"))
    settled_at = models.DateTimeField(_("settled at"), null=True)

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
        ]

    def __str__(self) -> str:
        return f"{self.pk} {self.state}"


class Attempt(models.Model):
    """One HTTP request for a delivery, and what came back."""

    id = models.BigAutoField(primary_key=True)
    delivery = models.ForeignKey(
        Delivery, on_delete=models.CASCADE, related_name="attempts", verbose_name=_("delivery")
    )
    number = models.PositiveIntegerField(_("number"), help_text=_("Counts from 1."))
    started_at = models.DateTimeField(_("started at"))
    duration = models.DurationField(_("duration"))
    url = models.CharField(_("URL"), max_length=2048)
    status = models.PositiveSmallIntegerField(
        _("status"), null=True, help_text=_("None when no answer came.")
    )
    error = models.CharField(_("error"), max_length=40, blank=True, default="")
    detail = models.CharField(_("detail"), max_length=500, blank=True, default="")
    response_headers = models.JSONField(_("response headers"), default=list)
    response_body = models.BinaryField(_("response body"), default=b"")

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")

    def __str__(self) -> str:
        return f"{self.number}: {self.status or self.error}"
