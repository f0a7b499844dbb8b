"""One webhook signal session for each request, under WSGI and under ASGI."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.functional import LazyObject, empty

from drf_webhooks.origins import DEPTH_HEADER, Origin, read_depth
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

    def get_origin(self, request: HttpRequest) -> Origin:
        """Return where the changes of a request come from; asked when they are stored.

        By then views have authenticated the request. To be extended by a subclass that knows
        behind which endpoint the client is.
        """
        return Origin(
            # Without the query, where secrets are.
            what=f"{request.method} {request.path}",
            user=_user(request),
            depth=read_depth(request.headers.get(DEPTH_HEADER)),
        )

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._call_async(request)
        with webhook_signal_session(origin=partial(self.get_origin, request)):
            response: HttpResponseBase = self.get_response(request)
        return response

    async def _call_async(self, request: HttpRequest) -> HttpResponseBase:
        async with webhook_signal_session(origin=partial(self.get_origin, request)):
            response: HttpResponseBase = await self.get_response(request)
        return response


def _user(request: HttpRequest) -> str:
    """Return the key of the user, if it is known without a query."""
    user = getattr(request, "user", None)
    if isinstance(user, LazyObject) and user.__dict__.get("_wrapped", empty) is empty:
        return ""
    key = getattr(user, "pk", None)
    return "" if key is None else str(key)
