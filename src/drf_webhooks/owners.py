"""All that an owner may see and do: what views are written with, so that no scope is forgotten."""

import uuid
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from typing import Any, Literal

from django.db import transaction
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from rest_framework.exceptions import Throttled
from rest_framework.throttling import SimpleRateThrottle

from drf_webhooks import endpoints, recoveries, replay, rotation, status, verification
from drf_webhooks.conf import config
from drf_webhooks.endpoint_health import Notice, NoticeQuerySet
from drf_webhooks.exceptions import VerificationError
from drf_webhooks.models import (
    Attempt,
    Delivery,
    DeliveryQuerySet,
    Endpoint,
    EndpointQuerySet,
    Event,
    EventQuerySet,
    Recovery,
    RecoveryQuerySet,
)
from drf_webhooks.scoping import owner_key
from drf_webhooks.secret_keys import Signature

__all__ = ["Owned", "ResendThrottle", "TestThrottle"]


class OwnerThrottle(SimpleRateThrottle):
    """So many in a minute for one owner, counted in Django's cache as DRF's throttles count.

    Asked with an owner in place of a request.
    """

    cache_format = "drf_webhooks_throttle_%(scope)s_%(ident)s"

    def get_cache_key(self, request: Any, view: Any) -> str:
        return self.cache_format % {"scope": self.scope, "ident": owner_key(request)}

    def spend(self, owner: Any) -> None:
        """Count one.

        Raises:
            Throttled: there were too many; DRF answers 429, with ``Retry-After``.

        """
        if not self.allow_request(owner, None):  # type: ignore[arg-type]  # what get_cache_key() takes
            raise Throttled(self.wait())


class TestThrottle(OwnerThrottle):
    """Tests of endpoints."""

    scope = "test"

    def get_rate(self) -> str | None:
        most = config().TESTS_PER_MINUTE
        return None if most is None else f"{most}/min"


class ResendThrottle(OwnerThrottle):
    """Deliveries that are sent again, by whatever number."""

    scope = "resend"

    def get_rate(self) -> str | None:
        most = config().RESENDS_PER_MINUTE
        return None if most is None else f"{most}/min"


class Owned:
    """What is an owner's. Of what is somebody else's it knows nothing.

    A key that is not the owner's raises ``DoesNotExist``, as one that nobody has: a view that
    answers it with 404 tells no difference.

    Args:
        owner: An instance of the model that owns endpoints, or its key. ``None``, or an anonymous
            user, owns nothing.
        using: The database.

    """

    def __init__(self, owner: Any, *, using: str = "default") -> None:
        self.owner = owner_key(owner)
        self.using = using

    @property
    def endpoints(self) -> EndpointQuerySet:
        """The owner's endpoints."""
        return Endpoint.objects.using(self.using).owned_by(self.owner)

    @property
    def events(self) -> EventQuerySet:
        """The events of the owner's objects; those for everybody are not among them."""
        return Event.objects.using(self.using).owned_by(self.owner)

    @property
    def deliveries(self) -> DeliveryQuerySet:
        """What the owner's endpoints were sent, since they are its own."""
        return Delivery.objects.using(self.using).owned_by(self.owner)

    @property
    def attempts(self) -> Any:
        """The attempts at these deliveries."""
        return Attempt.objects.using(self.using).owned_by(self.owner)

    @property
    def notices(self) -> NoticeQuerySet:
        """What was said of the owner's endpoints, since they are its own."""
        return Notice.objects.using(self.using).owned_by(self.owner)

    @property
    def recoveries(self) -> RecoveryQuerySet:
        """What the owner has asked to be sent again."""
        return Recovery.objects.using(self.using).owned_by(self.owner)

    def status(self) -> status.Status:
        """How far the owner's deliveries are."""
        return status.read(using=self.using, owner=self.owner)

    def create_endpoint(self, **fields: Any) -> Endpoint:
        """Make an endpoint; with ``ENDPOINT_VERIFIER`` it hears nothing until it is verified.

        Raises:
            ValidationError: a field is wrong, or the owner has too many.
            ValueError: there is no owner.

        """
        if self.owner is None:
            msg = "Nobody cannot own an endpoint. Ask for an owner that is logged in and stored."
            raise ValueError(msg)
        chosen = verification.verifier()
        if chosen is None:
            return endpoints.create(owner=self.owner, using=self.using, **fields)
        with transaction.atomic(using=self.using):
            made = endpoints.create(
                owner=self.owner,
                using=self.using,
                **{**fields, "state": Endpoint.State.DISABLED},
            )
            verification.ask(made, chosen, using=self.using)
        return made

    def change_endpoint(self, endpoint: uuid.UUID, **fields: Any) -> Endpoint:
        """Change some fields of an endpoint.

        With another URL what was counted against it is forgotten, and with
        ``ENDPOINT_VERIFIER`` it has to be verified again.

        Raises:
            ValidationError: a field is wrong.

        """
        found = self.endpoints.get(pk=endpoint)
        before = found.url
        for name, value in fields.items():
            setattr(found, name, value)
        rest = {each.name for each in Endpoint._meta.concrete_fields} - fields.keys()
        found.full_clean(exclude=rest)
        chosen = verification.verifier() if found.url != before else None
        with transaction.atomic(using=self.using):
            # Only these: a worker may have disabled it since it was read.
            found.save(using=self.using, update_fields=[*fields, "updated_at"])
            if found.url != before:
                endpoints.recover(found, using=self.using)
            if chosen is not None:
                verification.ask(found, chosen, using=self.using)
        return found

    def delete_endpoint(self, endpoint: uuid.UUID) -> None:
        """Delete an endpoint, with its deliveries."""
        endpoints.delete(self.endpoints.get(pk=endpoint), using=self.using)

    @sensitive_variables()
    def rotate_secret(
        self,
        endpoint: Endpoint,
        *,
        overlap: timedelta = rotation.OVERLAP,
        signature: Signature | None = None,
    ) -> str:
        """Give an endpoint, as it was read, a new secret, and return it.

        Raises:
            RotationError: it was replaced meanwhile, or too many old ones are valid.

        """
        self._own(endpoint)
        return rotation.rotate_secret(
            endpoint, overlap=overlap, signature=signature, using=self.using
        )

    def revoke_old_secrets(self, endpoint: Endpoint) -> int:
        """End every overlap of an endpoint; return how many old secrets were valid."""
        self._own(endpoint)
        return rotation.revoke_old_secrets(endpoint, using=self.using)

    @sensitive_variables()
    def reveal_secret(self, endpoint: Endpoint, user: Any) -> str:
        """Return the secret of an endpoint, for a user who may see it."""
        self._own(endpoint)
        return rotation.reveal_secret(endpoint, user)

    def _own(self, endpoint: Endpoint) -> None:
        """Refuse an instance of somebody else's."""
        self.endpoints.only("pk").get(pk=endpoint.pk)

    def enable(self, endpoint: uuid.UUID, *, waiting: Literal["resume", "skip"] = "resume") -> bool:
        """Enable an endpoint, and send it a test, which is counted among tests.

        Raises:
            Throttled: there were too many in the last minute.
            VerificationError: it is not verified.

        """
        found = self._verified(endpoint)
        TestThrottle().spend(self.owner)
        return endpoints.enable(found, waiting=waiting, using=self.using)

    def disable(self, endpoint: uuid.UUID, reason: str) -> bool:
        """Disable an endpoint; what waits for it is kept."""
        return endpoints.disable(self.endpoints.get(pk=endpoint), reason, using=self.using)

    def send_test(self, endpoint: uuid.UUID) -> Delivery:
        """Send an endpoint a test.

        Raises:
            Throttled: there were too many in the last minute.
            VerificationError: it is not verified.

        """
        found = self._verified(endpoint)
        TestThrottle().spend(self.owner)
        return endpoints.send_test(found, using=self.using)

    def verify(self, endpoint: uuid.UUID) -> Delivery:
        """Ask an endpoint that is not verified once more; counted among tests.

        Raises:
            Throttled: there were too many in the last minute.
            VerificationError: it is verified, or ``ENDPOINT_VERIFIER`` is not set.

        """
        found, chosen = self.endpoints.get(pk=endpoint), verification.verifier()
        if chosen is None or verification.is_open(found, using=self.using):
            msg = f"Endpoint {found.pk} needs no verification."
            raise VerificationError(msg)
        TestThrottle().spend(self.owner)
        return verification.ask(found, chosen, using=self.using)

    def _verified(self, endpoint: uuid.UUID) -> Endpoint:
        found = self.endpoints.get(pk=endpoint)
        if not verification.is_open(found, using=self.using):
            msg = f"Endpoint {found.pk} is not verified. Nothing is sent to it before it is."
            raise VerificationError(msg)
        return found

    def send_again(self, deliveries: Collection[int], *, is_anew: bool = False) -> int:
        """Send deliveries again; return how many. Those of others are left alone.

        Raises:
            Throttled: it was asked for too often in the last minute.

        """
        pks = list(self.deliveries.filter(pk__in=deliveries).values_list("pk", flat=True))
        if not pks:
            return 0
        ResendThrottle().spend(self.owner)
        return replay.replay_chosen(pks, using=self.using, is_anew=is_anew).replayed

    def cancel(self, delivery: int, reason: str) -> bool:
        """Let a delivery be dead; return ``False`` if it does not wait any more."""
        found = self.deliveries.get(pk=delivery)
        waiting = Delivery.objects.using(self.using).filter(pk=found.pk)
        return bool(waiting.give_up(reason, now=timezone.now()))

    def recover(
        self,
        kind: Literal["failed", "missing"],
        *,
        since: datetime,
        until: datetime | None = None,
        endpoint: uuid.UUID | None = None,
        is_anew: bool = False,
    ) -> Recovery:
        """Have workers send again what died, or what an endpoint would have heard.

        Raises:
            RecoveryError: too many are not over.
            Throttled: it was asked for too often in the last minute.

        """
        if endpoint is not None:
            self.endpoints.only("pk").get(pk=endpoint)
        ResendThrottle().spend(self.owner)
        within = replay.span(since, using=self.using)
        if until is not None:
            within = replay.Span(since, min(until, within.until))
        return recoveries.ask(
            kind,
            owner=self.owner,
            within=within,
            endpoint=endpoint,
            is_anew=is_anew,
            using=self.using,
        )

    def cancel_recovery(self, recovery: uuid.UUID) -> bool:
        """End a recovery where it is; return ``False`` if it was over."""
        return recoveries.cancel(self.recoveries.get(pk=recovery).pk, using=self.using)

    def replay_failed(self, within: replay.Span, *, is_anew: bool = False) -> Iterator[replay.Lot]:
        """Send again what died; see :func:`drf_webhooks.replay.replay_failed`.

        Raises:
            Throttled: it was asked for too often in the last minute.

        """
        ResendThrottle().spend(self.owner)
        return replay.replay_failed(
            within, using=self.using, deliveries=self.deliveries, is_anew=is_anew
        )

    def replay_missing(
        self, endpoint: uuid.UUID, within: replay.Span, *, is_anew: bool = False
    ) -> Iterator[replay.Lot]:
        """Send what an endpoint would have heard; see :func:`drf_webhooks.replay.replay_missing`.

        Raises:
            Throttled: it was asked for too often in the last minute.

        """
        found = self.endpoints.get(pk=endpoint)
        ResendThrottle().spend(self.owner)
        return replay.replay_missing(found, within, using=self.using, is_anew=is_anew)
