"""The grammar of URLs: what each rule says, and that it reads what others read."""

from ipaddress import ip_address
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from drf_webhooks.endpoint_urls import EndpointURL, EndpointURLError, host_pattern, parse, shown


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "does not start with http"),
        ("//a.example/", "does not start with http"),
        ("http:/a.example/", "does not start with http"),
        ("http:a.example", "does not start with http"),
        ("ftp://a.example/", "does not start with http"),
        ("http+unix://a.example/", "does not start with http"),
        (" https://a.example/", "a space"),
        ("https://a.example/\tb", "a control character"),
        ("https://a.example/\x7f", "a control character"),
        ("https://a.example/\u2028", "a control character"),
        ("https://a\u200b.example/", "a control character"),
        ("https://a.example/\ud800", "a control character"),
        ("https:\\\\a.example\\", "a backslash"),
        ("https://a.example#b", "a fragment"),
        ("https://a.example/?b#", "a fragment"),
        ("https://u@a.example/", "a user name or password"),
        ("https://@a.example/", "a user name or password"),
        ("https://%61.example/", "a percent sign"),
        ("https://[fe80::1%25eth0]/", "a percent sign"),
        ("https://[::1", "brackets that are none"),
        ("https://[::1]a.example/", "brackets that are none"),
        ("https://a[::1]/", "brackets that are none"),
        ("https://[]/", "brackets around what is no IPv6 address"),
        ("https://[127.0.0.1]/", "brackets around what is no IPv6 address"),
        ("https:///a", "names no host"),
        ("https://:80/", "names no host"),
        ("https://::1/", "names no host"),
        ("https://a.example:/", "has the port ''"),
        ("https://a.example:0/", "has port 0"),
        ("https://a.example:00/", "has the port '00'"),
        ("https://a.example:080/", "has the port '080'"),
        ("https://a.example:65536/", "has the port '65536'"),
        ("https://a.example:٤٤٣/", "has the port"),
        ("https://a.example:80:80/", "has the port '80:80'"),
        ("https://127.1/", "that some programs read as an address"),
        ("https://127.0.0.1./", "that some programs read as an address"),
        ("https://127.0.0.01/", "that some programs read as an address"),
        ("https://0x7f000001/", "that some programs read as an address"),
        ("https://0X7F.1/", "that some programs read as an address"),
        ("https://a.0x/", "that some programs read as an address"),
        ("https://１２７.0.0.1/", "that some programs read as an address"),  # noqa: RUF001  # the trick
        ("https://./", "no name and no address"),
        ("https://a..example/", "no name and no address"),
        ("https://a.example../", "no name and no address"),
        ("https://-a.example/", "no name and no address"),
        ("https://a-.example/", "no name and no address"),
        ("https://a!.example/", "no name and no address"),
        (f"https://{'a' * 64}.example/", "no name and no address"),
        (f"https://{'ä.' * 50}{'ö' * 60}.example/", "is no name"),
        (f"https://{'a.' * 126}example/", "more than 253 characters"),
        (f"https://{'a.' * 123}examples/", "no name and no address"),
        ("https://ä.\u0338x.example/", "no name"),
    ],
)
def test_a_rule_says_what_is_wrong(url: str, said: str) -> None:
    with pytest.raises(EndpointURLError, match=said.replace("(", r"\(")):
        parse(url)


@pytest.mark.parametrize(
    ("url", "host", "text"),
    [
        ("HTTPS://A.Example", "a.example", "https://a.example/"),
        ("https://a.example:443?b", "a.example", "https://a.example/?b"),
        ("http://a.example:443/B/", "a.example", "http://a.example:443/B/"),
        ("http://a.example.:80/", "a.example", "http://a.example/"),
        ("https://a_1.example/ü?ü", "a_1.example", "https://a_1.example/ü?ü"),
        ("https://xn--n-iga.example/", "xn--n-iga.example", "https://xn--n-iga.example/"),
        ("https://ünï.example/", "xn--n-nga1b.example", "https://xn--n-nga1b.example/"),
        ("https://straße.example/", "xn--strae-oqa.example", "https://xn--strae-oqa.example/"),
        ("https://a。example/", "a.example", "https://a.example/"),
        ("https://93.184.216.34/", "93.184.216.34", "https://93.184.216.34/"),
        ("https://[2606:4700:0::1]:8443/", "2606:4700::1", "https://[2606:4700::1]:8443/"),
        ("https://[::ffff:93.184.216.34]/", "93.184.216.34", "https://93.184.216.34/"),
        ("https://a.example//b/@c", "a.example", "https://a.example//b/@c"),
    ],
)
def test_a_url_is_put_together_from_its_parts(url: str, host: str, text: str) -> None:
    read = parse(url)

    assert (read.host, read.text) == (host, text)


def test_an_address_is_one() -> None:
    assert parse("https://93.184.216.34/") == EndpointURL(
        "https", "93.184.216.34", 443, "/", ip_address("93.184.216.34")
    )
    assert parse("https://a.example/").address is None


@given(
    st.one_of(
        st.from_regex(r"https?://[a-z0-9._:\[\]-]{1,30}([/?][!-~]{0,20})?", fullmatch=True),
        st.builds("https://{}/{}".format, st.text(max_size=15), st.text(max_size=9)),
    )
)
def test_others_read_the_same_of_what_is_put_together(url: str) -> None:
    try:
        read = parse(url)
    except EndpointURLError:
        return

    target, parts = URL(read.text), urlsplit(read.text)
    assert (target.scheme, target.raw_host, target.port) == (read.scheme, read.host, read.port)
    assert (parts.scheme, parts.hostname) == (read.scheme, read.host)
    assert parse(read.text) == read


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("*", "*"),
        ("A.Example.", "a.example"),
        (".ünï.example", ".xn--n-nga1b.example"),
        ("localhost", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("2606:4700:0::1", "2606:4700::1"),
    ],
)
def test_patterns_of_hosts_are_read(text: str, pattern: str) -> None:
    assert host_pattern(text) == pattern


@pytest.mark.parametrize("text", ["", ".", "*.example", "https://a.example", "a.example:80", "a/b"])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(EndpointURLError):
        host_pattern(text)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://u:s3cret@a.example/?t=s3cret", "https://a.example/"),
        ("https:/u:s3cret@a.example/", "a.example/"),
        ("u:s3cret@a.example", "a.example"),
        (f"https://a.example/{'b' * 999}", f"https://a.example/{'b' * 182}"),
    ],
)
def test_a_message_has_no_secret(url: str, text: str) -> None:
    assert shown(url) == text
