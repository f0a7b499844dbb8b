"""Whom TLS trusts: the project's CA bundle, or the system's; the environment is not asked."""

import ssl
from functools import lru_cache
from pathlib import Path

from drf_webhooks.exceptions import ConfigurationError

__all__ = ["has_authorities", "tls_context"]


def tls_context(bundle: str | None) -> ssl.SSLContext:
    """Return the context for receivers, and for a proxy that speaks TLS.

    Made once for each state of the file: to load the authorities takes some 20 ms.

    Args:
        bundle: A file of CA certificates in PEM form; ``None`` for those of the system.

    Raises:
        ConfigurationError: the file cannot be read, or has no certificate in it.

    """
    if bundle is None:
        return _system()
    try:
        return _of_file(bundle, Path(bundle).stat().st_mtime_ns)
    except OSError as error:
        # Of them are ssl's errors. OpenSSL says "no certificate or crl found" for an empty file.
        why = error.strerror or error
        msg = f"DRF_WEBHOOKS['CA_BUNDLE'] is {bundle!r}, which is of no use: {why}."
        raise ConfigurationError(msg) from error


def has_authorities() -> bool:
    """Tell whether the system has authorities where OpenSSL was built to look for them."""
    return any(_places())


@lru_cache(maxsize=8)
def _of_file(bundle: str, _changed: int) -> ssl.SSLContext:
    return _context(cafile=bundle)


@lru_cache(maxsize=1)
def _system() -> ssl.SSLContext:
    file, folder = _places()
    if file or folder:
        return _context(cafile=file, capath=folder)
    # Without a place given Python would look where the environment says.
    return _speaking(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def _places() -> tuple[str | None, str | None]:
    """Return OpenSSL's own file and folder, where they exist; not those of ``SSL_CERT_FILE``."""
    paths = ssl.get_default_verify_paths()
    file, folder = Path(paths.openssl_cafile), Path(paths.openssl_capath)
    return (str(file) if file.is_file() else None, str(folder) if folder.is_dir() else None)


def _context(*, cafile: str | None = None, capath: str | None = None) -> ssl.SSLContext:
    return _speaking(ssl.create_default_context(cafile=cafile, capath=capath))


def _speaking(context: ssl.SSLContext) -> ssl.SSLContext:
    context.set_alpn_protocols(["http/1.1"])
    return context
