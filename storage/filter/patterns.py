"""Whom an entry of an allow or deny list names: an address, a domain, what is below a domain, or a network.

    ada@example.org    one address, whatever follows a + in it
    @example.org       every address of exactly this domain
    @.example.org      every address of the domains below it, not of itself
    192.0.2.0/24       every client of a network; an address alone is a network of one

What is nearer to one sender is more specific: an address before its domain, that before what is below a domain, that
before a network; of two of a kind the longer one.

Pure. Raises: InvalidInput, with one sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from storage.errors import InvalidInput
from storage.values import Domain, EmailAddress

Network: TypeAlias = IPv4Network | IPv6Network
Address: TypeAlias = IPv4Address | IPv6Address

_WIDEST = {4: 8, 6: 16}  # a larger network is a slip of the pen
_ADDRESS, _DOMAIN, _BELOW = 3000, 2000, 1000  # below that is the length of a network's prefix


def parse_pattern(text: str) -> str:
    """The one way in which the list writes what `text` names."""
    text = text.strip()
    if text.startswith("@."):
        return "@." + Domain.parse(text[2:]).name
    if text.startswith("@"):
        return "@" + Domain.parse(text[1:]).name
    if "@" in text:
        return EmailAddress.parse(text).key
    network = as_network(text)
    if network is None:
        raise InvalidInput(f"'{text[:80]}' is no address, @domain, @.domain or network.")
    if network.prefixlen < _WIDEST[network.version]:
        raise InvalidInput(
            f"The network {network} is too large for a list; /{_WIDEST[network.version]} is the largest."
        )
    return str(network)


def as_network(text: str) -> Network | None:
    """IPv4 addresses that are written as IPv6 become IPv4. None for a text that is no network."""
    try:
        network = ip_network(text)
    except ValueError:
        return None
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        return IPv4Network((mapped, network.prefixlen - 96))
    return network


def as_address(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def patterns_of(address: EmailAddress) -> Iterator[tuple[str, int]]:
    """Every pattern that names the address, the most specific one first, and how specific it is."""
    yield address.key, _ADDRESS + 1
    base = address.base
    if base is not address:
        yield base.key, _ADDRESS
    yield from patterns_of_domain(address.domain.name)


def patterns_of_domain(name: str) -> Iterator[tuple[str, int]]:
    """Those that name every address of the domain; `name` in lower-case A-labels."""
    yield "@" + name, _DOMAIN
    labels = name.split(".")
    for start in range(1, len(labels) - 1):
        yield "@." + ".".join(labels[start:]), _BELOW + len(labels) - start
