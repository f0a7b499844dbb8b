"""What every test may rely on."""

import pytest

from drf_webhooks.models import Endpoint


@pytest.fixture
def everything(db: None) -> Endpoint:
    """An endpoint that subscribes to everything."""
    del db
    return Endpoint.objects.create(url="https://receiver.example/", event_types=["*"])
