"""One webhook signal session for each request, under WSGI and under ASGI."""

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase

from drf_webhooks.session import webhook_signal_session

__all__ = ["WebhooksMiddleware"]


class WebhooksMiddleware:
    """Say once, when the response exists, what the request has changed.

    Put it last, or at least below whatever opens transactions of its own. What a streamed
    response changes while it is streamed comes after the session: there each transaction is
    its own session.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._call_async(request)
        with webhook_signal_session():
            response: HttpResponseBase = self.get_response(request)
        return response

    async def _call_async(self, request: HttpRequest) -> HttpResponseBase:
        async with webhook_signal_session():
            response: HttpResponseBase = await self.get_response(request)
        return response
