"""Blocks that say nothing, of any resource or of some."""

from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any, ParamSpec, Self, TypeVar

from drf_webhooks.decorating import decorated

__all__ = ["disable_webhooks", "is_all_disabled", "is_disabled"]

P = ParamSpec("P")
R = TypeVar("R")

_disabled: ContextVar[frozenset[Any]] = ContextVar("drf_webhooks_disabled", default=frozenset())
_EVERYTHING = object()


def is_all_disabled() -> bool:
    """Tell whether no resource says anything in this block."""
    return _EVERYTHING in _disabled.get()


def is_disabled(resource: type[Any]) -> bool:
    """Tell whether a resource says nothing in this block."""
    disabled = _disabled.get()
    return bool(disabled) and (resource in disabled or _EVERYTHING in disabled)


class disable_webhooks:  # noqa: N801  # used like contextlib's managers
    """Note nothing in a block: ``with``, ``async with``, or a decorator.

    Args:
        resources: The resources that say nothing; by default all of them.

    """

    def __init__(self, *resources: type[Any]) -> None:
        self._given = resources
        self._resources: frozenset[Any] = frozenset(resources or [_EVERYTHING])
        self._tokens: list[Token[frozenset[Any]]] = []

    def __enter__(self) -> Self:
        self._tokens.append(_disabled.set(_disabled.get() | self._resources))
        return self

    def __exit__(self, *_: object) -> None:
        _disabled.reset(self._tokens.pop())

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        return decorated(function, lambda: type(self)(*self._given))
