"""Send one message to an endpoint at once, to see what comes of it: nothing is stored."""

from datetime import timedelta

from drf_webhooks.conf import Config
from drf_webhooks.delivery.health_rows import Standing
from drf_webhooks.delivery.leases import Leased, Recipient
from drf_webhooks.delivery.results import Result
from drf_webhooks.delivery.sender import attempt
from drf_webhooks.delivery.transport import AiohttpTransport
from drf_webhooks.encryption import Stored
from drf_webhooks.fields import SealedField
from drf_webhooks.models import Endpoint

__all__ = ["probe"]


async def probe(
    endpoint: Endpoint, *, message_id: str, object_key: str, body: bytes, settings: Config
) -> Result:
    """Make one attempt, signed and bounded as every other; whatever the endpoint's state."""
    leased = Leased(
        delivery=0,
        fence=0,
        attempt_count=0,
        age=timedelta(0),
        message_id=message_id,
        body=body,
        has_body=True,
        object_key=object_key,
        endpoint=endpoint.pk,
        to=Recipient(
            url=endpoint.url,
            method=endpoint.method,
            format=endpoint.format,
            headers=_stored(endpoint, "headers"),
            secret=_stored(endpoint, "secret"),
            old_secrets=_stored(endpoint, "old_secrets"),
            owner=endpoint.owner_id,
        ),
        event_owner=None,
        standing=Standing(),
    )
    async with AiohttpTransport(settings) as transport:
        return await attempt(leased, transport, settings)


def _stored(endpoint: Endpoint, name: str) -> Stored:
    field = endpoint._meta.get_field(name)
    assert isinstance(field, SealedField)  # noqa: S101  # for the types only
    return field.stored(endpoint)
