"""The tables of the outbox, where the half that records and the half that delivers meet."""

import json
import uuid
from collections.abc import Collection
from datetime import datetime
from typing import Any, ClassVar, Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from drf_webhooks import custom_headers, origins, scoping, secret_keys
from drf_webhooks.conf import config, given
from drf_webhooks.deliveries import Attempt, Delivery, DeliveryQuerySet
from drf_webhooks.encryption import Stored
from drf_webhooks.endpoint_health import EndpointHealth, Notice
from drf_webhooks.fields import (
    EventTypesField,
    ExactCharField,
    HeadersField,
    OldSecretsField,
    SealedField,
    SecretField,
)
from drf_webhooks.ids import uuid7
from drf_webhooks.indexes import SparseIndex
from drf_webhooks.trace_context import traceparent
from drf_webhooks.validators import validate_format, validate_overrides, validate_url

__all__ = [
    "Attempt",
    "BaseObject",
    "Delivery",
    "DeliveryQuerySet",
    "Endpoint",
    "EndpointHealth",
    "EndpointQuerySet",
    "Event",
    "EventQuerySet",
    "LearntPath",
    "Notice",
    "owner_model",
]


def owner_model() -> str:
    """Return the label of the model that owns endpoints."""
    # Unchecked: models are loaded before the system checks say what is wrong with settings.
    written = given()
    chosen = written.get("OWNER_MODEL") if isinstance(written, dict) else None
    return chosen if isinstance(chosen, str) else settings.AUTH_USER_MODEL


_TRANSFER = (
    "An endpoint's owner was changed. Its secret and its history are the old owner's: use "
    "drf_webhooks.endpoints.transfer(), or 'manage.py webhooks_endpoint transfer'."
)

#: Stands for an owner that was not read.
_UNKNOWN = object()


class EndpointQuerySet(models.QuerySet["Endpoint"]):
    """Queries by what they are for."""

    def owned_by(self, owner: Any) -> "EndpointQuerySet":
        """Leave what an owner may see and change."""
        return self.filter(scoping.owned(owner))

    def update(self, **fields: Any) -> int:
        """Change columns, but for the owner, to whom more belongs."""
        if not fields.keys().isdisjoint({"owner", "owner_id"}):
            raise ValueError(_TRANSFER)
        return super().update(**fields)

    def give(self, owner: Any, *, secret: Stored, at: datetime) -> int:
        """Give endpoints to another owner; called by :func:`drf_webhooks.endpoints.transfer`."""
        return super().update(
            owner=owner,
            secret=secret,
            old_secrets=(),
            headers={},
            owned_since=at,
            updated_at=at,
        )


class Endpoint(models.Model):
    """A subscriber's URL, its secret, and what it wants to hear."""

    _stored_owner: Any = _UNKNOWN

    class State(models.TextChoices):
        ENABLED = "enabled", _("enabled")
        DISABLED = "disabled", _("disabled")

    class Method(models.TextChoices):
        POST = "POST", "POST"
        PUT = "PUT", "PUT"
        PATCH = "PATCH", "PATCH"

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
    secret = SecretField(
        _("secret"),
        max_length=255,
        default=secret_keys.generate,
        validators=[secret_keys.validate],
    )
    old_secrets = OldSecretsField(
        _("old secrets"), default=tuple, db_default="", blank=True, editable=False
    )
    # The defaults in the database are for processes of the version before, which go on making
    # endpoints while the new ones start.
    method = models.CharField(
        _("method"), max_length=8, choices=Method.choices, default=Method.POST, db_default="POST"
    )
    format = models.CharField(
        _("format"),
        max_length=40,
        default="json",
        db_default="json",
        validators=[validate_format],
        help_text=_("json, xml, cloudevents, or one of the project's own."),
    )
    headers = HeadersField(
        _("custom headers"),
        default=dict,
        db_default="",
        blank=True,
        help_text=_("Like X-Api-Key: value, one a line. Values are not shown again."),
    )
    state = models.CharField(
        _("state"), max_length=16, choices=State.choices, default=State.ENABLED
    )
    disabled_reason = models.CharField(_("why disabled"), max_length=200, blank=True)
    overrides = models.JSONField(
        _("overrides"),
        default=dict,
        null=True,
        blank=True,
        validators=[validate_overrides],
        help_text=_('Settings of its own, durations in seconds: {"MAX_AGE": 3600}.'),
    )
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
    ignores_own_changes = models.BooleanField(
        _("ignores its own changes"),
        default=False,
        db_default=False,
        help_text=_("Not to be told of what was changed by who is behind it."),
    )
    owned_since = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    objects = EndpointQuerySet.as_manager()

    class Meta:
        verbose_name = _("endpoint")
        verbose_name_plural = _("endpoints")
        permissions: ClassVar = [("reveal_secret", _("Can see the secret of an endpoint"))]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(state__in=["enabled", "disabled"]),
                name="drf_webhooks_endpoint_state",
            ),
            models.CheckConstraint(
                condition=models.Q(method__in=["POST", "PUT", "PATCH"]),
                name="drf_webhooks_endpoint_method",
            ),
        ]

    def __str__(self) -> str:
        return self.url

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding and self._is_given_away(kwargs.get("update_fields")):
            raise ValidationError(_TRANSFER, code="transfer")
        # Rows made in code skip form validation, and a worker could never send to a bad one.
        validate_url(self.url)
        if self._is_new("secret"):
            secret_keys.validate(self.secret)
        validate_format(self.format)
        if self._is_new("headers"):
            custom_headers.validate(self.headers)
        validate_overrides(self.overrides)
        self._meta.get_field("event_types").get_prep_value(self.event_types)  # type: ignore[union-attr]  # a column
        super().save(*args, **kwargs)
        self._stored_owner = self.__dict__.get("owner_id", _UNKNOWN)

    @classmethod
    def from_db(
        cls, db: str | None, field_names: Collection[str], values: Collection[Any], **more: Any
    ) -> Self:
        made = super().from_db(db, field_names, values, **more)
        made._stored_owner = made.__dict__.get("owner_id", _UNKNOWN)
        return made

    def refresh_from_db(self, *args: Any, **kwargs: Any) -> None:
        super().refresh_from_db(*args, **kwargs)
        self._stored_owner = _UNKNOWN

    @property
    def signature(self) -> secret_keys.Signature:
        """How it is signed: ``"v1"`` (HMAC) or ``"v1a"`` (ed25519). The secret says it."""
        return "v1" if self.public_key is None else "v1a"

    @property
    def public_key(self) -> str | None:
        """What the receiver verifies with, if it is signed with ed25519; no secret."""
        return secret_keys.public_key(self.secret)

    def _is_new(self, name: str) -> bool:
        """Tell whether a secret is not what the database has, which is not asked to be read."""
        field = self._meta.get_field(name)
        assert isinstance(field, SealedField)  # noqa: S101  # for the types only
        return self._state.adding or not field.is_unchanged(self)

    def clean(self) -> None:
        super().clean()
        if self._state.adding:
            self.check_room(self.owner_id, using=self._state.db)

    @classmethod
    def check_room(cls, owner: Any, *, using: str | None) -> None:
        """Refuse one more endpoint of an owner that has as many as it may have.

        Raises:
            ValidationError: as it says.

        """
        most = config().ENDPOINTS_PER_OWNER
        if most is not None and cls.objects.using(using).owned_by(owner).count() >= most:
            msg = (
                f"The owner has {most} endpoints already, and may have no more "
                "(DRF_WEBHOOKS['ENDPOINTS_PER_OWNER']). Delete one that is not used."
            )
            raise ValidationError(msg, code="too_many")

    def _is_given_away(self, written: Collection[str] | None) -> bool:
        is_written = written is None or not {"owner", "owner_id"}.isdisjoint(written)
        if not is_written or "owner_id" not in self.__dict__:
            return False
        if self._stored_owner is _UNKNOWN:
            rows = Endpoint._base_manager.using(self._state.db).filter(pk=self.pk)
            self._stored_owner = rows.values_list("owner_id", flat=True).first()
        return bool(self.owner_id != self._stored_owner)


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
