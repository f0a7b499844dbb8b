"""An endpoint's own headers: what may be one, and how a person writes them. Values are secrets."""

import re
from collections.abc import Mapping

from django.core.exceptions import ValidationError

__all__ = ["MASK", "masked", "parse", "validate"]

#: Stands for a value that is not shown.
MASK = "********"

MOST = 20
LONGEST_NAME = 100
LONGEST_VALUE = 4096
#: All names and values together. Common servers refuse requests with more than 8 KiB.
LONGEST_TOGETHER = 6144

#: RFC 9110: a token (5.6.2), and a field value (5.5) without the bytes whose meaning is unknown.
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[!-~](?:[\t -~]*[!-~])?")

#: Frame the request, describe the body that a format has made, or are between us and a proxy.
_OURS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_OUR_PREFIXES = ("proxy-", "webhook-")


def validate(headers: object) -> None:
    """Refuse what cannot be sent, or would change what is sent. No message has a value in it.

    Raises:
        ValidationError: a name or value is no header's, is the library's own, or is too long.

    """
    if not isinstance(headers, Mapping):
        msg = "Headers are a dict of names and values, or lines like 'X-Api-Key: value'."
        raise ValidationError(msg)
    wrong = [each for each in map(_wrong, headers.items()) if each]
    names = [str(name).lower() for name in headers]
    wrong += [
        f"The header {name!r} is there twice." for name in set(names) if names.count(name) > 1
    ]
    if len(headers) > MOST:
        wrong.append(f"There are {len(headers)} headers. At most {MOST} are allowed.")
    together = sum(len(str(part)) for pair in headers.items() for part in pair)
    if together > LONGEST_TOGETHER:
        wrong.append(
            f"The headers have {together} characters together. Allowed are {LONGEST_TOGETHER}."
        )
    if wrong:
        raise ValidationError(wrong)


def _wrong(pair: tuple[object, object]) -> str | None:
    name, value = pair
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        return f"{str(name)[:LONGEST_NAME]!r} is no name of a header. Write one like 'X-Api-Key'."
    if name.lower() in _OURS or name.lower().startswith(_OUR_PREFIXES):
        return f"The header {name!r} is set by the library. Leave it out."
    if not isinstance(value, str) or not value:
        return f"The header {name!r} has no value."
    if not _VALUE.fullmatch(value):
        return (
            f"The header {name!r} has a value that HTTP does not allow. It may have printable "
            "ASCII characters, with spaces and tabs between them; encode others, as in a URL."
        )
    if len(value) > LONGEST_VALUE:
        return f"The header {name!r} has {len(value)} characters. Allowed are {LONGEST_VALUE}."
    return None


def parse(text: str) -> dict[str, str]:
    """Read lines like ``X-Api-Key: value``; what is wrong with them :func:`validate` says.

    Raises:
        ValidationError: a line has no colon, or a name is there twice.

    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        name, colon, value = line.partition(":")
        if not line.strip():
            continue
        if not colon:
            # Not the line: it may be a value.
            msg = f"Line {number} of the headers has no colon. Write 'X-Api-Key: value'."
            raise ValidationError(msg)
        if name.strip() in found:
            msg = f"The header {name.strip()!r} is there twice."
            raise ValidationError(msg)
        found[name.strip()] = value.strip(" \t\r")
    return found


def masked(headers: Mapping[str, str]) -> str:
    """Return the lines to show, with a mask for each value."""
    return "\n".join(f"{name}: {MASK}" for name in headers)
