"""The guard: which URLs are read, and which addresses may be connected to."""

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.engine.delivery.addresses import check_address, check_addresses, parse_target
from dayfly.engine.errors import AddressRefused, DeliverySettingsError

REFUSED = (
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.255",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:0:8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:10.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::8.8.8.8",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
)
PUBLIC = (
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.17",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4001::1",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
)


@pytest.mark.parametrize("text", REFUSED)
def test_an_address_that_is_not_public_is_refused(text: str) -> None:
    with pytest.raises(AddressRefused, match="must be public"):
        check_address(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_a_public_address_passes(text: str) -> None:
    check_address(ipaddress.ip_address(text))


@given(st.ip_addresses())
def test_what_passes_is_global_for_the_standard_library_too(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    try:
        check_address(address)
    except AddressRefused:
        return
    assert address.is_global
    kinds = (address.is_loopback, address.is_private, address.is_link_local, address.is_multicast)
    assert not any(kinds)


@given(st.ip_addresses(v=4))
def test_a_mapped_or_translated_address_passes_exactly_when_what_it_reaches_passes(
    address: ipaddress.IPv4Address,
) -> None:
    def passes(form: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        try:
            check_address(form)
        except AddressRefused:
            return False
        return True

    for prefix in ("::ffff:", "64:ff9b::"):
        assert passes(ipaddress.ip_address(f"{prefix}{address}")) == passes(address)


def test_an_allowed_network_lets_its_addresses_pass_and_no_others() -> None:
    allowed = [ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00:1::/32")]
    for text in ("10.1.0.0", "10.1.255.255", "fd00:1::9", "::ffff:10.1.2.3", "8.8.8.8"):
        check_address(ipaddress.ip_address(text), allowed=allowed)
    for text in ("10.0.255.255", "10.2.0.0", "fd00:2::9", "127.0.0.1", "::ffff:10.2.0.0"):
        with pytest.raises(AddressRefused, match="must be public"):
            check_address(ipaddress.ip_address(text), allowed=allowed)


def test_one_private_address_among_public_ones_refuses_the_name() -> None:
    with pytest.raises(AddressRefused, match=r"10\.0\.0\.1"):
        check_addresses(["8.8.8.8", "10.0.0.1"])
    assert check_addresses(["8.8.8.8", "1.1.1.1", "8.8.8.8"]) == ("8.8.8.8", "1.1.1.1")


def test_answers_that_are_no_addresses_are_refused() -> None:
    with pytest.raises(AddressRefused, match="must have at least one"):
        check_addresses([])
    with pytest.raises(AddressRefused, match="must be an IP address"):
        check_addresses(["crm.example"])
    with pytest.raises(AddressRefused, match="must have no zone"):
        check_addresses(["fe80::1%eth0"])


# --- URLs ------------------------------------------------------------------------------------------------------------


def test_a_url_is_taken_apart() -> None:
    target = parse_target("https://CRM.Example/hooks/7?tenant=a")
    assert (target.scheme, target.host, target.port, target.path, target.authority) == (
        "https",
        "crm.example",
        443,
        "/hooks/7?tenant=a",
        "crm.example",
    )
    assert parse_target("https://crm.example").path == "/"
    assert parse_target("https://[2606:4700::1111]/").host == "2606:4700::1111"
    odd = parse_target("https://[2606:4700::1111]:8443/", allow_ports=[8443])
    assert odd.authority == "[2606:4700::1111]:8443"
    assert parse_target("http://crm.example/", allow_http=True).port == 80


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "127.0.0.01",
        "1.2.3.4.5",
        "1.2.3.256",
        "0x",
        "1.2.3.4.",
    ],
)
def test_a_number_that_is_no_canonical_address_is_refused(host: str) -> None:
    with pytest.raises(DeliverySettingsError, match="four decimal numbers"):
        parse_target(f"https://{host}/")


def test_the_refused_numbers_are_what_the_system_would_take_for_addresses() -> None:
    """The reason for the rule above: the C library reads these as 127.0.0.1."""
    for host in ("2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1"):
        assert socket.inet_aton(host) == bytes([127, 0, 0, 1])


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http://crm.example/", "must begin with https://"),
        ("ftp://crm.example/", "must begin with https://"),
        ("//crm.example/", "must begin with https://"),
        ("https://user:pass@crm.example/", "no user information"),
        ("https://@crm.example/", "no user information"),
        ("https://crm.example@127.0.0.1/", "no user information"),
        ("https://crm.example/#x", "no fragment"),
        ("https://crm.example:22/", "port=22"),
        ("https://crm.example:80/", "port=80"),
        ("https://crm.example:99999/", "must be a URL"),
        ("https://[::1/", "must be a URL"),
        ("https:///path", "must be a DNS name"),
        ("https://-crm.example/", "must be a DNS name"),
        ("https://crm..example/", "must be a DNS name"),
        (f"https://{'a' * 64}.example/", "must be a DNS name"),
        ("https://crm.example\\@evil.example/", "printable ASCII"),
        ("https://crm.example/ x", "printable ASCII"),
        ("https://crm.example/\r\nX: y", "printable ASCII"),
        ("https://crm。example/", "printable ASCII"),
        ("https://①.example/", "printable ASCII"),
        ("https://crm.example/" + "a" * 2048, "at most 2048"),
        ("https://[fe80::1%25eth0]/", "must have no zone"),
    ],
)
def test_a_url_that_breaks_a_rule_is_refused(url: str, rule: str) -> None:
    with pytest.raises(DeliverySettingsError, match=rule) as caught:
        parse_target(url)
    assert "pass" not in str(caught.value) or "user:pass" not in str(caught.value)
