r"""The grammar of an endpoint's URL: read once, from the raw text, and in one way only.

Parsers differ about what is not plain (``http://127.0.0.1\@host/``, ``http://0x7f.1/``): what
one of them checks, another one connects to. So what is not plain is refused, and what is sent
to is put together anew from the parts that were read.
"""

import ipaddress
import re
from dataclasses import dataclass

import idna

from drf_webhooks.addresses import Address, unmapped

__all__ = ["EndpointURL", "EndpointURLError", "host_pattern", "parse", "shown"]

_URL = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<rest>.*)", re.IGNORECASE)
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^\[\]:]*)(?P<port>:.*)?")
_PORT = re.compile(r":[1-9][0-9]{0,4}")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
#: What inet_aton() takes for a number, at the end of a name (URL Standard, "ends in a number").
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LONGEST_NAME = 253
_HIGHEST_PORT = 65535
_PORTS = {"http": 80, "https": 443}
_SHOWN_CHARACTERS = 200


class EndpointURLError(ValueError):
    """A URL that no request is sent to; says which rule it breaks."""


@dataclass(frozen=True)
class EndpointURL:
    """A URL's parts.

    ``host`` is a name in ASCII and lower case without a dot at its end, or an address without
    brackets, and that is ``address`` too. ``rest`` is all from the path on.
    """

    scheme: str
    host: str
    port: int
    rest: str
    address: Address | None = None

    @property
    def text(self) -> str:
        """The URL that means these parts to each parser."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.rest}"


def parse(text: str) -> EndpointURL:
    """Read an endpoint's URL.

    Raises:
        EndpointURLError: it breaks a rule of the grammar.

    """
    for character in text:
        if character in " \\" or not character.isprintable():
            msg = "has a space, a control character or a backslash in it"
            raise EndpointURLError(msg)
    found = _URL.fullmatch(text)
    if found is None:
        msg = "does not start with http:// or https://"
        raise EndpointURLError(msg)
    scheme, authority, rest = found["scheme"].lower(), found["authority"], found["rest"]
    if "#" in rest:
        msg = "has a fragment (#), which is never sent"
        raise EndpointURLError(msg)
    if "@" in authority:
        msg = "has a user name or password in it; send credentials in a custom header"
        raise EndpointURLError(msg)
    if "%" in authority:
        msg = "has a percent sign in its host: no encoding and no zone belongs there"
        raise EndpointURLError(msg)
    split = _AUTHORITY.fullmatch(authority)
    if split is None:
        msg = "has a host with brackets that are none of an IPv6 address"
        raise EndpointURLError(msg)
    if not split["host"]:
        msg = "names no host"
        raise EndpointURLError(msg)
    port = _port(split["port"], scheme)
    host, address = _host(split["host"])
    return EndpointURL(scheme, host, port, rest if rest.startswith("/") else f"/{rest}", address)


def host_pattern(text: str) -> str:
    """Return a pattern of hosts as Django compares it: ``*``, a host, or ``.example.com``.

    Raises:
        EndpointURLError: it is none of them.

    """
    if text == "*":
        return text
    dot, host = ("." if text.startswith(".") else ""), text.removeprefix(".")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return dot + _name(host)


def shown(text: str) -> str:
    """Return what of a URL may be said in a message: no query, and nothing before an ``@``."""
    plain = text.partition("?")[0]
    scheme, slashes, rest = plain.rpartition("//")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}"[:_SHOWN_CHARACTERS]


def _port(text: str | None, scheme: str) -> int:
    if text is None:
        return _PORTS[scheme]
    if text == ":0":
        msg = "has port 0"
        raise EndpointURLError(msg)
    if not _PORT.fullmatch(text) or int(text[1:]) > _HIGHEST_PORT:
        msg = f"has the port {text[1:21]!r}, which is no number from 1 to {_HIGHEST_PORT}"
        raise EndpointURLError(msg)
    return int(text[1:])


def _host(text: str) -> tuple[str, Address | None]:
    try:
        address: Address | None = unmapped(
            ipaddress.IPv6Address(text[1:-1])
            if text.startswith("[")
            else ipaddress.IPv4Address(text)
        )
    except ValueError:
        if text.startswith("["):
            msg = "has brackets around what is no IPv6 address"
            raise EndpointURLError(msg) from None
        return _name(text), None
    return str(address), address


def _name(text: str) -> str:
    """Return a name as it is asked for. IDNA is applied here only."""
    if len(text) > _LONGEST_NAME + 1:
        # Before IDNA, which would take long for it.
        msg = f"has a host of more than {_LONGEST_NAME} characters"
        raise EndpointURLError(msg)
    try:
        name = text if text.isascii() else idna.encode(text, uts46=True).decode()
    except UnicodeError as error:
        msg = f"has a host that is no name ({error})"
        raise EndpointURLError(msg) from error
    name = name.lower().removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        msg = (
            "has a host that some programs read as an address; "
            "write one of IPv4 as four decimal numbers"
        )
        raise EndpointURLError(msg)
    if len(name) > _LONGEST_NAME or not all(_LABEL.fullmatch(each) for each in labels):
        msg = "has a host that is no name and no address"
        raise EndpointURLError(msg)
    return name
