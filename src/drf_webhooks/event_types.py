"""The grammar of event types, and which patterns match one (Standard Webhooks 1.0.0)."""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

__all__ = [
    "ENDPOINT",
    "ENDPOINT_DISABLED",
    "ENDPOINT_ENABLED",
    "ENDPOINT_FAILING",
    "ENDPOINT_TEST",
    "ENDPOINT_TYPE_FAILING",
    "ENDPOINT_VERIFY",
    "OPERATIONAL",
    "Interest",
    "Way",
    "is_event_type",
    "is_pattern",
    "patterns",
    "refusal",
]

#: What the library itself says, of endpoints, and what these events are of.
ENDPOINT = "webhooks.endpoint"
ENDPOINT_FAILING = "webhooks.endpoint.failing"
ENDPOINT_TYPE_FAILING = "webhooks.endpoint.type_failing"
ENDPOINT_DISABLED = "webhooks.endpoint.disabled"
ENDPOINT_ENABLED = "webhooks.endpoint.enabled"
ENDPOINT_TEST = "webhooks.endpoint.test"
ENDPOINT_VERIFY = "webhooks.endpoint.verify"
OPERATIONAL = (
    ENDPOINT_FAILING,
    ENDPOINT_TYPE_FAILING,
    ENDPOINT_DISABLED,
    ENDPOINT_ENABLED,
    ENDPOINT_TEST,
    ENDPOINT_VERIFY,
)

_NAME = r"[a-zA-Z0-9_]+"
_EVENT_TYPE = re.compile(rf"{_NAME}(\.{_NAME})*")
_PATTERN = re.compile(rf"\*|{_NAME}(\.{_NAME})*(\.\*)?")


class Way(NamedTuple):
    """How an endpoint wants its messages written."""

    version: str = ""
    is_thin: bool = False


@dataclass
class Interest:
    """What somebody listens to, as far as one unit of work has asked."""

    #: Every pattern of an enabled endpoint, with the ways in which such endpoints listen, or
    #: ``None`` if that is not known.
    heard: dict[str, set[Way]] | None = None
    #: Types that were asked for one by one.
    asked: dict[str, bool] = field(default_factory=dict)
    #: How they are listened to, where that was asked.
    ways_asked: dict[str, set[Way]] = field(default_factory=dict)

    def knows(self, event_type: str) -> bool | None:
        """Tell whether anybody listens to a type, or ``None`` if that must be asked."""
        if self.heard is not None:
            return not self.heard.keys().isdisjoint(patterns(event_type))
        return self.asked.get(event_type)

    def ways(self, event_type: str) -> set[Way] | None:
        """Return the ways in which a type is listened to, or ``None`` if that must be asked."""
        if self.heard is not None:
            found = (self.heard.get(pattern, set()) for pattern in patterns(event_type))
            return set().union(*found)
        return self.ways_asked.get(event_type)


def is_event_type(text: str) -> bool:
    """Tell whether a text is identifiers joined by full stops."""
    return _EVENT_TYPE.fullmatch(text) is not None


def is_pattern(text: str) -> bool:
    """Tell whether a text is an event type, one that ends in ``.*``, or ``*`` alone."""
    return _PATTERN.fullmatch(text) is not None


@lru_cache(maxsize=1024)
def patterns(event_type: str) -> tuple[str, ...]:
    """Return every pattern that matches an event type, the narrowest first."""
    parts = event_type.split(".")
    wider = [".".join([*parts[:length], "*"]) for length in range(len(parts) - 1, 0, -1)]
    return (event_type, *wider, "*")


def refusal(text: object) -> str:
    """Say why a text is no pattern."""
    return (
        f"{text!r} is no event type. Write letters, digits and underscores joined by full "
        "stops ('core.deposit.created'), with '*' as the last part for all below it "
        "('core.deposit.*')."
    )
