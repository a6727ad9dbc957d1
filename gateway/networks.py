"""Which addresses this installation may connect to because a stranger said so, and which of them are itself.

MX records, routes and policy hosts are words of others: without this, whoever owns a domain could have us connect to
the services of our own network. `Reachable` says no to loopback, private, link-local, shared, reserved, documentation
and multicast addresses, also where they hide inside an IPv6 address, unless the operator named the network.

Standards: the IANA registries of special-purpose addresses (RFC 6890), RFC 4291 §2.5.5.2 (IPv4-mapped), RFC 6052
(NAT64), RFC 3056 (6to4).
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# The table is our own: what `ipaddress` calls global differs from one release of Python to the next.
_NOT_PUBLIC_4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network (RFC 791)
        "10.0.0.0/8",  # private (RFC 1918)
        "100.64.0.0/10",  # shared between customers of a provider (RFC 6598)
        "127.0.0.0/8",  # loopback (RFC 1122)
        "169.254.0.0/16",  # link-local, and where clouds tell secrets (RFC 3927)
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments (RFC 6890)
        "192.0.2.0/24",  # documentation (RFC 5737)
        "192.88.99.0/24",  # 6to4 relays, withdrawn (RFC 7526)
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks (RFC 2544)
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_GLOBAL_UNICAST_6 = IPv6Network("2000::/3")  # all else is reserved, local or multicast (RFC 4291 §2.4)
_NOT_PUBLIC_6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, with Teredo, benchmarks and ORCHID (RFC 2928)
        "2001:db8::/32",  # documentation (RFC 3849)
        "3fff::/20",  # documentation (RFC 9637)
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")  # the last 32 bits are an IPv4 address (RFC 6052 §2.1)
_6TO4 = IPv6Network("2002::/16")  # the next 32 bits are one (RFC 3056 §2)


def is_public(address: str | Address) -> bool:
    """Whether it is an ordinary address of the internet; False for what is no address."""
    parsed = _parse(address)
    if parsed is None:
        return False
    if isinstance(parsed, IPv4Address):
        return not any(parsed in network for network in _NOT_PUBLIC_4)
    if parsed in _NAT64:
        return is_public(IPv4Address(int(parsed) & 0xFFFFFFFF))
    if parsed in _6TO4:
        return is_public(IPv4Address(int(parsed) >> 80 & 0xFFFFFFFF))
    return parsed in _GLOBAL_UNICAST_6 and not any(parsed in network for network in _NOT_PUBLIC_6)


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Raises ValueError for what is no network."""
    return tuple(ip_network(text) for text in texts)


class Reachable:
    """What the queue, call-outs and policy fetches may connect to.

    `allowed`: networks that are not public and may be reached all the same. `own`: where this installation listens;
    0.0.0.0 and :: stand for all addresses of this machine.
    """

    def __init__(self, allowed: Sequence[Network] = (), own: Collection[tuple[str, int]] = ()) -> None:
        self._allowed = tuple(allowed)
        self._own = {(parsed, port) for address, port in own if (parsed := _parse(address)) is not None}
        self._own_everywhere = {port for address, port in self._own if address.is_unspecified}

    def permits(self, address: str | Address) -> bool:
        parsed = _parse(address)
        return parsed is not None and (is_public(parsed) or any(parsed in network for network in self._allowed))

    def is_ourselves(self, address: str | Address, port: int) -> bool:
        """Whether a connection there would end at this installation: a loop (RFC 5321 §6.3)."""
        parsed = _parse(address)
        if parsed is None:
            return False
        if (parsed, port) in self._own:
            return True
        return port in self._own_everywhere and is_of_this_machine(parsed)


def is_of_this_machine(address: Address) -> bool:
    """Asks the kernel: a socket can be bound to an address of this machine only."""
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return not address.is_multicast


def _parse(address: str | Address) -> Address | None:
    """With an IPv4-mapped one as what it is to the kernel; None for one with a zone, which is local by nature."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address):
        if parsed.scope_id is not None:
            return None
        return parsed.ipv4_mapped or parsed
    return parsed
