"""How endpoints look in the API. A secret is shown by who has just made it, and never again."""

from collections.abc import Iterable
from typing import Any, ClassVar

from django.db.models import Choices
from rest_framework import serializers
from rest_framework.fields import iter_options

from drf_webhooks import secret_keys, versions
from drf_webhooks.conf import config
from drf_webhooks.custom_headers import MASK
from drf_webhooks.delivery.formats import problem
from drf_webhooks.event_types import OPERATIONAL, is_pattern, patterns, refusal
from drf_webhooks.exceptions import SecretError
from drf_webhooks.models import Endpoint, EndpointHealth, Verification
from drf_webhooks.registry import registered_event_types
from drf_webhooks.rotation import LONGEST_OVERLAP, OVERLAP
from drf_webhooks.validators import validate_version

__all__ = [
    "DisableSerializer",
    "EnableSerializer",
    "EndpointSerializer",
    "EventTypeSerializer",
    "EventTypesField",
    "HealthSerializer",
    "NothingSerializer",
    "PinnedSerializer",
    "RevealSerializer",
    "RevokeSerializer",
    "RotateSerializer",
    "StateField",
    "VerificationSerializer",
]

_MOST_TYPES = 100
_LONGEST_TYPE = 200
_SIGNATURES = [("v1", "HMAC"), ("v1a", "ed25519")]


class StateField(serializers.CharField):
    """A state, to read. No choice in schemas: clients made today must bear states of tomorrow."""

    def __init__(self, states: type[Choices], **more: Any) -> None:
        *rest, last = states.values
        named = f"{', '.join(rest)} or {last}"
        super().__init__(**{"read_only": True, "help_text": named, **more})
        self.states = states

    def __deepcopy__(self, memo: Any) -> "StateField":
        return StateField(self.states)


class VersionField(serializers.CharField):
    """A version of payloads. Choices for people; none in schemas, as for states."""

    def __init__(self, **more: Any) -> None:
        text = "Of the messages that it gets; by default the one for new endpoints."
        given = {"required": False, "allow_blank": True, "max_length": versions.LONGEST}
        super().__init__(**{**given, "help_text": text, **more})

    @property
    def choices(self) -> dict[str, str]:
        """What ``OPTIONS`` says."""
        return {each: each for each in versions.known()}

    def to_internal_value(self, data: Any) -> str:
        version: str = super().to_internal_value(data)
        endpoint = getattr(self.parent, "instance", None)
        # What an endpoint has may be written back, though nothing has that version any more.
        if version != getattr(endpoint, "version", ""):
            validate_version(version)
        return version


class EventTypesField(serializers.ListField):
    """Event types, and patterns of them. A list has no input in DRF's forms; this one has."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**{"style": {"base_template": "select_multiple.html"}, **more})

    def iter_options(self) -> Iterable[Any]:
        """Return what a form offers: whatever would not be refused."""
        parent: Any = self.parent
        offered = {each for kind in parent.known_event_types() for each in patterns(kind)}
        return iter_options({each: each for each in sorted(offered)})


class NothingSerializer(serializers.Serializer[Any]):
    """A request without a body."""


class HeaderSerializer(serializers.Serializer[Any]):
    """A custom header. A list of these, and no dict: renderers and parsers may change keys."""

    name = serializers.CharField(max_length=100)
    value = serializers.CharField(
        max_length=4096,
        trim_whitespace=False,
        help_text=f"Never shown again: {MASK} stands for it, and written back leaves it as it is.",
    )


class HealthSerializer(serializers.ModelSerializer[EndpointHealth]):
    """What is counted against an endpoint that has failed."""

    class Meta:
        model = EndpointHealth
        fields: ClassVar = ["is_clean", "failures", "failing_since", "failed_at", "paused_until"]
        read_only_fields = fields


class VerificationSerializer(serializers.ModelSerializer[Verification]):
    """Whether an endpoint has shown that it wants webhooks."""

    state = StateField(Verification.State)

    class Meta:
        model = Verification
        fields: ClassVar = ["state", "error", "asked_at", "settled_at"]
        read_only_fields = fields


class EndpointSerializer(serializers.ModelSerializer[Endpoint]):
    """An endpoint of the owner. What limits it is left to operators, and to subclasses of this."""

    event_types = EventTypesField(
        child=serializers.CharField(max_length=_LONGEST_TYPE),
        min_length=1,
        max_length=_MOST_TYPES,
        help_text="Like core.deposit.created, core.deposit.* or *.",
    )
    state = StateField(Endpoint.State)
    headers = HeaderSerializer(many=True, required=False)
    version = VersionField()
    secret = serializers.CharField(
        required=False,
        allow_null=True,
        max_length=255,
        validators=[secret_keys.validate],
        help_text="Shown once, when it is made. May be given for endpoints that move here.",
    )
    signature = serializers.ChoiceField(
        _SIGNATURES, required=False, help_text="How messages are signed, by a secret that is made."
    )
    public_key = serializers.SerializerMethodField(
        help_text="What the receiver verifies with, if the signature is v1a."
    )
    health = HealthSerializer(read_only=True, allow_null=True)
    verification = VerificationSerializer(read_only=True, allow_null=True)

    #: The key of the endpoint whose secret is shown.
    made: Any = None

    class Meta:
        model = Endpoint
        fields: ClassVar = [
            "id",
            "url",
            "event_types",
            "description",
            "state",
            "disabled_reason",
            "method",
            "format",
            "version",
            "is_thin",
            "headers",
            "ordering",
            "on_dead",
            "ignores_own_changes",
            "signature",
            "public_key",
            "secret",
            "health",
            "verification",
            "created_at",
            "updated_at",
        ]
        read_only_fields: ClassVar = ["disabled_reason"]

    def get_public_key(self, endpoint: Endpoint) -> str | None:
        try:
            return endpoint.public_key
        except (SecretError, ValueError):
            return None

    def to_representation(self, instance: Endpoint) -> dict[str, Any]:
        """Show an endpoint without what is secret of it, unless it has just been made."""
        shown: dict[str, Any] = {}
        for name, field in self.fields.items():
            if name not in {"secret", "signature", "headers"}:
                value = field.get_attribute(instance)
                shown[name] = None if value is None else field.to_representation(value)
            elif name == "headers":
                shown[name] = _masked(instance)
            elif name == "signature":
                shown[name] = _signature(instance)
            elif self.made == instance.pk:
                shown[name] = private(instance.secret)
        return shown

    def validate_event_types(self, value: list[str]) -> list[str]:
        known = self.known_event_types()
        for each in value:
            if not is_pattern(each):
                raise serializers.ValidationError(refusal(each))
            if each != "*" and not any(each in patterns(kind) for kind in known):
                msg = f"There is no event type {each!r}. Known: {', '.join(sorted(known))}."
                raise serializers.ValidationError(msg)
        return list(dict.fromkeys(value))

    def known_event_types(self) -> set[str]:
        """Return the event types that an endpoint may ask for."""
        return {*registered_event_types(), *OPERATIONAL}

    def validate_format(self, value: str) -> str:
        if found := problem(value, config()):
            raise serializers.ValidationError(found)
        return value

    def validate_headers(self, value: list[dict[str, str]]) -> dict[str, str]:
        before = {} if self.instance is None else _headers(self.instance)
        headers: dict[str, str] = {}
        for each in value:
            if len(each) < len(HeaderSerializer._declared_fields):
                # A partial change is one of the endpoint: DRF would let parts of a header be.
                raise serializers.ValidationError("A header has a name and a value.")
            name, text = each["name"], each["value"]
            if name in headers:
                raise serializers.ValidationError(f"The header {name!r} is there twice.")
            if text == MASK and name not in before:
                raise serializers.ValidationError(f"The header {name!r} has no value yet.")
            headers[name] = before[name] if text == MASK else text
        # Names and values are judged with the rest of the endpoint.
        return headers

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        signature = attrs.pop("signature", None)
        if attrs.get("secret", "") is None:
            del attrs["secret"]
        if self.instance is None:
            if "secret" not in attrs:
                attrs["secret"] = secret_keys.generate(signature or "v1")
            return attrs
        if "secret" in attrs:
            raise serializers.ValidationError({"secret": "Rotate it instead."})
        if signature not in {None, _signature(self.instance)}:
            raise serializers.ValidationError({"signature": "Rotate the secret instead."})
        return attrs

    def create(self, validated_data: dict[str, Any]) -> Endpoint:
        made: Endpoint = self.context["view"].owned.create_endpoint(**validated_data)
        self.made = made.pk
        return made

    def update(self, instance: Endpoint, validated_data: dict[str, Any]) -> Endpoint:
        changed: Endpoint = self.context["view"].owned.change_endpoint(
            instance.pk, **validated_data
        )
        return changed


def private(secret: str) -> str | None:
    """Return what may be shown of a secret: nothing of a key that nobody but we may have."""
    return None if secret_keys.public_key(secret) else secret


def _signature(endpoint: Endpoint) -> str | None:
    try:
        return endpoint.signature
    except (SecretError, ValueError):
        return None


def _headers(endpoint: Endpoint) -> dict[str, str]:
    try:
        return dict(endpoint.headers)
    except SecretError:
        return {}


def _masked(endpoint: Endpoint) -> list[dict[str, str]]:
    return [{"name": name, "value": MASK} for name in _headers(endpoint)]


class DisableSerializer(serializers.Serializer[Any]):
    """Why an endpoint is to hear nothing, and what came of it."""

    reason = serializers.CharField(
        write_only=True, required=False, max_length=200, default="Disabled by its owner."
    )
    state = StateField(Endpoint.State)
    disabled_reason = serializers.CharField(read_only=True)
    is_changed = serializers.BooleanField(read_only=True)


class EnableSerializer(serializers.Serializer[Any]):
    """What becomes of what has waited, and what came of it."""

    waiting = serializers.ChoiceField(
        ["resume", "skip"], write_only=True, required=False, default="resume"
    )
    state = StateField(Endpoint.State)
    is_changed = serializers.BooleanField(read_only=True)


class RotateSerializer(serializers.Serializer[Any]):
    """How long the old secret is valid too, and the new one."""

    overlap_seconds = serializers.IntegerField(
        write_only=True,
        required=False,
        min_value=0,
        max_value=int(LONGEST_OVERLAP.total_seconds()),
        default=int(OVERLAP.total_seconds()),
    )
    signature = serializers.ChoiceField(_SIGNATURES, required=False)
    secret = serializers.CharField(read_only=True, allow_null=True)
    public_key = serializers.CharField(read_only=True, allow_null=True)
    old_secrets_expire_at = serializers.ListField(child=serializers.DateTimeField(), read_only=True)


class RevokeSerializer(serializers.Serializer[Any]):
    """How many old secrets were valid."""

    revoked = serializers.IntegerField(read_only=True)


class RevealSerializer(serializers.Serializer[Any]):
    """The secret."""

    secret = serializers.CharField(read_only=True, allow_null=True)
    public_key = serializers.CharField(read_only=True, allow_null=True)


class PinnedSerializer(serializers.Serializer[Any]):
    """Which version of payloads is asked for, as an endpoint may have it."""

    version = VersionField()


class EventTypeSerializer(serializers.Serializer[Any]):
    """A type of events; in lists without its schema and its example."""

    type = serializers.CharField(read_only=True)
    resource = serializers.CharField(read_only=True)
    description = serializers.CharField(read_only=True)
    versions = serializers.ListField(
        child=serializers.CharField(),
        read_only=True,
        help_text="In which it is written, the oldest first; none if its form never changed.",
    )
    version = serializers.CharField(
        read_only=True,
        allow_null=True,
        help_text="Of these the one that an endpoint gets with the version that is asked for.",
    )


class EventTypeDetailSerializer(EventTypeSerializer):
    """A type of events."""

    schema = serializers.JSONField(
        read_only=True, help_text="The JSON Schema of the whole body, if it is known."
    )
    example = serializers.JSONField(read_only=True, help_text="A whole body, if one is known.")
