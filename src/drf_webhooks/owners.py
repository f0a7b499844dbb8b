"""All that an owner may see and do: what views are written with, so that no scope is forgotten."""

import uuid
from collections.abc import Collection, Iterator
from typing import Any, Literal

from rest_framework.exceptions import Throttled
from rest_framework.throttling import SimpleRateThrottle

from drf_webhooks import endpoints, replay, status
from drf_webhooks.conf import config
from drf_webhooks.endpoint_health import Notice, NoticeQuerySet
from drf_webhooks.models import (
    Attempt,
    Delivery,
    DeliveryQuerySet,
    Endpoint,
    EndpointQuerySet,
    Event,
    EventQuerySet,
)
from drf_webhooks.scoping import owner_key

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

    def status(self) -> status.Status:
        """How far the owner's deliveries are."""
        return status.read(using=self.using, owner=self.owner)

    def create_endpoint(self, **fields: Any) -> Endpoint:
        """Make an endpoint.

        Raises:
            ValidationError: a field is wrong, or the owner has too many.
            ValueError: there is no owner.

        """
        if self.owner is None:
            msg = "Nobody cannot own an endpoint. Ask for an owner that is logged in and stored."
            raise ValueError(msg)
        return endpoints.create(owner=self.owner, using=self.using, **fields)

    def enable(self, endpoint: uuid.UUID, *, waiting: Literal["resume", "skip"] = "resume") -> bool:
        """Enable an endpoint, and send it a test, which is counted among tests."""
        found = self.endpoints.get(pk=endpoint)
        TestThrottle().spend(self.owner)
        return endpoints.enable(found, waiting=waiting, using=self.using)

    def disable(self, endpoint: uuid.UUID, reason: str) -> bool:
        """Disable an endpoint; what waits for it is kept."""
        return endpoints.disable(self.endpoints.get(pk=endpoint), reason, using=self.using)

    def send_test(self, endpoint: uuid.UUID) -> Delivery:
        """Send an endpoint a test.

        Raises:
            Throttled: there were too many in the last minute.

        """
        found = self.endpoints.get(pk=endpoint)
        TestThrottle().spend(self.owner)
        return endpoints.send_test(found, using=self.using)

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
