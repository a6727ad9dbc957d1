"""DNS lists: what the configuration may say, and what name servers answer, lies included."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from ipaddress import IPv4Network

import pytest
from dns_server import DnsServer, Lie

from gateway.dns.resolver import Resolver
from gateway.dns.settings import DnsSettings
from gateway.dns_lists import DnsList, DnsLists, Listing, parse_lists
from gateway.dns_lists.lookup import query_name
from storage.errors import InvalidInput

ADDRESS, NAME = "8.8.4.4", "4.4.8.8"


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("bl.example.org", DnsList("bl.example.org")),
        (" BL.example.org. ", DnsList("bl.example.org")),
        (
            "bl.example.org=127.0.0.2, 127.0.0.4",
            DnsList("bl.example.org", (IPv4Network("127.0.0.2/32"), IPv4Network("127.0.0.4/32"))),
        ),
        ("bl.example.org=127.0.0.8/29:2.5", DnsList("bl.example.org", (IPv4Network("127.0.0.8/29"),), 2.5)),
        ("bl.example.org:reject", DnsList("bl.example.org", rejects=True)),
        ("bl.example.org=127.0.0.2:reject", DnsList("bl.example.org", (IPv4Network("127.0.0.2/32"),), rejects=True)),
        ("allow.example.org:-1", DnsList("allow.example.org", weight=-1.0)),
    ],
)
def test_entries(text: str, entry: DnsList) -> None:
    assert DnsList.parse(text) == entry


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is no zone of a DNS list"),
        ("zone", "is no zone of a DNS list"),
        ("a b.example", "is no zone of a DNS list"),
        ("bl.example.org=", "is no answer of the DNS list bl.example.org"),
        ("bl.example.org=192.0.2.1", "within 127.0.0.0/8"),
        ("bl.example.org=127.0.0.1/29", "is no answer"),
        ("bl.example.org=0.0.0.0/0", "is no answer"),
        ("bl.example.org:", "what the DNS list bl.example.org does"),
        ("bl.example.org:refuse", "'reject', or points"),
        ("bl.example.org:0", "'reject', or points"),
        ("bl.example.org:nan", "'reject', or points"),
        ("bl.example.org:1000", "'reject', or points"),
    ],
)
def test_what_is_no_entry(text: str, sentence: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        DnsList.parse(text)
    assert sentence in caught.value.public


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("8.8.4.4", "4.4.8.8"),
        ("::ffff:8.8.4.4", "4.4.8.8"),
        ("2a00:1450::1", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.5.4.1.0.0.a.2"),
        ("127.0.0.1", None),
        ("10.1.2.3", None),
        ("192.168.1.1", None),
        ("fe80::1", None),
        ("fd00::1", None),
        ("nothing", None),
    ],
)
def test_names_that_are_asked(address: str, name: str | None) -> None:
    """RFC 5782 §2.1 and §2.4."""
    assert query_name(address) == name


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer({f"{NAME}.bl.test": {"A": ["127.0.0.4", "127.0.0.2"]}, "x.good.test": {"A": "127.0.0.2"}}) as server:
        yield server


def ask(
    server: DnsServer, *texts: str, address: str = ADDRESS, limit: float = 10.0, timeout: float = 2.0
) -> tuple[Listing, ...] | None:
    dns = Resolver(DnsSettings(nameservers=server.nameservers, port=server.port, timeout=timeout))
    return asyncio.run(DnsLists(dns, parse_lists(texts), limit).listed(address))


def test_who_is_listed(server: DnsServer) -> None:
    assert ask(server, "bl.test", "good.test", "bl.test=127.0.0.2:reject", "bl.test=127.0.0.9") == (
        Listing("bl.test", ("127.0.0.2", "127.0.0.4")),
        Listing("bl.test", ("127.0.0.2",), rejects=True),
    )
    assert server.asked(f"{NAME}.bl.test") == 1


def test_who_is_not(server: DnsServer) -> None:
    assert ask(server, "good.test") == ()
    assert ask(server) == ()
    assert ask(server, "bl.test", address="10.4.4.4") == ()
    assert server.questions.total() == 1


def test_over_ipv6(server: DnsServer) -> None:
    name = query_name("2a00:1450::1")
    server.put(f"{name}.bl.test", A=["127.0.0.3"])
    assert ask(server, "bl.test:3", address="2a00:1450::1") == (Listing("bl.test", ("127.0.0.3",), 3.0),)


@pytest.mark.parametrize("record", ["127.255.255.254", "127.255.255.252", "192.0.2.1", "0.0.0.0"])
def test_answers_that_list_nobody(server: DnsServer, record: str) -> None:
    """A resolver that the list does not serve, a parked domain, a provider that answers for what is not there."""
    server.put(f"{NAME}.odd.test", A=[record])
    assert ask(server, "odd.test:reject") is None
    assert ask(server, "odd.test:reject", "good.test") == ()
    server.put(f"{NAME}.odd.test", A=[record, "127.0.0.2"])
    assert ask(server, "odd.test") == (Listing("odd.test", ("127.0.0.2",)),)


@pytest.mark.parametrize("lie", [Lie(rcode="SERVFAIL"), Lie(rcode="REFUSED"), Lie(silent=True), Lie(garbage=True)])
def test_a_list_that_fails_is_unknown_and_keeps_no_other_back(server: DnsServer, lie: Lie) -> None:
    server.lie(f"{NAME}.dead.test", lie)
    assert ask(server, "dead.test", timeout=0.3) is None
    assert ask(server, "dead.test", "bl.test", timeout=0.3) == (Listing("bl.test", ("127.0.0.2", "127.0.0.4")),)


def test_what_comes_too_late_is_unknown(server: DnsServer) -> None:
    server.lie(f"{NAME}.slow.test", Lie(silent=True))
    assert ask(server, "slow.test", limit=0.1) is None
