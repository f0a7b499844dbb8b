"""Where a project lets requests go: one answer when a URL is saved and when it is used."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from django.http.request import validate_host

from drf_webhooks.addresses import Address, Network, ports, translated, unmapped, why_special
from drf_webhooks.conf import Config
from drf_webhooks.endpoint_urls import EndpointURL, host_pattern

__all__ = ["DestinationRefusedError", "Rules"]


class DestinationRefusedError(OSError):
    """An address, or a name that leads to one, may not be connected to."""


@dataclass(frozen=True)
class Rules:
    """The settings, read. What is denied is denied, whatever else allows it."""

    https_only: bool
    allowed_networks: tuple[Network, ...]
    denied_networks: tuple[Network, ...]
    allowed_hosts: tuple[str, ...]
    denied_hosts: tuple[str, ...]
    allowed_ports: tuple[range, ...]
    denied_ports: tuple[range, ...]

    @classmethod
    def of(cls, settings: Config) -> "Rules":
        """Read them from the settings, once for each value."""
        return _rules(
            settings.HTTPS_ONLY,
            tuple(settings.ALLOWED_NETWORKS),
            tuple(settings.DENIED_NETWORKS),
            tuple(settings.ALLOWED_HOSTS),
            tuple(settings.DENIED_HOSTS),
            tuple(settings.ALLOWED_PORTS),
            tuple(settings.DENIED_PORTS),
        )

    def check(self, url: EndpointURL) -> None:
        """Refuse what can be seen without a look-up: scheme, host, port, an address.

        Raises:
            DestinationRefusedError: a setting does not allow it; says which.

        """
        self._check_port(url.port)
        self._check_host(url)
        if url.address is not None:
            self.check_address(url.host)
        if url.scheme == "http" and self.https_only and not self._is_opened(url.address):
            msg = "http is refused (HTTPS_ONLY), save to an address in ALLOWED_NETWORKS"
            raise DestinationRefusedError(msg)

    def check_address(self, text: str) -> str:
        """Return the address to connect to, unless it is one that may not be reached.

        Args:
            text: An IPv4 or IPv6 address.

        Raises:
            DestinationRefusedError: it is refused, or it is no address.

        """
        number, _, zone = text.partition("%")
        try:
            address = unmapped(ipaddress.ip_address(number))
        except ValueError as error:
            msg = f"{text!r} is no address"
            raise DestinationRefusedError(msg) from error
        why = self._why_refused(address)
        if why is not None:
            msg = f"{address} is refused: {why}"
            raise DestinationRefusedError(msg)
        return f"{address}%{zone}" if zone else str(address)

    def is_named(self, host: str) -> bool:
        """Whether a host stands in ``ALLOWED_HOSTS`` by itself."""
        return host in self.allowed_hosts

    def _why_refused(self, address: Address) -> str | None:
        if _is_in(address, self.denied_networks):
            return "in DENIED_NETWORKS"
        why = why_special(address)
        if why is not None and not _is_in(address, self.allowed_networks):
            return why
        inner = translated(address)
        return None if inner is None else self._why_refused(inner)

    def _is_opened(self, address: Address | None) -> bool:
        return address is not None and _is_in(address, self.allowed_networks)

    def _check_port(self, port: int) -> None:
        if any(port in each for each in self.denied_ports):
            msg = f"port {port} is refused: in DENIED_PORTS"
            raise DestinationRefusedError(msg)
        if not any(port in each for each in self.allowed_ports):
            allowed = ", ".join(map(_range, self.allowed_ports))
            msg = f"port {port} is refused: ALLOWED_PORTS has {allowed or 'none'}"
            raise DestinationRefusedError(msg)

    def _check_host(self, url: EndpointURL) -> None:
        if validate_host(url.host, self.denied_hosts):
            msg = f"host {url.host} is refused: in DENIED_HOSTS"
            raise DestinationRefusedError(msg)
        if not validate_host(url.host, self.allowed_hosts):
            msg = f"host {url.host} is refused: not in ALLOWED_HOSTS"
            raise DestinationRefusedError(msg)
        if url.address is None and "." not in url.host and not self.is_named(url.host):
            msg = (
                f"host {url.host} is refused: a name without a dot means something else on each "
                "network; write the whole name, or name it in ALLOWED_HOSTS"
            )
            raise DestinationRefusedError(msg)


@lru_cache(maxsize=16)
def _rules(
    https_only: bool,
    networks: tuple[str, ...],
    denied_networks: tuple[str, ...],
    hosts: tuple[str, ...],
    denied_hosts: tuple[str, ...],
    open_ports: tuple[int | str, ...],
    denied_ports: tuple[int | str, ...],
) -> Rules:
    return Rules(
        https_only,
        tuple(ipaddress.ip_network(each) for each in networks),
        tuple(ipaddress.ip_network(each) for each in denied_networks),
        tuple(host_pattern(each) for each in hosts),
        tuple(host_pattern(each) for each in denied_hosts),
        tuple(ports(each) for each in open_ports),
        tuple(ports(each) for each in denied_ports),
    )


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _range(each: range) -> str:
    return str(each.start) if len(each) == 1 else f"{each.start}-{each.stop - 1}"
