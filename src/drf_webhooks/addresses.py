"""Which addresses are not on the public internet: IANA's special-purpose registries, as a table.

The table is our own: ``ipaddress.is_global`` and its like differ between patch releases of
Python, and let loopback through in some of its wrapped forms. It refuses more than the
registries do: what they call global may still be answered by a machine next door (anycast).
"""

import ipaddress

__all__ = [
    "Address",
    "Network",
    "has_special",
    "is_public",
    "ports",
    "translated",
    "unmapped",
    "why_special",
]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: iana.org/assignments/iana-ipv4-special-registry, with multicast (RFC 5771).
_SPECIAL_4 = {
    ipaddress.IPv4Network(network): why
    for network, why in {
        "0.0.0.0/8": "this network",
        "10.0.0.0/8": "private",
        "100.64.0.0/10": "shared by carriers",
        "127.0.0.0/8": "loopback",
        "169.254.0.0/16": "link-local, cloud metadata",
        "172.16.0.0/12": "private",
        "192.0.0.0/24": "protocol assignments",
        "192.0.2.0/24": "documentation",
        "192.31.196.0/24": "AS112",
        "192.52.193.0/24": "multicast relays (AMT)",
        "192.88.99.0/24": "6to4 relay",
        "192.168.0.0/16": "private",
        "192.175.48.0/24": "AS112",
        "198.18.0.0/15": "benchmarking",
        "198.51.100.0/24": "documentation",
        "203.0.113.0/24": "documentation",
        "224.0.0.0/4": "multicast",
        "240.0.0.0/4": "reserved",
    }.items()
}

#: All of IPv6 that is given out for the internet (iana.org/assignments/ipv6-address-space).
_GLOBAL_6 = ipaddress.IPv6Network("2000::/3")
#: iana.org/assignments/iana-ipv6-special-registry, and what was one of it. The first that has
#: the address says why.
_SPECIAL_6 = {
    ipaddress.IPv6Network(network): why
    for network, why in {
        "::/128": "unspecified",
        "::1/128": "loopback",
        "::/96": "IPv4-compatible",
        "::ffff:0:0:0/96": "IPv4-translated (SIIT)",
        "64:ff9b::/96": "NAT64",
        "64:ff9b:1::/48": "NAT64 of the own network",
        "100::/64": "discarded",
        "100:0:0:1::/64": "a dummy",
        "2001::/32": "Teredo",
        "2001:2::/48": "benchmarking",
        "2001:3::/32": "multicast relays (AMT)",
        "2001:4:112::/48": "AS112",
        "2001:10::/28": "ORCHID",
        "2001:20::/28": "ORCHID",
        "2001:30::/28": "tags of drones (DRIP)",
        "2001::/23": "protocol assignments",
        "2001:db8::/32": "documentation",
        "2002::/16": "6to4",
        "2620:4f:8000::/48": "AS112",
        "3fff::/20": "documentation",
        "5f00::/16": "SRv6 segments",
        "fc00::/7": "private (unique local)",
        "fe80::/10": "link-local",
        "fec0::/10": "private (site-local)",
        "ff00::/8": "multicast",
    }.items()
}
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
#: The middle of an ISATAP interface identifier, RFC 5214, section 6.1, without the u and g bits.
_ISATAP = 0x00005EFE
_HIGHEST_PORT = 65535


def why_special(address: Address) -> str | None:
    """Say in a few words why an address is not one of the public internet, if it is not.

    An IPv6 address that holds one of IPv4 is special whatever it holds, save where
    ``unmapped()`` has taken that out.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return next((why for network, why in _SPECIAL_4.items() if address in network), None)
    if (int(address) >> 32 & 0xFCFFFFFF) == _ISATAP:
        return "ISATAP"
    why = next((why for network, why in _SPECIAL_6.items() if address in network), None)
    if why is None and address not in _GLOBAL_6:
        return "not on the public internet"
    return why


def has_special(network: Network) -> bool:
    """Tell whether any address of a network is not one of the public internet."""
    if isinstance(network, ipaddress.IPv4Network):
        return any(network.overlaps(each) for each in _SPECIAL_4)
    return not network.subnet_of(_GLOBAL_6) or any(network.overlaps(each) for each in _SPECIAL_6)


def is_public(address: Address) -> bool:
    """Tell whether who answers at an address is on the public internet."""
    inner = translated(address)
    return why_special(unmapped(address) if inner is None else inner) is None


def unmapped(address: Address) -> Address:
    """Return the IPv4 address that a socket for ``::ffff:a.b.c.d`` would connect to."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def translated(address: Address) -> ipaddress.IPv4Address | None:
    """Return where NAT64 would send what goes to an address of its well-known prefix."""
    if isinstance(address, ipaddress.IPv6Address) and address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def ports(text: int | str) -> range:
    """Read ``443`` or ``"1024-65535"``.

    Raises:
        ValueError: it is neither, or leads beyond 1 to 65535.

    """
    first, _, last = str(text).partition("-")
    lowest, highest = int(first), int(last or first)
    if not 1 <= lowest <= highest <= _HIGHEST_PORT:
        msg = f"{text!r} is not within 1 to {_HIGHEST_PORT}"
        raise ValueError(msg)
    return range(lowest, highest + 1)
