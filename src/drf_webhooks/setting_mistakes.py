"""Say what is wrong with what a project has written as ``settings.DRF_WEBHOOKS``."""

import base64
import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_network
from typing import Any, Literal
from urllib.parse import urlsplit

from drf_webhooks.addresses import ports
from drf_webhooks.endpoint_urls import host_pattern
from drf_webhooks.event_types import is_pattern, refusal
from drf_webhooks.setting_fields import NAME, OF_EVENT_TYPES, Config

__all__ = ["mistakes"]

_COUNTS = (
    "CONCURRENCY",
    "ENDPOINT_CONCURRENCY",
    "ENGINE_CONCURRENCY",
    "BREAKER_FAILURES",
    "BREAKER_SAMPLE",
    "TYPE_FAILURES",
    "MAX_DEPTH",
    "ENDPOINTS_PER_OWNER",
    "TESTS_PER_MINUTE",
    "RESENDS_PER_MINUTE",
)
#: What reads each value of these, and how one looks.
_DESTINATIONS: dict[str, tuple[Callable[[Any], object], str]] = {
    "ALLOWED_NETWORKS": (ip_network, "'10.0.0.0/8'"),
    "DENIED_NETWORKS": (ip_network, "'10.0.0.0/8'"),
    "ALLOWED_HOSTS": (host_pattern, "'hooks.example.com', '.example.com' or '*'"),
    "DENIED_HOSTS": (host_pattern, "'hooks.example.com', '.example.com' or '*'"),
    "ALLOWED_PORTS": (ports, "443 or '1024-65535'"),
    "DENIED_PORTS": (ports, "443 or '1024-65535'"),
}
_FERNET_BYTES = 32
_LENGTHS = ("BREAKER_WINDOW", "BREAKER_PAUSE", "BREAKER_PAUSE_LIMIT", "RETRY_AFTER_LIMIT")


def mistakes(written: object) -> list[str]:
    """Say what is wrong with a value of ``settings.DRF_WEBHOOKS``, a sentence each."""
    if not isinstance(written, dict):
        return [f"{NAME} is {written!r}. It must be a dict."]
    hints = typing.get_type_hints(Config)
    secret = {each.name for each in dataclasses.fields(Config) if not each.repr}
    found = []
    for key, value in written.items():
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            found.append(f"{NAME} has no setting {key!r}.{hint}")
        elif not _fits(value, hints[key]):
            wanted = _name(hints[key])
            shown = f"of type {type(value).__name__}" if key in secret else repr(value)
            found.append(f"{NAME}[{key!r}] is {shown}. It must be {wanted}.")
    return found or _contradictions(Config(**written))


def _contradictions(read: Config) -> list[str]:
    found = []
    if not timedelta(seconds=1) <= read.REQUEST_TIMEOUT <= timedelta(seconds=30):
        found.append(
            f"{NAME}['REQUEST_TIMEOUT'] is {read.REQUEST_TIMEOUT}. It must be 1 to 30 seconds."
        )
    if read.LEASE <= read.REQUEST_TIMEOUT:
        found.append(
            f"{NAME}['LEASE'] is {read.LEASE}. It must be longer than REQUEST_TIMEOUT, "
            f"{read.REQUEST_TIMEOUT}, or two workers send the same delivery."
        )
    if timedelta(0) >= read.ENGINE_TIME_LIMIT:
        found.append(
            f"{NAME}['ENGINE_TIME_LIMIT'] is {read.ENGINE_TIME_LIMIT}. It must be more than 0."
        )
    if not 0 <= read.RETRY_JITTER <= 1:
        found.append(f"{NAME}['RETRY_JITTER'] is {read.RETRY_JITTER}. It must be 0 to 1.")
    if read.CLOUDEVENTS_SOURCE is not None and not _is_reference(read.CLOUDEVENTS_SOURCE):
        found.append(
            f"{NAME}['CLOUDEVENTS_SOURCE'] is {read.CLOUDEVENTS_SOURCE!r}. It must be a URI "
            "reference, like 'https://api.example.com' or '/shop'."
        )
    if read.PROXY is not None and not _is_proxy(read.PROXY):
        # Without the value, which has a password in it.
        found.append(f"{NAME}['PROXY'] must be like 'http://user:password@proxy.internal:3128'.")
    if not 0 < read.BREAKER_RATE <= 1:
        found.append(
            f"{NAME}['BREAKER_RATE'] is {read.BREAKER_RATE}. It must be above 0, and 1 at most."
        )
    if read.METRICS_BIND is not None and not re.fullmatch(r".*:[0-9]{1,5}", read.METRICS_BIND):
        found.append(
            f"{NAME}['METRICS_BIND'] is {read.METRICS_BIND!r}. It must be an address and a port, "
            "as '0.0.0.0:9108'."
        )
    for key in ("PAYLOAD_RETENTION", "EVENT_RETENTION"):
        kept = getattr(read, key)
        if kept is not None and kept <= timedelta(0):
            found.append(f"{NAME}[{key!r}] is {kept}. It must be longer than 0, or None.")
    found += [
        f"{NAME}[{key!r}] is {getattr(read, key)!r}. It must be at least 1."
        for key in _COUNTS
        if (value := getattr(read, key)) is not None and value < 1
    ]
    found += [
        f"{NAME}[{key!r}] is {getattr(read, key)}. It must be longer than 0."
        for key in _LENGTHS
        if getattr(read, key) <= timedelta(0)
    ]
    if any(each < timedelta(0) for each in read.RETRY_SCHEDULE):
        found.append(f"{NAME}['RETRY_SCHEDULE'] has a wait below 0.")
    if read.ENDPOINT_RATE is not None and read.ENDPOINT_RATE <= 0:
        found.append(f"{NAME}['ENDPOINT_RATE'] is {read.ENDPOINT_RATE}. It must be more than 0.")
    found += [
        f"{NAME}['ENCRYPTION_KEYS'][{place}] is no Fernet key, the base64 of 32 random bytes. "
        "Fernet.generate_key() of the package cryptography makes one."
        for place, key in enumerate(read.ENCRYPTION_KEYS)
        if not _is_fernet_key(key)
    ]
    return (
        found
        + _contradictions_of_warnings(read)
        + _mistakes_of_types(read)
        + _mistakes_of_destinations(read)
    )


def _contradictions_of_warnings(read: Config) -> list[str]:
    if list(read.WARN_AFTER) != sorted(set(read.WARN_AFTER)):
        return [f"{NAME}['WARN_AFTER'] does not rise from one to the next."]
    if read.DISABLE_AFTER is None:
        return []
    if not read.WARN_AFTER:
        msg = (
            f"{NAME}['WARN_AFTER'] is empty. No endpoint is disabled without a warning before: "
            "give one, or set DISABLE_AFTER to None."
        )
        return [msg]
    last = read.WARN_AFTER[-1]
    if last >= read.DISABLE_AFTER:
        msg = (
            f"{NAME}['DISABLE_AFTER'] is {read.DISABLE_AFTER}. It must be longer than the last "
            f"of WARN_AFTER, {last}, or nobody is warned in time."
        )
        return [msg]
    return []


def _mistakes_of_types(read: Config) -> list[str]:
    hints = typing.get_type_hints(Config)
    found = []
    for pattern, values in read.PER_EVENT_TYPE.items():
        where = f"{NAME}['PER_EVENT_TYPE'][{pattern!r}]"
        if not is_pattern(pattern):
            found.append(f"{where}: {refusal(pattern)}")
        wrong = [key for key in values if key not in OF_EVENT_TYPES]
        found += [f"{where} has {key!r}. It may have {', '.join(OF_EVENT_TYPES)}." for key in wrong]
        found += [
            f"{where}[{key!r}] is {value!r}. It must be {_name(hints[key])}."
            for key, value in values.items()
            if key not in wrong and not _fits(value, hints[key])
        ]
        if not found:
            changed = dataclasses.replace(read, PER_EVENT_TYPE={}, **values)
            found += [f"{where}: {each}" for each in _contradictions(changed)]
    return found


def _mistakes_of_destinations(read: Config) -> list[str]:
    return [
        f"{NAME}[{key!r}] has {each!r}. It must be like {example}."
        for key, (is_right, example) in _DESTINATIONS.items()
        for each in getattr(read, key)
        if not _is_right(is_right, each)
    ]


def _is_right(read: Callable[[Any], object], value: object) -> bool:
    try:
        read(value)
    except ValueError:
        return False
    return True


def _is_fernet_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, altchars=b"-_", validate=True)) == _FERNET_BYTES
    except ValueError:
        return False


def _is_reference(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def _is_proxy(text: str) -> bool:
    try:
        parts = urlsplit(text)
        has_port = parts.port != 0
    except ValueError:
        return False
    is_bare = parts.path in {"", "/"} and not parts.query and not parts.fragment
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and has_port and is_bare


def _fits(value: object, hint: Any) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in args
    if origin is types.UnionType:
        return any(_fits(value, arg) for arg in args)
    if origin is dict:
        return isinstance(value, dict) and all(
            _fits(part, arg) for pair in value.items() for part, arg in zip(pair, args, strict=True)
        )
    if origin is tuple:
        return isinstance(value, list | tuple) and all(_fits(part, args[0]) for part in value)
    if hint is Any:
        return True
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _name(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal or origin is types.UnionType:
        return " or ".join(repr(arg) if origin is Literal else _name(arg) for arg in args)
    if origin is dict:
        return f"a dict of {_name(args[0])} to {_name(args[1])}"
    if origin is tuple:
        return f"a list of {_name(args[0])}"
    return "None" if hint is type(None) else str(hint.__name__)
