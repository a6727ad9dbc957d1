"""What is known of a client, and when: names that lead both ways, DNS lists, silence, networks that are trusted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import ip_network
from typing import TypeVar

import pytest
from dns_server import DnsServer, Lie

from gateway.dns.resolver import Resolver
from gateway.dns.settings import DnsSettings
from gateway.dns_lists import DnsList, Listing
from gateway.facts.client import ClientChecks

T = TypeVar("T")

CLIENT = "9.8.7.6"
POINTER = "6.7.8.9.in-addr.arpa"
LISTED = "6.7.8.9.bl.test"


@pytest.fixture
def dns() -> Iterator[DnsServer]:
    with DnsServer({POINTER: {"PTR": "mx.far.test."}, "mx.far.test": {"A": CLIENT}}) as server:
        yield server


def ask(dns: DnsServer, about: Callable[[ClientChecks], Awaitable[T]], *, trusted: str = "", timeout: float = 5.0) -> T:
    async def asked() -> T:
        resolver = Resolver(DnsSettings(dns.nameservers, dns.port, timeout=timeout))
        networks = [ip_network(trusted)] if trusted else []
        return await about(ClientChecks(resolver, [DnsList.parse("bl.test")], networks))

    return asyncio.run(asked())


def name(dns: DnsServer, timeout: float = 5.0) -> str | None:
    return ask(dns, lambda checks: checks.begin(CLIENT).name(10), timeout=timeout)


def test_a_name_leads_both_ways(dns: DnsServer) -> None:
    assert name(dns) == "mx.far.test"


def test_a_name_that_does_not_lead_back_is_none(dns: DnsServer) -> None:
    dns.put("mx.far.test", A="9.9.9.9")
    assert name(dns) == ""
    dns.remove(POINTER)
    assert name(dns) == ""


@pytest.mark.parametrize("rdtype", ["PTR", "A"])
def test_what_dns_does_not_say_is_not_known(dns: DnsServer, rdtype: str) -> None:
    dns.lie("*", Lie(rcode="SERVFAIL"), rdtype)
    dns.lie("*", Lie(rcode="SERVFAIL"), "AAAA")
    assert name(dns) is None


def test_nobody_waits_longer_than_he_wants(dns: DnsServer) -> None:
    dns.lie(POINTER, Lie(silent=True))

    async def both(checks: ClientChecks) -> tuple[str | None, tuple[Listing, ...] | None]:
        inquiry = checks.begin(CLIENT)
        listings = await inquiry.listings(10)  # which does not wait for the name
        return await inquiry.name(0), listings

    assert ask(dns, both, timeout=60) == (None, ())


def test_lists_are_asked_from_the_connection_on(dns: DnsServer) -> None:
    dns.put(LISTED, A="127.0.0.2")
    [listing] = ask(dns, lambda checks: checks.begin(CLIENT).listings(10)) or ()
    assert (listing.zone, listing.answers) == ("bl.test", ("127.0.0.2",))


def test_trusted_networks_are_not_looked_up(dns: DnsServer) -> None:
    dns.put(LISTED, A="127.0.0.2")

    async def asked(checks: ClientChecks) -> tuple[bool, tuple[Listing, ...] | None]:
        inquiry = checks.begin(CLIENT)
        return inquiry.trusted, await inquiry.listings(10)

    assert ask(dns, asked, trusted="9.8.0.0/16") == (True, ())
    assert not dns.asked(LISTED)
    assert ask(dns, asked, trusted="9.9.0.0/16")[0] is False
    assert dns.asked(LISTED)


def test_a_session_that_is_over_waits_for_nothing(dns: DnsServer) -> None:
    dns.lie("*", Lie(silent=True))

    async def gone(checks: ClientChecks) -> tuple[str | None, tuple[Listing, ...] | None]:
        inquiry = checks.begin(CLIENT)
        inquiry.cancel()
        return await inquiry.name(60), await inquiry.listings(60)

    assert ask(dns, gone, timeout=60) == (None, None)
