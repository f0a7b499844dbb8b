"""How deliveries, attempts, messages, recoveries and the status look in the API."""

import uuid
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.utils import timezone
from rest_framework import serializers

from drf_webhooks.api.filters import MomentField
from drf_webhooks.api.serializers import StateField
from drf_webhooks.conf import config
from drf_webhooks.delivery.failures import ERRORS
from drf_webhooks.delivery.formats import Message, format_named, source
from drf_webhooks.endpoint_urls import EndpointURLError, parse
from drf_webhooks.exceptions import FormatError
from drf_webhooks.models import Attempt, Delivery, Event, Recovery

__all__ = [
    "AttemptDetailSerializer",
    "AttemptSerializer",
    "CancelSerializer",
    "DeliveryDetailSerializer",
    "DeliverySerializer",
    "MessageSerializer",
    "RecoverySerializer",
    "ResendSerializer",
    "StatusSerializer",
    "shows_answer",
]

_SHOWN_CHARACTERS = 20_000


def text_of(data: bytes | memoryview | None) -> str | None:
    """Return bytes as text: cut to what a page can bear, without what a terminal would obey."""
    if data is None:
        return None
    # Each character takes four bytes at most.
    text = bytes(data[: 4 * _SHOWN_CHARACTERS]).decode(errors="replace")[:_SHOWN_CHARACTERS]
    return "".join(each if each.isprintable() or each in "\t\n\r" else "\ufffd" for each in text)


def shows_answer(attempt: Attempt) -> bool:
    """Tell whether an owner may see what a receiver answered, besides the status."""
    rule = config().SHOW_ANSWERS
    return rule == "all" or (rule == "public" and attempt.is_public is True)


class RetiredField(serializers.DateTimeField):
    """Since when a message is not kept any more."""

    def __init__(self, **more: Any) -> None:
        text = "Since when the message is not kept any more; null while it is."
        given = {"source": "event.retired_at", "read_only": True, "allow_null": True}
        super().__init__(**{**given, "help_text": text, **more})


class DeliverySerializer(serializers.ModelSerializer[Delivery]):
    """A delivery, and what its event says of itself."""

    webhook_id = serializers.CharField(source="event.message_id", read_only=True)
    event_type = serializers.CharField(source="event.type", read_only=True)
    resource = serializers.CharField(source="event.resource", read_only=True)
    object_key = serializers.CharField(
        source="event.object_key", read_only=True, help_text="The primary key as JSON."
    )
    sequence = serializers.IntegerField(source="event.sequence", read_only=True, allow_null=True)
    state = StateField(Delivery.State)
    next_attempt_at = serializers.DateTimeField(
        source="due_at", read_only=True, allow_null=True, help_text="Past: as soon as can be."
    )
    replaced_by = serializers.SerializerMethodField(
        help_text="The webhook_id of the event that says the same anew."
    )

    class Meta:
        model = Delivery
        fields: ClassVar = [
            "id",
            "endpoint",
            "webhook_id",
            "event_type",
            "resource",
            "object_key",
            "sequence",
            "state",
            "reason",
            "attempt_count",
            "next_attempt_at",
            "created_at",
            "settled_at",
            "replaced_by",
        ]
        read_only_fields = fields

    def get_replaced_by(self, delivery: Delivery) -> str | None:
        return None if delivery.replaced_by is None else Event.message_id_of(delivery.replaced_by)


class DeliveryDetailSerializer(DeliverySerializer):
    """A delivery with its message."""

    body = serializers.SerializerMethodField(
        help_text="The message as it is stored; null when it is not kept any more."
    )

    retired_at = RetiredField()

    class Meta(DeliverySerializer.Meta):
        fields: ClassVar = [*DeliverySerializer.Meta.fields, "body", "retired_at"]
        read_only_fields = fields

    def get_body(self, delivery: Delivery) -> str | None:
        return text_of(delivery.body)


class ResendSerializer(DeliverySerializer):
    """Whether to say it anew, and the delivery."""

    anew = serializers.BooleanField(
        write_only=True,
        default=False,
        help_text="Say a new event of the object as it is now, instead of the same message.",
    )

    class Meta:
        model = Delivery
        fields: ClassVar = [*DeliverySerializer.Meta.fields, "anew"]
        read_only_fields: ClassVar = DeliverySerializer.Meta.fields


class CancelSerializer(DeliverySerializer):
    """Why it is not to be sent, and the delivery."""

    because = serializers.CharField(
        write_only=True, required=False, max_length=200, default="Cancelled by its owner."
    )

    class Meta:
        model = Delivery
        fields: ClassVar = [*DeliverySerializer.Meta.fields, "because"]
        read_only_fields: ClassVar = DeliverySerializer.Meta.fields


class MillisecondsField(serializers.FloatField):
    """A duration."""

    def to_representation(self, value: Any) -> Any:
        length: timedelta = value
        return length / timedelta(milliseconds=1)


class AttemptSerializer(serializers.ModelSerializer[Attempt]):
    """An attempt, without what was sent and answered."""

    duration_ms = MillisecondsField(source="duration", read_only=True)
    looked_up_in_ms = MillisecondsField(source="looked_up_in", read_only=True, allow_null=True)
    connected_in_ms = MillisecondsField(source="connected_in", read_only=True, allow_null=True)
    answered_in_ms = MillisecondsField(source="answered_in", read_only=True, allow_null=True)
    meaning = serializers.SerializerMethodField(help_text="What the error means.")
    detail = serializers.SerializerMethodField()

    class Meta:
        model = Attempt
        fields: ClassVar = [
            "id",
            "delivery",
            "number",
            "started_at",
            "duration_ms",
            "looked_up_in_ms",
            "connected_in_ms",
            "answered_in_ms",
            "url",
            "status",
            "error",
            "meaning",
            "detail",
        ]
        read_only_fields = fields

    def get_meaning(self, attempt: Attempt) -> str:
        kind = ERRORS.get(attempt.error)
        return "" if kind is None else kind.meaning

    def get_detail(self, attempt: Attempt) -> str:
        # The address that a name of the own network has is nobody's business.
        is_telling = attempt.error == "destination_refused" and _has_name(attempt.url)
        return "" if is_telling and config().SHOW_ANSWERS != "all" else attempt.detail


def _has_name(url: str) -> bool:
    try:
        return parse(url).address is None
    except EndpointURLError:
        return False


class PairSerializer(serializers.Serializer[Any]):
    """A header of a request or of an answer."""

    name = serializers.CharField(read_only=True)
    value = serializers.CharField(read_only=True)


class AttemptDetailSerializer(AttemptSerializer):
    """An attempt, with what was sent and what came back, as text."""

    request_body = serializers.SerializerMethodField(
        help_text="The message as it is stored; null when it is not kept any more."
    )
    is_answer_shown = serializers.SerializerMethodField(
        help_text="Answers from the provider's own network are not."
    )
    response_headers = serializers.SerializerMethodField()
    response_body = serializers.SerializerMethodField()
    response_end = StateField(Attempt.End)

    class Meta(AttemptSerializer.Meta):
        fields: ClassVar = [
            *AttemptSerializer.Meta.fields,
            "request_body",
            "is_answer_shown",
            "response_headers",
            "response_body",
            "response_end",
        ]
        read_only_fields = fields

    def get_request_body(self, attempt: Attempt) -> str | None:
        return text_of(attempt.delivery.body)

    def get_is_answer_shown(self, attempt: Attempt) -> bool:
        return shows_answer(attempt)

    def get_response_headers(self, attempt: Attempt) -> list[dict[str, str]]:
        if not shows_answer(attempt):
            return []
        return [
            {"name": f"{name}", "value": text_of(f"{value}".encode()) or ""}
            for name, value in attempt.response_headers
        ]

    def get_response_body(self, attempt: Attempt) -> str | None:
        return text_of(attempt.response_body) if shows_answer(attempt) else None


class MessageSerializer(serializers.ModelSerializer[Delivery]):
    """A message in the feed of an endpoint."""

    position = serializers.IntegerField(read_only=True)
    webhook_id = serializers.CharField(source="event.message_id", read_only=True)
    event_type = serializers.CharField(source="event.type", read_only=True)
    object_key = serializers.CharField(source="event.object_key", read_only=True)
    sequence = serializers.IntegerField(source="event.sequence", read_only=True, allow_null=True)
    state = StateField(Delivery.State)
    created_at = serializers.DateTimeField(source="event.created_at", read_only=True)
    delivery = serializers.IntegerField(source="pk", read_only=True)
    content_type = serializers.SerializerMethodField()
    body = serializers.SerializerMethodField(
        help_text="Exactly what was sent, or would be; null when it is not kept any more."
    )
    retired_at = RetiredField()

    class Meta:
        model = Delivery
        fields: ClassVar = [
            "position",
            "webhook_id",
            "event_type",
            "object_key",
            "sequence",
            "created_at",
            "delivery",
            "state",
            "content_type",
            "body",
            "retired_at",
        ]
        read_only_fields = fields

    def get_content_type(self, delivery: Delivery) -> str | None:
        try:
            return format_named(self.context["endpoint"].format, config()).content_type
        except FormatError:
            return None

    def get_body(self, delivery: Delivery) -> str | None:
        event, body, settings = delivery.event, delivery.body, config()
        if body is None:
            return None
        message = Message(event.message_id, event.object_key, body, source(settings))
        try:
            return format_named(self.context["endpoint"].format, settings).write(message).decode()
        except (FormatError, UnicodeDecodeError):
            return None


class OwnEndpointField(serializers.PrimaryKeyRelatedField[Any]):
    """The key of an endpoint of the owner's."""

    def get_queryset(self) -> Any:
        return self.context["view"].owned.endpoints


class RecoverySerializer(serializers.ModelSerializer[Recovery]):
    """Something that was asked to be sent again, and how far that is."""

    endpoint = OwnEndpointField(
        pk_field=serializers.UUIDField(),
        queryset=Recovery.objects.none(),
        required=False,
        allow_null=True,
        help_text="One of the owner's; without it all of them. Needed for kind=missing.",
    )
    state = StateField(Recovery.State)
    since = MomentField(help_text="Failed: since when deliveries died; missing: events were made.")
    until = MomentField(required=False, help_text="By default, and at the latest, now.")
    anew = serializers.BooleanField(
        source="is_anew",
        default=False,
        help_text="Say new events of the objects as they are now, instead of the same messages.",
    )

    class Meta:
        model = Recovery
        fields: ClassVar = [
            "id",
            "kind",
            "endpoint",
            "since",
            "until",
            "anew",
            "state",
            "expected",
            "looked_at",
            "replayed",
            "error",
            "created_at",
            "started_at",
            "ended_at",
        ]
        read_only_fields: ClassVar = [
            "expected",
            "looked_at",
            "replayed",
            "error",
            "created_at",
            "started_at",
            "ended_at",
        ]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["kind"] == Recovery.Kind.MISSING and attrs.get("endpoint") is None:
            msg = "Say which endpoint has missed something."
            raise serializers.ValidationError({"endpoint": msg})
        until: datetime = attrs.setdefault("until", timezone.now())
        if attrs["since"] >= until:
            msg = "It must be before until, and in the past."
            raise serializers.ValidationError({"since": msg})
        return attrs

    def create(self, validated_data: dict[str, Any]) -> Recovery:
        endpoint = validated_data.pop("endpoint", None)
        key: uuid.UUID | None = None if endpoint is None else endpoint.pk
        made: Recovery = self.context["view"].owned.recover(endpoint=key, **validated_data)
        return made


class NumberSerializer(serializers.Serializer[Any]):
    """So many; or at least so many."""

    value = serializers.IntegerField(read_only=True)
    is_least = serializers.BooleanField(read_only=True)


class RateSerializer(serializers.Serializer[Any]):
    """Attempts of a time."""

    per_second = serializers.FloatField(read_only=True)
    failed_per_second = serializers.FloatField(read_only=True)
    is_estimate = serializers.BooleanField(read_only=True)


class BehindSerializer(serializers.Serializer[Any]):
    """An endpoint whose deliveries are due."""

    endpoint = serializers.UUIDField(read_only=True)
    url = serializers.CharField(read_only=True)
    state = serializers.CharField(read_only=True)
    due = serializers.IntegerField(read_only=True)
    failing = serializers.IntegerField(read_only=True)
    oldest_due_at = serializers.DateTimeField(read_only=True)


class StatusSerializer(serializers.Serializer[Any]):
    """How far the owner's deliveries are."""

    waiting = NumberSerializer(source="backlog.waiting", read_only=True)
    failing = NumberSerializer(source="backlog.failing", read_only=True)
    oldest_due_at = serializers.DateTimeField(
        source="backlog.oldest_due_at", read_only=True, allow_null=True
    )
    endpoints = serializers.DictField(child=serializers.IntegerField(), read_only=True)
    dead = NumberSerializer(read_only=True)
    dead_last_hour = NumberSerializer(read_only=True)
    last_minute = RateSerializer(read_only=True)
    last_hour = RateSerializer(read_only=True)
    behind = BehindSerializer(many=True, read_only=True)
