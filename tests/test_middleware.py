"""A session for each request, sync and async."""

from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.test import AsyncRequestFactory, RequestFactory

from drf_webhooks.middleware import WebhooksMiddleware
from drf_webhooks.models import Endpoint
from drf_webhooks.session import current_session, disable_webhooks
from tests.factories import make_deposit
from tests.loops import run
from tests.test_session import names

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_request_says_once_what_it_changed(everything: Endpoint) -> None:
    with disable_webhooks():
        deposit = make_deposit()

    def view(_: HttpRequest) -> HttpResponse:
        deposit.save()
        deposit.save()
        assert names() == []
        return HttpResponse("done")

    response: Any = WebhooksMiddleware(view)(RequestFactory().get("/"))

    assert response.content == b"done"
    assert names() == ["updated"]


def test_an_async_request_stays_async(everything: Endpoint) -> None:
    with disable_webhooks():
        deposit = make_deposit()
    seen = []

    async def view(_: HttpRequest) -> HttpResponse:
        seen.append(current_session())
        await deposit.asave()
        await deposit.asave()
        return HttpResponse("done")

    middleware: Any = WebhooksMiddleware(view)
    assert iscoroutinefunction(middleware)
    run(middleware(AsyncRequestFactory().get("/")))

    assert seen[0] is not None
    assert current_session() is None
    assert names() == ["updated"]
