"""What the tests of the API share."""

from collections.abc import Iterator

import pytest
from django.core.cache import cache
from rest_framework.test import APIClient

from tests.app.models import User
from tests.factories import make_user


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Limits are counted in the cache."""
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def ada(db: None) -> User:
    return make_user(username="ada")


@pytest.fixture
def client(ada: User) -> APIClient:
    """A client of ada's, that gets exceptions as a server would answer them."""
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(ada)
    return client
