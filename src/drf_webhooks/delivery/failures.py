"""Why there was no answer: each failure a word that a person understands, and whose fault it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

__all__ = ["ERRORS", "NO_TIMING", "Failure", "Timing"]


class Timing(NamedTuple):
    """How long the parts of a request took; ``None`` for parts that there were not.

    The first two are ``None`` on a connection that was open already.
    """

    look_up: timedelta | None = None
    connect: timedelta | None = None
    answer: timedelta | None = None


NO_TIMING = Timing()


@dataclass(frozen=True)
class Kind:
    """What an error means. ``is_ours`` says that no endpoint is to blame for it."""

    meaning: str
    is_ours: bool = False


#: Each value that ``Attempt.error`` can have.
ERRORS: Mapping[str, Kind] = {
    "dns_error": Kind("the name has no address, or nobody could be asked for it"),
    "timeout_dns": Kind("the look-up of the name did not end in time"),
    "destination_refused": Kind(
        "the address, the host, the port or the scheme is one that must not be used"
    ),
    "connection_refused": Kind("nobody listens at the port"),
    "host_unreachable": Kind("no way leads to the address"),
    "timeout_connect": Kind("no connection was made in time"),
    "connection_reset": Kind("the connection was cut before an answer"),
    "connection_error": Kind("another failure of the connection"),
    "tls_expired": Kind("the certificate has expired"),
    "tls_not_yet_valid": Kind("the certificate is not valid yet"),
    "tls_wrong_name": Kind("the certificate is for another name"),
    "tls_self_signed": Kind("the certificate is signed by itself"),
    "tls_certificate": Kind("the certificate is not trusted for another reason"),
    "tls_error": Kind("no TLS was agreed on; often the port speaks plain HTTP"),
    "timeout_tls": Kind("connected, but TLS was not agreed on in time"),
    "timeout_total": Kind("the request was sent, but no answer came in time"),
    "invalid_response": Kind("what came is no HTTP"),
    "header_too_large": Kind("the answer has more headers than anybody needs"),
    "proxied_connection": Kind("the proxy could not connect to the receiver"),
    "proxy_denied": Kind("the proxy does not let anybody connect to the receiver"),
    "proxy_auth": Kind("the proxy wants other credentials", is_ours=True),
    "proxy_error": Kind("the proxy cannot be reached, or does not work", is_ours=True),
    "invalid_url": Kind("the URL cannot be requested"),
    "format_error": Kind("the message cannot be written in the endpoint's format", is_ours=True),
    "secret_error": Kind("the endpoint's secret or headers cannot be decrypted", is_ours=True),
    "local_error": Kind("this machine has no room for another connection", is_ours=True),
    "internal_error": Kind("a defect of this library; the log has the traceback", is_ours=True),
}


@dataclass(slots=True)
class Failure:
    """Why there is no answer: a key of ``ERRORS``, and the details."""

    error: str
    detail: str
    timing: Timing = NO_TIMING

    @property
    def is_ours(self) -> bool:
        """Whether the endpoint is not to blame, and its health not to suffer."""
        return ERRORS[self.error].is_ours
