"""The tables of what was said: events, how many each object had, and what was learnt for them."""

import json
import uuid
from typing import Any, ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from drf_webhooks import origins, scoping, versions
from drf_webhooks.fields import ExactCharField
from drf_webhooks.ids import uuid7
from drf_webhooks.indexes import SparseIndex
from drf_webhooks.scoping import owner_model
from drf_webhooks.trace_context import traceparent

__all__ = ["BaseObject", "Event", "EventQuerySet", "LearntPath"]


class EventQuerySet(models.QuerySet["Event"]):
    """Queries by what they are for."""

    def owned_by(self, owner: Any) -> "EventQuerySet":
        """Leave the events of an owner's objects."""
        return self.filter(scoping.owned(owner))

    def audible_to(self, owner: Any) -> "EventQuerySet":
        """Leave the events that an owner's endpoints may hear; those for everybody too."""
        return self.filter(scoping.audible(owner))


class Event(models.Model):
    """A stored fact about a base object, with the message that says it.

    It is *held* while its session is open or its serialization is left to the worker
    (``held_until`` is set, no body), *parked* if it could not be serialized (``error`` says
    why), and else *recorded*: its body never changes again, until it is *retired*: then its
    message and its attempts are no longer kept, and some time later the row goes too.
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
    held_until = models.DateTimeField(_("held until"), null=True)
    recheck_at = models.DateTimeField(
        _("recheck at"),
        null=True,
        help_text=_("When the object is compared with what this event said of it."),
    )
    error = models.TextField(_("why parked"), blank=True, default="")
    created_at = models.DateTimeField(_("created at"))
    traceparent = models.CharField(
        _("trace"),
        max_length=55,
        blank=True,
        default=traceparent,
        db_default="",
        help_text=_("The trace of the change, as W3C writes it."),
    )
    origin = models.CharField(
        _("origin"),
        max_length=origins.LONGEST,
        blank=True,
        default=origins.text,
        db_default="",
        help_text=_("Who changed the object, and how."),
    )
    #: Its key only: an endpoint may be gone before its events.
    origin_endpoint = models.UUIDField(
        _("made by"),
        null=True,
        default=origins.endpoint,
        help_text=_("The endpoint behind which is who made the change."),
    )
    depth = models.PositiveSmallIntegerField(
        _("depth"),
        default=origins.depth,
        db_default=0,
        help_text=_("How many webhooks led to the change."),
    )
    retired_at = models.DateTimeField(
        _("retired at"), null=True, help_text=_("Since when its message is not kept any more.")
    )
    kept_until = models.DateTimeField(
        _("kept until"), null=True, help_text=_("If its resource says so, and not the settings.")
    )
    version = ExactCharField(
        _("version"),
        max_length=versions.LONGEST,
        blank=True,
        default="",
        db_default="",
        help_text=_("Of its message; others may get it in another one."),
    )
    headers = models.JSONField(
        _("headers"), null=True, help_text=_("What its resource sends beside the message.")
    )

    objects = EventQuerySet.as_manager()

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        indexes: ClassVar = [
            models.Index(fields=["resource", "object_key"], name="drf_webhooks_event_object"),
            models.Index(fields=["created_at"], name="drf_webhooks_event_created"),
            SparseIndex(
                fields=["held_until"],
                condition=models.Q(held_until__isnull=False),
                name="drf_webhooks_event_held",
            ),
            SparseIndex(
                fields=["recheck_at"],
                condition=models.Q(recheck_at__isnull=False),
                name="drf_webhooks_event_recheck",
            ),
            SparseIndex(
                fields=["retired_at", "created_at"],
                condition=models.Q(retired_at__isnull=True),
                name="drf_webhooks_event_kept",
            ),
            SparseIndex(
                fields=["kept_until"],
                condition=models.Q(kept_until__isnull=False),
                name="drf_webhooks_event_until",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.object_key}"

    @property
    def message_id(self) -> str:
        """The ``webhook-id`` header, the same for every attempt."""
        return self.message_id_of(self.id)

    @staticmethod
    def message_id_of(pk: uuid.UUID | str) -> str:
        """Return the ``webhook-id`` of an event by its primary key, or by the text of that."""
        return f"evt_{str(pk).replace('-', '')}"

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
