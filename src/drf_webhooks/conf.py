"""The settings in force: what the project has written, judged, and kept until it changes."""

from functools import cache
from typing import Any, cast

from django.conf import settings
from django.core.signals import setting_changed

from drf_webhooks.exceptions import ConfigurationError
from drf_webhooks.setting_fields import FORMATS, NAME, OF_EVENT_TYPES, Config
from drf_webhooks.setting_mistakes import mistakes

__all__ = ["FORMATS", "NAME", "OF_EVENT_TYPES", "Config", "config", "given", "mistakes"]


def given() -> object:
    """Return what the project has written, unchecked."""
    return getattr(settings, NAME, {})


def config() -> Config:
    """Return the settings in force.

    Raises:
        ConfigurationError: a name is unknown or a value has the wrong type.

    """
    return _read()


@cache
def _read() -> Config:
    written = given()
    for mistake in mistakes(written):
        raise ConfigurationError(mistake)
    return Config(**cast("dict[str, Any]", written))


def _forget(*, setting: str, **_: object) -> None:
    if setting == NAME:
        _read.cache_clear()


setting_changed.connect(_forget, dispatch_uid="drf_webhooks.conf")
