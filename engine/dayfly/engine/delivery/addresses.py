"""Where delivery may connect: the guard against requests to our own network (server-side request forgery).

A URL is checked when settings are read, an address each time a connection is made; the connection goes to exactly the address
that was checked, so a name that answers differently the second time gains nothing (OWASP SSRF prevention; RFC 6890 registries).
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from dayfly.engine.errors import AddressRefused, DeliverySettingsError

__all__ = ["Address", "Network", "Target", "check_address", "check_addresses", "parse_target"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_HTTPS_PORT: Final = 443
_HTTP_PORT: Final = 80
_MAX_URL_CHARS: Final = 2048
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
# Refused besides what `ipaddress` calls not global: its tables differ between Python releases.
_REFUSED: Final[tuple[Network, ...]] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade translation; 100.100.100.200 is a metadata service
        "127.0.0.0/8",
        "168.63.129.16/32",  # a cloud's host service on a public address
        "169.254.0.0/16",  # link-local; 169.254.169.254 is the usual metadata service
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; 192.0.0.192 is a metadata service
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "::/128",
        "::1/128",
        "64:ff9b:1::/48",  # local NAT64
        "100::/64",  # discard
        "2001::/23",  # protocol assignments, Teredo, ORCHID
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
        "5f00::/16",  # segment routing
        "fc00::/7",  # unique local; fd00:ec2::254 is a metadata service
        "fe80::/9",  # link-local, site-local
        "ff00::/8",
    )
)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Target:
    """A checked URL, taken apart."""

    scheme: str
    host: str
    """ASCII host name in lower case, or the literal of an address (IPv6 without brackets)."""
    port: int
    path: str
    """Path and query, as sent."""

    @property
    def authority(self) -> str:
        """Value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = _HTTPS_PORT if self.scheme == "https" else _HTTP_PORT
        return host if self.port == default else f"{host}:{self.port}"


def parse_target(url: str, *, allow_http: bool = False, allow_ports: Iterable[int] = ()) -> Target:
    """Take `url` apart after checking its form; addresses are checked when it is used.

    Args:
        url: Absolute URL of an endpoint.
        allow_http: Accept `http` as well; signatures then travel in the clear.
        allow_ports: Ports accepted besides the scheme's own.

    Raises:
        DeliverySettingsError: not https, user information, a fragment, a port that is not allowed, a host that is neither a
            canonical address nor a name (`0177.1`, `2130706433`, `0x7f.1` are none), or characters outside printable ASCII.
    """
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url or len(url) > _MAX_URL_CHARS:
        raise DeliverySettingsError(
            f"url={url[:80]!r} must be at most {_MAX_URL_CHARS} printable ASCII characters without blanks or backslashes; "
            "write the host in punycode and escape the rest with %"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise DeliverySettingsError(f"url={url!r} must be a URL ({error}); correct it") from None
    if "@" in parts.netloc:
        raise DeliverySettingsError(
            "url must hold no user information before the host; authenticate by the signature instead"
        )
    if parts.scheme != "https" and not (allow_http and parts.scheme == "http"):
        raise DeliverySettingsError(
            f"url={url!r} must begin with https://; use https, or set allow_http: true for this endpoint"
        )
    if "#" in url:
        raise DeliverySettingsError(f"url={url!r} must have no fragment; leave out # and what follows")
    own = _HTTPS_PORT if parts.scheme == "https" else _HTTP_PORT
    port = own if port is None else port
    if port != own and port not in allow_ports:
        raise DeliverySettingsError(
            f"port={port} of url={url!r} must be {own} or listed; add it to allow_ports of this endpoint"
        )
    path = parts.path or "/"
    return Target(
        parts.scheme, _host(parts.hostname or ""), port, f"{path}?{parts.query}" if parts.query else path
    )


def check_address(address: Address, *, allowed: Sequence[Network] = ()) -> None:
    """Let pass a public unicast address, or one of an allowed network.

    IPv6 forms under which an IPv4 address is reached (mapped, NAT64) are judged as that address.

    Raises:
        AddressRefused: loopback, private, link-local, multicast, reserved, transition, metadata service, or not specified.
    """
    reached = _reached(address)
    if any(reached in network or address in network for network in allowed):
        return
    if (
        not reached.is_global
        or reached.is_multicast
        or reached.is_reserved
        or any(reached in network for network in _REFUSED)
    ):
        raise AddressRefused(
            f"address={address} must be public; correct the endpoint's name, or list the network in allow_networks"
        )


def check_addresses(texts: Sequence[str], *, allowed: Sequence[Network] = ()) -> tuple[str, ...]:
    """All addresses of a name, in order, each of which passes `check_address`.

    One refused address refuses the name: an answer that mixes public and private addresses is an attack or a mistake.

    Raises:
        AddressRefused: no address, an address with a zone, or one that may not be connected to.
    """
    if not texts:
        raise AddressRefused("addresses=[] must have at least one; correct the endpoint's host name")
    checked = []
    for text in texts:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise AddressRefused(f"address={text!r} must be an IP address; check the resolver") from None
        if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
            raise AddressRefused(f"address={text!r} must have no zone; link-local addresses are refused")
        check_address(address, allowed=allowed)
        checked.append(str(address))
    return tuple(dict.fromkeys(checked))


def _reached(address: Address) -> Address:
    """The IPv4 address that a connection to `address` ends at, where it is one."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _host(host: str) -> str:
    """Canonical host, or an error: whatever looks like a number must be a canonical address."""
    if ":" in host:
        if "%" in host:
            raise DeliverySettingsError(f"host={host!r} must have no zone; use a public address")
        return str(ipaddress.IPv6Address(host))
    name = host.removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise DeliverySettingsError(
                f"host={host!r} must be a name or four decimal numbers without leading zeros; write the address in full"
            ) from None
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise DeliverySettingsError(
            f"host={host!r} must be a DNS name in ASCII; write international names in punycode"
        )
    return name
