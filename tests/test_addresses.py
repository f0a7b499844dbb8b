"""Our table of addresses agrees with IANA's, and with itself in each wrapping."""

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drf_webhooks.addresses import has_special, ports, translated, unmapped, why_special


def why(text: str) -> str | None:
    return why_special(unmapped(ipaddress.ip_address(text)))


#: Both ends of each network of the two registries, what the standard library is told to be
#: special too, and what is not there any more.
SPECIAL = """
    0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24
    192.0.2.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24
    198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
    ::/96 ::1/128 ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23
    2001::/32 2001:1::1/128 2001:1::2/128 2001:1::3/128 2001:2::/48 2001:3::/32 2001:4:112::/48
    2001:10::/28 2001:20::/28 2001:30::/28 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20
    5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8 4000::/3 1000::/4
"""


#: What lies beside them, and is on the internet.
BESIDE = """
    1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0
    169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.0.3.0 192.167.255.255
    192.169.0.0 198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0
    223.255.255.255 2000:: 2001:200:: 2001:db7:ffff:: 2001:db9:: 2003:: 2606:4700::1111
    2620:4f:7fff:: 2620:4f:8001:: 3ffe:: 3fff:1000:: ::ffff:1.1.1.1
"""


@pytest.mark.parametrize("network", SPECIAL.split())
def test_a_special_network_is_special_to_both_ends(network: str) -> None:
    read = ipaddress.ip_network(network)

    assert why_special(read.network_address)
    assert why_special(read.broadcast_address)
    assert has_special(read)


@pytest.mark.parametrize("address", BESIDE.split())
def test_what_lies_beside_is_not(address: str) -> None:
    assert why(address) is None


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("::1", "loopback"),
        ("::127.0.0.1", "IPv4-compatible"),
        ("::ffff:0:127.0.0.1", "IPv4-translated (SIIT)"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:169.254.169.254", "link-local, cloud metadata"),
        ("64:ff9b::a9fe:a9fe", "NAT64"),
        ("2001:0:4136:e378:8000:63bf:80ff:fffe", "Teredo"),
        ("2606:4700::5efe:7f00:1", "ISATAP"),
        ("2606:4700::200:5efe:7f00:1", "ISATAP"),
        ("fec0::1", "private (site-local)"),
        ("4000::1", "not on the public internet"),
    ],
)
def test_it_says_why(address: str, said: str) -> None:
    assert why(address) == said


@given(st.ip_addresses(v=4))
def test_an_address_that_another_one_holds_is_not_reached(address: Any) -> None:
    high, low = int(address) >> 16, int(address) & 0xFFFF
    for wrapped in (
        f"::{address}",
        f"::ffff:0:{address}",
        f"64:ff9b::{address}",
        f"64:ff9b:1::{address}",
        f"2002:{high:x}:{low:x}::1",
        f"2001:0:{high:x}:{low:x}::",
        f"2606:4700::5efe:{high:x}:{low:x}",
    ):
        assert why(wrapped)
    assert why(f"::ffff:{address}") == why(str(address))
    assert translated(ipaddress.ip_address(f"64:ff9b::{address}")) == address


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_it_lets_nothing_through_that_the_standard_library_refuses(address: Any) -> None:
    if why_special(unmapped(address)) is None:
        assert unmapped(address).is_global
        assert not unmapped(address).is_multicast


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("0.0.0.0/0", True),
        ("8.0.0.0/5", True),
        ("10.1.2.3/32", True),
        ("93.184.216.0/24", False),
        ("::/0", True),
        ("2000::/3", True),
        ("2606:4700::/32", False),
    ],
)
def test_a_network_is_special_if_a_part_of_it_is(network: str, *, expected: bool) -> None:
    assert has_special(ipaddress.ip_network(network)) is expected


def test_ports_are_numbers_and_ranges() -> None:
    assert ports(443) == ports("443") == range(443, 444)
    assert ports("1024-65535") == range(1024, 65536)


@pytest.mark.parametrize("text", ["", "a", 0, "0-5", "9-5", 65536, "1-65536", "80,443", -5])
def test_what_are_no_ports_is_refused(text: int | str) -> None:
    with pytest.raises(ValueError, match=r"not within|invalid literal"):
        ports(text)
