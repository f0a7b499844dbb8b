"""What is the same for each webhook in the document: headers, answers, formats, the signature."""

import json
from typing import Any

from drf_webhooks import trace_context
from drf_webhooks.conf import Config
from drf_webhooks.delivery.formats import CloudEvents, Format, Message, format_named, names, source
from drf_webhooks.event_shapes import Shape
from drf_webhooks.exceptions import FormatError
from drf_webhooks.origins import DEPTH_HEADER

__all__ = [
    "HEADERS",
    "RESPONSES",
    "SECURITY",
    "SECURITY_NAME",
    "cloud_event",
    "content_types",
    "header",
    "header_names",
    "responses",
]

Schema = dict[str, Any]

SECURITY_NAME = "webhookSignature"
SECURITY: Schema = {
    "type": "apiKey",
    "in": "header",
    "name": "webhook-signature",
    "description": (
        "Standard Webhooks 1.0.0. Each entry, of which there are several while secrets are "
        "changed, is `v1,` and the base64 of an HMAC-SHA256, or `v1a,` and that of an ed25519 "
        "signature. Signed are the bytes `{webhook-id}.{webhook-timestamp}.{body}`, the body as "
        "it was received. Refuse what no entry verifies, and timestamps that are more than five "
        "minutes off."
    ),
}


def header(name: str, schema: Schema, text: str, *, is_required: bool = True) -> Schema:
    """Describe a header of a request."""
    return {
        "name": name,
        "in": "header",
        "required": is_required,
        "description": text,
        "schema": schema,
    }


#: What the sender adds to each request, by the names of the components.
HEADERS: dict[str, Schema] = {
    "WebhookId": header(
        "webhook-id",
        {"type": "string", "examples": ["evt_018f3c6e2f4a7b1c9d3e5a6b7c8d9e0f"]},
        "The event's own. The same for every attempt: what you have had already is not to be "
        "handled again.",
    ),
    "WebhookTimestamp": header(
        "webhook-timestamp",
        {"type": "string", "pattern": "^[0-9]+$", "examples": ["1773480413"]},
        "When this attempt was made, in seconds since 1970.",
    ),
    "WebhookSignature": header(
        "webhook-signature",
        {"type": "string", "examples": ["v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="]},
        "Signatures with spaces between them.",
    ),
    "WebhookSequence": header(
        "webhook-sequence",
        {"type": "string", "pattern": "^[0-9]+$", "examples": ["7"]},
        "The same number as in the body: counts what was said of this object.",
        is_required=False,
    ),
    "WebhookDepth": header(
        DEPTH_HEADER,
        {"type": "string", "pattern": "^[0-9]+$", "examples": ["1"]},
        "How many webhooks led to this one. Send it with the requests that follow from it, and "
        "chains end.",
    ),
    "WebhookTraceparent": header(
        "traceparent",
        {"type": "string", "examples": ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]},
        "The trace of the change, as W3C writes it.",
        is_required=False,
    ),
}


def header_names() -> list[str]:
    """Return the components of the headers that this project sends."""
    is_traced = trace_context.is_installed()
    return [each for each in HEADERS if is_traced or each != "WebhookTraceparent"]


def _wish(*words: str) -> Schema:
    return {
        "webhook-delivery": {
            "description": (
                "`abort-message`: do not try this message again. `disable`: send this endpoint "
                "nothing any more."
                if len(words) > 1
                else "`disable`: send this endpoint nothing any more."
            ),
            "schema": {"type": "string", "enum": list(words)},
        }
    }


_BOTH = ("abort-message", "disable")
_LATER: Schema = {
    "Retry-After": {
        "description": "Seconds, or a date as HTTP writes it.",
        "schema": {"type": "string", "examples": ["120"]},
    }
}
RESPONSES: dict[str, Schema] = {
    "WebhookAccepted": {
        "description": "Received. It is not sent again. The body is not read.",
        "headers": _wish("disable"),
    },
    "WebhookGone": {
        "description": "This endpoint is there no more. It is disabled, and nothing is sent to it.",
    },
    "WebhookLater": {
        "description": "Not now. Sent again later, and nothing else meanwhile.",
        "headers": {**_LATER, **_wish(*_BOTH)},
    },
    "WebhookFailed": {
        "description": (
            "Not received, as by any other status and by none at all. Sent again later. "
            "Redirects are not followed."
        ),
        "headers": _wish(*_BOTH),
    },
}
_ANSWERS = {
    "2XX": "WebhookAccepted",
    "410": "WebhookGone",
    "429": "WebhookLater",
    "503": "WebhookLater",
    "default": "WebhookFailed",
}


def responses() -> Schema:
    """Return what each kind of answer means."""
    return {status: {"$ref": f"#/components/responses/{name}"} for status, name in _ANSWERS.items()}


def content_types(settings: Config) -> dict[str, Format]:
    """Return the formats that an endpoint of this project may have, by content type."""
    found: dict[str, Format] = {}
    # JSON first: it is what endpoints have that say nothing.
    for name in sorted(names(settings), key=lambda each: (each != "json", each)):
        try:
            chosen = format_named(name, settings)
        except FormatError:
            # A check names it.
            continue
        if not chosen.problem(settings):
            found.setdefault(chosen.content_type.partition(";")[0], chosen)
    return found


def cloud_event(shape: Shape, message: Schema, settings: Config) -> Schema:
    """Return the schema of a message as a CloudEvent."""
    properties: Schema = {
        "specversion": {"type": "string", "const": "1.0"},
        "id": {"type": "string", "description": "The same as `webhook-id`."},
        "source": {"type": "string", "const": source(settings)},
        "type": {"type": "string", "const": shape.event_type},
        "time": message["properties"]["timestamp"],
        "subject": {"type": "string", "description": "The object's primary key."},
        "sequence": {
            "type": "string",
            "pattern": "^[0-9]{19}$",
            "description": "`sequence`, with zeros before it, so that it sorts as a text.",
        },
        "datacontenttype": {"type": "string", "const": "application/json"},
        **{
            name: message["properties"][known]
            for name, known in (("payloadversion", "version"), ("thin", "thin"))
            if known in message["properties"]
        },
        "data": message["properties"]["data"],
    }
    return {
        "type": "object",
        "title": f"{message['title']}, as a CloudEvent",
        "description": shape.description,
        "properties": properties,
        "required": [*properties],
        "examples": [_as_cloud_event(each, settings) for each in message.get("examples", ())],
    }


def _as_cloud_event(example: Schema, settings: Config) -> Schema:
    key = json.dumps(example["data"].get("id", 42))
    body = json.dumps(example).encode()
    stored = Message(HEADERS["WebhookId"]["schema"]["examples"][0], key, body, source(settings))
    written: Schema = json.loads(CloudEvents().write(stored))
    return written
