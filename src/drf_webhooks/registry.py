"""The list of declared resources, and who wants to know when it grows."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Registry", "declared_versions", "registered_event_types", "registry"]


class Registry:
    """Declared resources in the order of their declaration.

    It takes whatever is declared: what is wrong with the whole is said by system checks,
    which see all of it.
    """

    def __init__(self) -> None:
        self._resources: list[type[Any]] = []
        self._listeners: list[Callable[[], None]] = []
        #: Raised by each change, so that what was computed from the list can tell its age.
        self.generation = 0

    def __iter__(self) -> Iterator[type[Any]]:
        return iter(tuple(self._resources))

    def add(self, resource: type[Any]) -> None:
        """Declare a resource; at once in force if the project has started."""
        self._replace([*self._resources, resource])

    def get(self, base_name: str) -> type[Any] | None:
        """Return the first resource of that name."""
        return next((found for found in self if found.base_name == base_name), None)

    def listen(self, listener: Callable[[], None]) -> None:
        """Call a function after each change from now on."""
        self._listeners.append(listener)

    @contextmanager
    def isolated(self) -> Iterator[None]:
        """Start with an empty list, and bring back the old one at the end."""
        kept = self._resources
        self._replace([])
        try:
            yield
        finally:
            self._replace(kept)

    def _replace(self, resources: list[type[Any]]) -> None:
        self._resources = resources
        self.generation += 1
        for listener in self._listeners:
            listener()


registry = Registry()


def registered_event_types() -> frozenset[str]:
    """Return every event type that some resource may emit."""
    return frozenset(kind for resource in registry for kind in resource.event_types())


def declared_versions() -> frozenset[str]:
    """Return every version of payloads that some resource declares."""
    return frozenset(version for resource in registry for version in resource.versions)
