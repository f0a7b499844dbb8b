"""The tables of the outbox, where the half that records and the half that delivers meet."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, ClassVar, Self

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from drf_webhooks import custom_headers, scoping, secret_keys, versions
from drf_webhooks.conf import config
from drf_webhooks.deliveries import Attempt, Delivery, DeliveryQuerySet, EventBody, Feed
from drf_webhooks.encryption import Stored
from drf_webhooks.endpoint_health import EndpointHealth, Notice, Verification
from drf_webhooks.event_rows import BaseObject, Event, EventQuerySet, LearntPath
from drf_webhooks.fields import (
    EventTypesField,
    ExactCharField,
    HeadersField,
    OldSecretsField,
    SealedField,
    SecretField,
)
from drf_webhooks.ids import uuid7
from drf_webhooks.recovery_rows import Recovery, RecoveryQuerySet
from drf_webhooks.scoping import owner_model
from drf_webhooks.validators import (
    validate_format,
    validate_overrides,
    validate_url,
    validate_version,
)

__all__ = [
    "Attempt",
    "BaseObject",
    "Delivery",
    "DeliveryQuerySet",
    "Endpoint",
    "EndpointHealth",
    "EndpointQuerySet",
    "Event",
    "EventBody",
    "EventQuerySet",
    "Feed",
    "LearntPath",
    "Notice",
    "Recovery",
    "RecoveryQuerySet",
    "Verification",
    "owner_model",
]


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
    _stored_version: str | None = None

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
    version = ExactCharField(
        _("version"),
        max_length=versions.LONGEST,
        blank=True,
        default="",
        db_default="",
        validators=[validate_version],
        help_text=_("Of the messages that it gets; by default the one for new endpoints."),
    )
    is_thin = models.BooleanField(
        _("thin messages"),
        default=False,
        db_default=False,
        help_text=_("To be told only which object it is, and to fetch the rest."),
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
        self._pin()
        if self._is_new("secret"):
            secret_keys.validate(self.secret)
        validate_format(self.format)
        if self._is_new("headers"):
            custom_headers.validate(self.headers)
        validate_overrides(self.overrides)
        self._meta.get_field("event_types").get_prep_value(self.event_types)  # type: ignore[union-attr]  # a column
        super().save(*args, **kwargs)
        self._stored_owner = self.__dict__.get("owner_id", _UNKNOWN)
        self._stored_version = self.__dict__.get("version")

    def _pin(self) -> None:
        """Give a new endpoint the version for new ones; refuse one that nothing has."""
        if self._state.adding and not self.version:
            self.version = versions.default()
        elif self.__dict__.get("version") not in {self._stored_version, None}:
            validate_version(self.version)

    @classmethod
    def from_db(
        cls, db: str | None, field_names: Collection[str], values: Collection[Any], **more: Any
    ) -> Self:
        made = super().from_db(db, field_names, values, **more)
        made._stored_owner = made.__dict__.get("owner_id", _UNKNOWN)
        made._stored_version = made.__dict__.get("version")
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

    def clean_fields(self, exclude: Collection[str] | None = None) -> None:
        left = set(exclude or ())
        if not self._state.adding and self.__dict__.get("version") == self._stored_version:
            # It stays, though nothing has it any more.
            left.add("version")
        super().clean_fields(left)

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
