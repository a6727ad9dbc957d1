"""Which addresses are public, which may be reached, which are our own."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.networks import Reachable, is_public, networks

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "172.15.255.255",
    "172.32.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "192.0.3.1",
    "223.255.255.255",
    "2a00:1450::1",
    "2606:4700::1111",
    "2001:200::1",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:0808:0808::1",
]
NOT_PUBLIC = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.7",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",  # IPv4-compatible, withdrawn
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:7f00:1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "64:ff9b:1::808:808",  # local NAT64 (RFC 8215)
    "2002:7f00:1::1",
    "2002:c0a8:101::1",
    "2001::1",  # Teredo
    "2001:db8::1",
    "3fff::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "2a00:1450::1%1",
    "fec0::1",
    "ff02::1",
    "4000::1",
    "100::1",
    "",
    "localhost",
    "1.2.3",
    "017.0.0.1",
    "0x7f000001",
    "2130706433",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    assert is_public(address)
    assert Reachable().permits(address)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_not_public(address: str) -> None:
    assert not is_public(address)
    assert not Reachable().permits(address)


@given(st.ip_addresses())
def test_whatever_is_public_is_public_to_python_too(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if is_public(address) and not (address.version == 6 and (address.is_reserved or address.sixtofour)):
        assert not (address.is_private or address.is_loopback or address.is_multicast or address.is_link_local)


def test_what_the_operator_names_may_be_reached() -> None:
    reachable = Reachable(networks(["10.1.0.0/16", "fd00:1::/32", "127.0.0.1"]))
    assert [
        reachable.permits(address)
        for address in ("10.1.2.3", "::ffff:10.1.2.3", "10.2.0.1", "fd00:1::5", "fd00:2::5", "127.0.0.1", "127.0.0.2")
    ] == [True, True, False, True, False, True, False]


def test_networks_are_checked() -> None:
    with pytest.raises(ValueError, match="host bits"):
        networks(["10.0.0.1/8"])


def test_what_is_ourselves() -> None:
    reachable = Reachable(own={("127.0.0.1", 25), ("2001:db8::1", 25)})
    assert reachable.is_ourselves("127.0.0.1", 25)
    assert reachable.is_ourselves("::ffff:127.0.0.1", 25)
    assert reachable.is_ourselves("2001:db8:0::1", 25)
    assert not reachable.is_ourselves("127.0.0.1", 2525)
    assert not reachable.is_ourselves("127.0.0.2", 25)
    assert not reachable.is_ourselves("nonsense", 25)


@pytest.mark.parametrize("everywhere", ["0.0.0.0", "::"])
def test_listening_everywhere_is_every_address_of_this_machine(everywhere: str) -> None:
    reachable = Reachable(own={(everywhere, 25)})
    assert reachable.is_ourselves("127.0.0.1", 25)
    assert reachable.is_ourselves("127.8.7.6", 25)
    assert reachable.is_ourselves("0.0.0.0", 25)  # the kernel takes it for loopback
    assert not reachable.is_ourselves("127.0.0.1", 26)
    assert not reachable.is_ourselves("192.0.2.1", 25)
    assert not reachable.is_ourselves("2001:db8::99", 25)
