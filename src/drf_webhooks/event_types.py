"""The grammar of event types, and which patterns match one (Standard Webhooks 1.0.0)."""

import re

__all__ = ["is_event_type", "is_pattern", "patterns", "refusal"]

_NAME = r"[a-zA-Z0-9_]+"
_EVENT_TYPE = re.compile(rf"{_NAME}(\.{_NAME})*")
_PATTERN = re.compile(rf"\*|{_NAME}(\.{_NAME})*(\.\*)?")


def is_event_type(text: str) -> bool:
    """Tell whether a text is identifiers joined by full stops."""
    return _EVENT_TYPE.fullmatch(text) is not None


def is_pattern(text: str) -> bool:
    """Tell whether a text is an event type, one that ends in ``.*``, or ``*`` alone."""
    return _PATTERN.fullmatch(text) is not None


def patterns(event_type: str) -> list[str]:
    """Return every pattern that matches an event type, the narrowest first."""
    parts = event_type.split(".")
    wider = [".".join([*parts[:length], "*"]) for length in range(len(parts) - 1, 0, -1)]
    return [event_type, *wider, "*"]


def refusal(text: object) -> str:
    """Say why a text is no pattern."""
    return (
        f"{text!r} is no event type. Write letters, digits and underscores joined by full "
        "stops ('core.deposit.created'), with '*' as the last part for all below it "
        "('core.deposit.*')."
    )
