"""Name what was raised while a request was on its way."""

import errno
import ssl
from collections.abc import Iterator

import aiohttp
from aiohttp.http_exceptions import LineTooLong

from drf_webhooks.delivery.connections import HeaderTooLargeError, Phase, Trip
from drf_webhooks.delivery.exchange import InvalidAnswerError
from drf_webhooks.delivery.failures import ERRORS, Failure
from drf_webhooks.delivery.proxies import Proxy
from drf_webhooks.destination_rules import DestinationRefusedError

__all__ = ["failure"]

_DETAIL_CHARACTERS = 500


#: OpenSSL's numbers for what is wrong with a certificate (X509_V_ERR_…, x509_vfy.h).
_CERTIFICATE = {
    9: "tls_not_yet_valid",
    10: "tls_expired",
    18: "tls_self_signed",
    62: "tls_wrong_name",
    64: "tls_wrong_name",
}
_ERRNO = {
    errno.ECONNREFUSED: "connection_refused",
    errno.ECONNRESET: "connection_reset",
    errno.ECONNABORTED: "connection_reset",
    errno.EPIPE: "connection_reset",
    errno.EHOSTUNREACH: "host_unreachable",
    errno.EHOSTDOWN: "host_unreachable",
    errno.ENETUNREACH: "host_unreachable",
    errno.ENETDOWN: "host_unreachable",
    errno.ETIMEDOUT: "timeout_connect",
    errno.EMFILE: "local_error",
    errno.ENFILE: "local_error",
    errno.ENOBUFS: "local_error",
    errno.ENOMEM: "local_error",
    errno.EADDRNOTAVAIL: "local_error",
}
_TIMEOUTS = {
    Phase.LOOK_UP: "timeout_dns",
    Phase.CONNECT: "timeout_connect",
    Phase.HANDSHAKE: "timeout_tls",
    Phase.ANSWER: "timeout_total",
}
_PROXY_AUTH = 407
#: A gateway's words for a receiver that it could not reach (RFC 9110, section 15.6).
_UNREACHED = (502, 503, 504)


def failure(error: BaseException, trip: Trip, proxy: Proxy | None = None) -> Failure:
    """Say what an exception means.

    Args:
        error: What aiohttp, the resolver, or a timeout raised.
        trip: How far the request got.
        proxy: Where the connections go to, if not to the receiver.

    """
    chain = list(_chain(error))
    name = _name(error, chain, trip)
    if proxy is not None:
        name = _name_by_proxy(error, name, trip, proxy)
    return Failure(name, _detail(error, chain, name), trip.timing())


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    inner: BaseException | None = error
    while inner is not None and inner not in seen:
        yield inner
        seen.append(inner)
        inner = (
            getattr(inner, "os_error", None)
            or getattr(inner, "certificate_error", None)
            or inner.__cause__
            or inner.__context__
        )


def _name(error: BaseException, chain: list[BaseException], trip: Trip) -> str:
    """Name a failure as that of a receiver. The first line that fits decides."""
    if any(isinstance(each, DestinationRefusedError) for each in chain):
        return "destination_refused"
    # aiohttp's own class of this is one of them, without the number.
    wrong = [each for each in chain if isinstance(each, ssl.SSLCertVerificationError)]
    if wrong:
        return _CERTIFICATE.get(getattr(wrong[-1], "verify_code", 0), "tls_certificate")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "dns_error"
    if isinstance(error, TimeoutError) and getattr(error, "errno", None) is None:
        return _TIMEOUTS[trip.phase]
    if any(isinstance(each, ssl.SSLError) for each in chain):
        return "tls_error"
    for each in chain:
        if isinstance(each, OSError) and each.errno in _ERRNO:
            return _ERRNO[each.errno]
    if any(isinstance(each, aiohttp.ServerDisconnectedError | ConnectionError) for each in chain):
        return "connection_reset"
    if any(
        isinstance(each, LineTooLong | HeaderTooLargeError) or "Too many headers" in str(each)
        for each in chain
    ):
        return "header_too_large"
    if isinstance(error, ValueError):
        # aiohttp.InvalidURL is one, and so is what Python says of a name that is none.
        return "invalid_url"
    if isinstance(error, InvalidAnswerError | aiohttp.ClientPayloadError):
        return "invalid_response"
    return "connection_error"


def _name_by_proxy(error: BaseException, name: str, trip: Trip, proxy: Proxy) -> str:
    """Tell what a proxy did from what the receiver behind it did."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        if error.status == _PROXY_AUTH:
            return "proxy_auth"
        if error.status in _UNREACHED:
            return "proxied_connection"
        return "proxy_denied" if 400 <= error.status < 500 else "proxy_error"  # noqa: PLR2004  # HTTP's class
    if name in {"destination_refused", "invalid_url", "local_error", "timeout_total"}:
        return name
    if name == "timeout_tls":
        # The proxy's tunnel and the receiver's TLS: the proxy is there, the receiver is not.
        return "timeout_connect"
    if trip.phase in {Phase.LOOK_UP, Phase.CONNECT}:
        return "proxy_error"
    where = (getattr(error, "host", None), getattr(error, "port", None))
    if where == (proxy.host, proxy.port):
        return "proxy_error"
    # In the tunnel, and no word of a certificate: the proxy's answer is not one to CONNECT.
    is_tls = name.startswith("tls_")
    return name if trip.phase is Phase.ANSWER or is_tls else "proxy_error"


def _detail(error: BaseException, chain: list[BaseException], name: str) -> str:
    """Return what a person would want to read, in what a database can hold."""
    if name.startswith("timeout_"):
        text = ERRORS[name].meaning
    else:
        told = [each for each in chain if isinstance(each, ssl.SSLError)]
        inner = told[-1] if told else getattr(error, "os_error", error)
        said = getattr(inner, "verify_message", "") or getattr(inner, "message", "") or inner
        if isinstance(inner, aiohttp.ClientHttpProxyError):
            said = f"the proxy answered {inner.status} {said}"
        text = f"{type(inner).__name__}: {said}" if str(said) else type(inner).__name__
    # It may have words of the receiver's, and is shown on terminals too.
    return "".join(
        each if each.isprintable() or each == "\n" else "\ufffd"
        for each in text[:_DETAIL_CHARACTERS]
    )
