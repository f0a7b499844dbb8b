"""Keep the trace of a change with its event, and make each attempt a span of it."""

import dataclasses
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from drf_webhooks import trace_context
from drf_webhooks.delivery import observing
from drf_webhooks.delivery.leases import Leased
from drf_webhooks.delivery.observing import Attempt
from drf_webhooks.delivery.results import Result
from drf_webhooks.models import Delivery

__all__ = ["install", "uninstall"]

# W3C's, whatever the process sends elsewhere: it is what the column and the header hold.
_PROPAGATOR = TraceContextTextMapPropagator()


def install() -> None:
    """Trace from now on, with whatever provider of tracers the project has set."""
    trace_context.install(current)
    observing.install(observe)


def uninstall() -> None:
    """Do nothing any more."""
    trace_context.install(None)
    observing.install(None)


def current() -> str:
    """Return the ``traceparent`` of the span that is current, or an empty text."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent", "")


async def observe(leased: Leased, attempt: Attempt) -> Result:
    """Make an attempt within a span of its own, which the receiver may go on with."""
    parent = _PROPAGATOR.extract({"traceparent": leased.traceparent})
    tracer = trace.get_tracer("drf_webhooks")
    with tracer.start_as_current_span(
        "webhook attempt",
        context=parent,
        kind=SpanKind.CLIENT,
        # No path and no query: they are where secrets are.
        attributes={
            "http.request.method": leased.to.method,
            "server.address": urlsplit(leased.to.url).hostname or "",
            "messaging.message.id": leased.message_id,
            "drf_webhooks.delivery": leased.delivery,
            "drf_webhooks.endpoint": str(leased.endpoint),
            "drf_webhooks.attempt": leased.attempt_count + 1,
        },
    ) as span:
        result = await attempt(
            dataclasses.replace(leased, traceparent=current() or leased.traceparent)
        )
        span.set_attributes(
            {} if result.status is None else {"http.response.status_code": result.status}
        )
        if result.state != Delivery.State.DELIVERED:
            span.set_attribute("error.type", result.error or str(result.status or "refused"))
            span.set_status(Status(StatusCode.ERROR, result.reason or result.detail))
        return result
