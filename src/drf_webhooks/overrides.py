"""Which values hold for one delivery: the endpoint's own, those of its event type, the settings."""

import dataclasses
import json
import logging
import math
import types
import typing
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any

from drf_webhooks.conf import NAME, OF_EVENT_TYPES, Config, mistakes
from drf_webhooks.event_types import ENDPOINT_TEST, patterns
from drf_webhooks.exceptions import ConfigurationError

__all__ = ["OF_ENDPOINTS", "decode", "rules"]

logger = logging.getLogger(__name__)

#: What an endpoint may have values of its own for, in ``Endpoint.overrides``.
OF_ENDPOINTS = (
    *OF_EVENT_TYPES,
    "RETRY_AFTER_LIMIT",
    "BREAKER_FAILURES",
    "BREAKER_RATE",
    "BREAKER_SAMPLE",
    "BREAKER_WINDOW",
    "BREAKER_PAUSE",
    "BREAKER_PAUSE_LIMIT",
    "WARN_AFTER",
    "DISABLE_AFTER",
    "DISABLE_SPREAD",
    "TYPE_FAILURES",
)


def rules(settings: Config, *, event_type: str, overrides: Mapping[str, Any]) -> Config:
    """Return the settings that hold for deliveries of one event type to one endpoint.

    Overrides that cannot be read, which only an edit by hand can store, are left out.
    """
    if not overrides and not settings.PER_EVENT_TYPE and event_type != ENDPOINT_TEST:
        return settings
    chosen: dict[str, Any] = {}
    for pattern in reversed(patterns(event_type)):
        chosen |= settings.PER_EVENT_TYPE.get(pattern, {})
    try:
        chosen |= _decoded(json.dumps(overrides, sort_keys=True)) if overrides else {}
    except ConfigurationError as error:
        logger.warning("The overrides of an endpoint are left out. %s", error)
    if event_type == ENDPOINT_TEST:
        # It tells how things are now; a later answer would tell nothing.
        chosen["RETRY_SCHEDULE"] = ()
    return dataclasses.replace(settings, **chosen)


@lru_cache(maxsize=1024)
def _decoded(text: str) -> dict[str, Any]:
    return decode(json.loads(text))


def decode(overrides: Any) -> dict[str, Any]:
    """Turn ``Endpoint.overrides`` into settings; durations are seconds there.

    Raises:
        ConfigurationError: a name or a value is none, or they contradict each other.

    """
    if not isinstance(overrides, dict):
        msg = f"overrides is {overrides!r}. It must be an object, like {{'MAX_AGE': 3600}}."
        raise ConfigurationError(msg)
    hints = typing.get_type_hints(Config)
    decoded = {}
    for name, value in overrides.items():
        if name not in OF_ENDPOINTS:
            msg = f"overrides has {name!r}. It may have {', '.join(OF_ENDPOINTS)}."
            raise ConfigurationError(msg)
        decoded[name] = _value(value, hints[name])
    for mistake in mistakes(decoded):
        raise ConfigurationError(mistake.replace(NAME, "overrides", 1))
    return decoded


def _value(value: Any, hint: Any) -> Any:
    """Return a setting's value for one of JSON, or what it is not, for the checks to name."""
    if isinstance(hint, types.UnionType):
        return value if value is None else _value(value, typing.get_args(hint)[0])
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_value(each, typing.get_args(hint)[0]) for each in value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is timedelta and is_number and math.isfinite(value):
        try:
            return timedelta(seconds=value)
        except OverflowError:
            return value
    return value
