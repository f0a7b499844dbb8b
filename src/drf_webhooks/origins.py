"""Where a change comes from: a user's request, another system, a chain of webhooks."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = [
    "DEPTH_HEADER",
    "NOWHERE",
    "Origin",
    "acting",
    "current",
    "depth",
    "endpoint",
    "read_depth",
    "text",
]

#: How many webhooks led to a request, as a number. Each message says one more than the change
#: that it tells of.
DEPTH_HEADER = "webhook-depth"

#: Characters of an origin's text that are kept.
LONGEST = 200

#: What a database can hold; nothing is ever so deep.
_DEEPEST = 1000


@dataclass(frozen=True)
class Origin:
    """Where the changes of a session come from.

    Args:
        what: A text for people: a request, the name of a task.
        user: The key of whoever asked for it.
        endpoint: The key of the endpoint behind which is who made the changes. It may ask not
            to hear of them.
        depth: How many webhooks led to them: 0 for what a person does.

    """

    what: str = ""
    user: str = ""
    endpoint: uuid.UUID | None = None
    depth: int = 0

    def __str__(self) -> str:
        by = f"by {self.user}" if self.user else ""
        # The user first: the text may be cut.
        return ": ".join(filter(None, [by, self.what]))[:LONGEST]

    def joined(self, other: "Origin") -> "Origin":
        """Return both in one: what the other says goes before, and the deeper chain counts.

        Two endpoints are no one's own change: each hears of it, so that nothing is lost.
        """
        endpoints = {each for each in (self.endpoint, other.endpoint) if each is not None}
        return Origin(
            other.what or self.what,
            other.user or self.user,
            endpoints.pop() if len(endpoints) == 1 else None,
            max(self.depth, other.depth),
        )


NOWHERE = Origin()
_current: ContextVar[Origin] = ContextVar("drf_webhooks_origin", default=NOWHERE)


@contextmanager
def acting(origin: Origin) -> Iterator[None]:
    """Let what is stored in a block have an origin."""
    token = _current.set(origin)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Origin:
    """Return the origin of what is stored now."""
    return _current.get()


def text() -> str:
    """Return the text of what is stored now."""
    return str(current())


def endpoint() -> uuid.UUID | None:
    """Return the endpoint whose own change is stored now."""
    return current().endpoint


def depth() -> int:
    """Return how many webhooks led to what is stored now."""
    return current().depth


def read_depth(value: str | None) -> int:
    """Read the header of a request; what is no number counts as none.

    Anybody can send it. All that it can do is to cut off what follows from the own request.
    """
    if value is None or not value.isascii() or not value.isdigit():
        return 0
    return min(int(value[:6]), _DEEPEST)
