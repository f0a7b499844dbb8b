"""Why there was no answer: each failure a word that a person understands, and whose fault it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from django.utils.translation import gettext_noop as _

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
    "dns_error": Kind(_("the name has no address, or nobody could be asked for it")),
    "timeout_dns": Kind(_("the look-up of the name did not end in time")),
    "destination_refused": Kind(
        _("the address, the host, the port or the scheme is one that must not be used")
    ),
    "connection_refused": Kind(_("nobody listens at the port")),
    "host_unreachable": Kind(_("no way leads to the address")),
    "timeout_connect": Kind(_("no connection was made in time")),
    "connection_reset": Kind(_("the connection was cut before an answer")),
    "connection_error": Kind(_("another failure of the connection")),
    "tls_expired": Kind(_("the certificate has expired")),
    "tls_not_yet_valid": Kind(_("the certificate is not valid yet")),
    "tls_wrong_name": Kind(_("the certificate is for another name")),
    "tls_self_signed": Kind(_("the certificate is signed by itself")),
    "tls_certificate": Kind(_("the certificate is not trusted for another reason")),
    "tls_error": Kind(_("no TLS was agreed on; often the port speaks plain HTTP")),
    "timeout_tls": Kind(_("connected, but TLS was not agreed on in time")),
    "timeout_total": Kind(_("the request was sent, but no answer came in time")),
    "invalid_response": Kind(_("what came is no HTTP")),
    "header_too_large": Kind(_("the answer has more headers than anybody needs")),
    "proxied_connection": Kind(_("the proxy could not connect to the receiver")),
    "proxy_denied": Kind(_("the proxy does not let anybody connect to the receiver")),
    "proxy_auth": Kind(_("the proxy wants other credentials"), is_ours=True),
    "proxy_error": Kind(_("the proxy cannot be reached, or does not work"), is_ours=True),
    "invalid_url": Kind(_("the URL cannot be requested")),
    "format_error": Kind(_("the message cannot be written in the endpoint's format"), is_ours=True),
    "secret_error": Kind(_("the endpoint's secret or headers cannot be decrypted"), is_ours=True),
    "local_error": Kind(_("this machine has no room for another connection"), is_ours=True),
    "internal_error": Kind(_("a defect of this library; the log has the traceback"), is_ours=True),
}


@dataclass(slots=True)
class Failure:
    """Why there is no answer: a key of ``ERRORS``, and the details."""

    error: str
    detail: str
    timing: Timing = NO_TIMING

    def __post_init__(self) -> None:
        # Python has halves of surrogate pairs in names that are no UTF-8, and errors show such
        # names. No database takes them.
        self.detail = self.detail.encode(errors="replace").decode()

    @property
    def is_ours(self) -> bool:
        """Whether the endpoint is not to blame, and its health not to suffer."""
        return ERRORS[self.error].is_ours
