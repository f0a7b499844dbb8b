"""Two owners with everything that the library keeps of one, and what must not meet."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.utils import timezone

from drf_webhooks.models import Attempt, Delivery, Endpoint, EndpointHealth, Event, Notice
from drf_webhooks.owners import Owned
from tests.app.models import Document, User
from tests.factories import make_user

TABLES = (Endpoint, Event, Delivery, Attempt, Notice, EndpointHealth)


@dataclass(frozen=True)
class Part:
    """What one owner has."""

    owner: User | None
    endpoint: Endpoint
    event: Event
    delivery: Delivery
    attempt: Attempt
    notice: Notice

    @property
    def owned(self) -> Owned:
        return Owned(self.owner)

    @property
    def ids(self) -> list[Any]:
        rows = (self.endpoint, self.event, self.delivery, self.attempt, self.notice)
        return [each.pk for each in rows]


def make_part(name: str | None, **fields: Any) -> Part:
    """An owner, whose endpoint has failed to take an event."""
    owner = make_user(username=name) if name else None
    endpoint = Endpoint.objects.create(
        owner=owner, url=f"https://{name}.example/", event_types=["*"], **fields
    )
    now = timezone.now() - timedelta(hours=1)
    event = Event.objects.create(
        type="core.document.created",
        resource="core.document",
        object_key=f'"{name}"',
        sequence=1,
        owner=owner,
        body=b'{"data": 1}',
        created_at=now,
    )
    delivery = Delivery.objects.create(
        event=event, endpoint=endpoint, state="dead", created_at=now, settled_at=now
    )
    attempt = Attempt.objects.create(
        delivery=delivery, number=1, started_at=now, duration=timedelta(0), url=endpoint.url
    )
    notice = Notice.objects.create(endpoint=endpoint, kind="failing", created_at=now, due_at=now)
    return Part(owner, endpoint, event, delivery, attempt, notice)


def make_document(part: Part) -> Document:
    return Document.objects.create(title="Lease", user=part.owner)


def everything_of(part: Part) -> list[Any]:
    """Return each column of each row of an owner."""
    paths = {
        Endpoint: "owner",
        Event: "owner",
        Delivery: "endpoint__owner",
        Attempt: "delivery__endpoint__owner",
        Notice: "endpoint__owner",
        EndpointHealth: "endpoint__owner",
    }
    return [
        list(model._base_manager.filter(**{paths[model]: part.owner}).order_by("pk").values())
        for model in TABLES
    ]
