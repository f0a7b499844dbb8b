"""A tenant without deposits, and somebody who listens: what tests of engines start from."""

from collections.abc import Iterator

import pytest

from drf_webhooks.models import Endpoint
from drf_webhooks.session import disable_webhooks
from drf_webhooks.testing import WebhookReceiver
from tests.app.models import Deposit, Tenant
from tests.factories import make_deposit


@pytest.fixture
def tenant(transactional_db: None) -> Tenant:
    with disable_webhooks():
        deposit = make_deposit()
        Deposit.objects.all().delete()
    return deposit.tenant


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as receiver:
        yield receiver


@pytest.fixture
def endpoint(tenant: Tenant, receiver: WebhookReceiver) -> Endpoint:
    return Endpoint.objects.create(url=receiver.url, event_types=["core.deposit.*"])
