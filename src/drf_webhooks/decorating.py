"""Decorate functions of either kind with a context manager."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

__all__ = ["decorated"]

P = ParamSpec("P")
R = TypeVar("R")


def decorated(function: Callable[P, R], manager: Callable[[], Any]) -> Callable[P, R]:
    """Run a function inside a manager that is made anew for each call."""
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def run_async(*args: P.args, **kwargs: P.kwargs) -> Any:
            async with manager():
                return await function(*args, **kwargs)

        return cast("Callable[P, R]", run_async)

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with manager():
            return function(*args, **kwargs)

    return run
