"""Traces: from the request that changed something to each attempt, and on to the receiver."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings
from django.utils import timezone
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from drf_webhooks import pipeline
from drf_webhooks.contrib.opentelemetry import spans
from drf_webhooks.models import Delivery, Endpoint, Event
from drf_webhooks.resources import ModelSerializerWebhook
from drf_webhooks.session import disable_webhooks, webhook_signal_session
from drf_webhooks.testing import WebhookReceiver, deliver_now, isolated_registry
from tests.app.models import Deposit, Tenant
from tests.app.serializers import DepositSerializer
from tests.factories import make_deposit

pytestmark = pytest.mark.django_db(transaction=True)

_exporter = InMemorySpanExporter()


@pytest.fixture(scope="module", autouse=True)
def _provider() -> None:
    """A process has one provider, and sets it once."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(_exporter))
    trace.set_tracer_provider(provider)


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    with override_settings(
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "drf_webhooks",
            "drf_webhooks.contrib.opentelemetry",
            "tests.app",
            "tests.bookshop",
        ]
    ):
        _exporter.clear()
        yield _exporter
    spans.uninstall()


@pytest.fixture
def tenant() -> Tenant:
    with disable_webhooks():
        return make_deposit().tenant


def request() -> Any:
    """The span of a request, as the project's own instrumentation makes it."""
    return trace.get_tracer("project").start_as_current_span("request")


def attempts(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    return [each for each in exporter.get_finished_spans() if each.name == "webhook attempt"]


def header_of(span: ReadableSpan) -> str:
    context = span.get_span_context()
    assert context is not None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def test_an_attempt_is_part_of_the_trace_of_the_change(
    exporter: InMemorySpanExporter, tenant: Tenant
) -> None:
    with WebhookReceiver() as receiver:
        receiver.respond(500, times=1)
        endpoint = Endpoint.objects.create(url=f"{receiver.url}?key=s3", event_types=["*"])
        with request() as changed:
            Deposit.objects.create(tenant=tenant)
        deliver_now()
        Delivery.objects.update(due_at=timezone.now() - timedelta(days=1))
        deliver_now()

    first, second = attempts(exporter)
    for span, received in zip((first, second), receiver.requests, strict=True):
        assert span.context is not None
        assert span.parent is not None
        assert span.context.trace_id == changed.get_span_context().trace_id
        assert span.parent.span_id == changed.get_span_context().span_id
        # The receiver goes on with the span of the attempt.
        assert received.headers["traceparent"] == header_of(span)
    assert (first.status.status_code, second.status.status_code) == (
        StatusCode.ERROR,
        StatusCode.UNSET,
    )
    assert first.kind is SpanKind.CLIENT
    assert dict(first.attributes or {}) == {
        "http.request.method": "POST",
        "server.address": "127.0.0.1",
        "messaging.message.id": receiver.requests[0].headers["webhook-id"],
        "drf_webhooks.delivery": Delivery.objects.get().pk,
        "drf_webhooks.endpoint": str(endpoint.pk),
        "drf_webhooks.attempt": 1,
        "http.response.status_code": 500,
        "error.type": "500",
    }


def test_an_attempt_without_an_answer_says_why(
    exporter: InMemorySpanExporter, tenant: Tenant
) -> None:
    with WebhookReceiver() as gone:
        url = gone.url
    Endpoint.objects.create(url=url, event_types=["*"])
    Deposit.objects.create(tenant=tenant)
    deliver_now()

    (span,) = attempts(exporter)
    assert span.parent is None
    assert dict(span.attributes or {})["error.type"] == "connection_refused"


@pytest.mark.parametrize("how", ["held", "deferred"])
def test_what_a_worker_serializes_keeps_the_trace_of_the_change(
    exporter: InMemorySpanExporter, tenant: Tenant, how: str
) -> None:
    Endpoint.objects.create(url="https://a.example/", event_types=["*"])
    with isolated_registry():

        class Webhook(ModelSerializerWebhook):
            serializer_class = DepositSerializer
            serialize = "deferred" if how == "deferred" else "snapshot"

        with request() as changed, webhook_signal_session():
            Deposit.objects.create(tenant=tenant)
            if how == "held":
                # As a worker does for a process that died.
                Event.objects.update(held_until=timezone.now() - timedelta(days=1))
                trace_of_the_worker = trace.get_tracer("worker").start_span("other")
                with trace.use_span(trace_of_the_worker):
                    pipeline.release_due()
        pipeline.release_due()

    event = Event.objects.get()
    assert event.body is not None
    assert event.traceparent.split("-")[1] == f"{changed.get_span_context().trace_id:032x}"
    assert event.traceparent.split("-")[2] == f"{changed.get_span_context().span_id:016x}"


def test_without_the_app_there_is_no_trace(tenant: Tenant) -> None:
    with WebhookReceiver() as receiver:
        Endpoint.objects.create(url=receiver.url, event_types=["*"])
        with request():
            Deposit.objects.create(tenant=tenant)
        deliver_now()

    assert Event.objects.get().traceparent == ""
    assert "traceparent" not in receiver.requests[0].headers


def test_a_trace_goes_on_although_nobody_is_installed_where_it_is_sent(
    exporter: InMemorySpanExporter, tenant: Tenant
) -> None:
    with WebhookReceiver() as receiver:
        Endpoint.objects.create(url=receiver.url, event_types=["*"])
        with request():
            Deposit.objects.create(tenant=tenant)
        spans.uninstall()
        deliver_now()

    assert receiver.requests[0].headers["traceparent"] == Event.objects.get().traceparent != ""
