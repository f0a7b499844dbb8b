"""Which URLs an endpoint may have."""

import ipaddress
import re
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError

__all__ = ["validate_url"]

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)
_LONGEST_NAME = 253


def validate_url(url: str) -> None:
    """Refuse what no request can be sent to.

    Raises:
        ValidationError: it is no absolute http or https URL, or it carries a user name.

    """
    wrong = _wrong_with_url(url)
    if wrong:
        msg = f"{url!r} {wrong}. Write an address like 'https://example.com/webhooks'."
        raise ValidationError(msg)


def _wrong_with_url(url: str) -> str | None:
    if any(ord(character) <= ord(" ") or character == "\\" for character in url):
        return "has a space, a control character or a backslash in it"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"is no URL ({error})"
    if parts.scheme not in {"http", "https"}:
        return "does not start with http:// or https://"
    if not parts.hostname:
        return "names no host"
    if "@" in parts.netloc:
        return "has a user name or password in it; send credentials in a custom header"
    if port == 0:
        return "has port 0"
    return None if _is_host(parts.hostname) else "has a host that is no name and no address"


def _is_host(host: str) -> bool:
    """Tell whether a host is an IP address or a name (RFC 1123, section 2.1), IDNA applied."""
    if ":" in host:
        # In brackets: an IPv6 address, without a zone, which means something here only.
        try:
            return not ipaddress.IPv6Address(host).scope_id
        except ValueError:
            return False
    try:
        name = host.encode("idna").decode() if not host.isascii() else host
    except UnicodeError:
        return False
    labels = name.removesuffix(".").split(".")
    return len(name) <= _LONGEST_NAME and all(_LABEL.fullmatch(each) for each in labels)
