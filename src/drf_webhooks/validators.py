"""What an endpoint may be: its URL, its format, settings of its own."""

from typing import Any

from django.core.exceptions import ValidationError

from drf_webhooks import versions
from drf_webhooks.conf import FORMATS, config
from drf_webhooks.destination_rules import DestinationRefusedError, Rules
from drf_webhooks.endpoint_urls import EndpointURLError, parse, shown
from drf_webhooks.exceptions import ConfigurationError
from drf_webhooks.overrides import decode

__all__ = ["validate_format", "validate_overrides", "validate_url", "validate_version"]


def validate_url(url: str) -> None:
    """Refuse what no request may be sent to, as far as can be seen without a look-up.

    Raises:
        ValidationError: it breaks a rule of the grammar, or of the settings; says which.

    """
    try:
        Rules.of(config()).check(parse(url))
    except EndpointURLError as error:
        msg = f"{shown(url)!r} {error}. Write an address like 'https://example.com/webhooks'."
        raise ValidationError(msg) from error
    except DestinationRefusedError as error:
        msg = f"{shown(url)!r} is no address for an endpoint: {error}."
        raise ValidationError(msg) from error


def validate_format(name: str) -> None:
    """Refuse a format that nobody has declared.

    Raises:
        ValidationError: there is none of that name.

    """
    known = sorted({*FORMATS, *config().FORMATS})
    if name not in known:
        msg = f"There is no format {name!r}. Known: {', '.join(known)}."
        raise ValidationError(msg)


def validate_version(version: str) -> None:
    """Refuse a version of payloads that no resource declares.

    Raises:
        ValidationError: there is none of that name.

    """
    known = versions.known()
    if version and version not in known:
        names = ", ".join(known) or "none; no resource declares versions"
        msg = f"There is no version {version!r}. Known: {names}."
        raise ValidationError(msg)


def validate_overrides(overrides: Any) -> None:
    """Refuse values that no settings could have.

    Raises:
        ValidationError: a name or a value is none, or they contradict each other.

    """
    try:
        decode({} if overrides is None else overrides)
    except ConfigurationError as error:
        raise ValidationError(str(error)) from error
