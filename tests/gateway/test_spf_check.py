"""check_host() against a name server that is slow, dead or generous, and what it may cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dns_server import DnsServer, Lie

from gateway.dns.resolver import Resolver
from gateway.dns.settings import DnsSettings
from gateway.spf import Spf, SpfResult, best_guess, check_host
from storage.values import EmailAddress

Check = Callable[..., SpfResult]


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer() as server:
        yield server


def resolver(server: DnsServer, timeout: float = 5.0) -> Resolver:
    return Resolver(DnsSettings(nameservers=server.nameservers, port=server.port, timeout=timeout))


@pytest.fixture
def check(server: DnsServer) -> Check:
    def run(sender: str | None, ip: str = "192.0.2.1", helo: str = "mx.example.test", **options: Any) -> SpfResult:
        timeout = options.pop("timeout", 5.0)
        path = EmailAddress.parse(sender) if sender else None
        return asyncio.run(check_host(resolver(server, timeout), ip, helo, path, **options))

    return run


def test_the_reverse_path_is_checked_or_the_helo_name(server: DnsServer, check: Check) -> None:
    """RFC 7208 §2.3, §2.4."""
    server.put("example.test", TXT="v=spf1 ip4:192.0.2.1 -all")
    server.put("mx.example.test", TXT="v=spf1 -all")
    assert check("ada@example.test") == SpfResult(Spf.PASS, "example.test", "mailfrom", "ip4:192.0.2.1")
    assert check(None) == SpfResult(Spf.FAIL, "mx.example.test", "helo", "-all")
    for helo in ("[192.0.2.1]", "localhost", "", "a b", "\xff.test", "x" * 300 + ".test"):
        assert check(None, helo=helo).result is Spf.NONE


def test_no_address_is_no_check(check: Check) -> None:
    assert check("ada@example.test", ip="unknown").result is Spf.NONE


def test_the_domains_words_about_a_fail(server: DnsServer, check: Check) -> None:
    """RFC 7208 §6.2."""
    server.put("example.test", TXT="v=spf1 -all exp=why.example.test")
    server.put("why.example.test", TXT="%{c} is not ours, %{r}; ask %{l}" + "!" * 1000)
    assert check("ada@example.test").explanation == ""
    assert server.asked("why.example.test") == 0
    said = check("ada@example.test", explain=True, receiver="mx.here.test").explanation
    assert said.startswith("192.0.2.1 is not ours, mx.here.test; ask ada!!")
    assert len(said) == 500


def test_an_internationalised_sender(server: DnsServer, check: Check) -> None:
    """RFC 8616 §4."""
    server.put("xn--bcher-kva.test", TXT="v=spf1 exists:%{l}.x.test ip4:192.0.2.1 -all")
    assert check("jürgen@bücher.test").result is Spf.PASS
    server.put("xn--bcher-kva.test", TXT="v=spf1 redirect=%{l}.x.test")
    assert check("ada@bücher.test").result is Spf.PERMERROR
    assert check("jürgen@bücher.test").result is Spf.PERMERROR


@pytest.mark.parametrize(
    ("record", "result"),
    [
        ("v=spf1 a -all", Spf.PASS),
        ("v=spf1 mx -all", Spf.PASS),
        ("v=spf1 ptr -all", Spf.PASS),
        ("v=spf1 a//128", Spf.PASS),
    ],
)
def test_a_client_over_ipv6(server: DnsServer, check: Check, record: str, result: Spf) -> None:
    server.put("example.test", TXT=record, MX=["10 mx.example.test."], AAAA="2001:db8::1")
    server.put("mx.example.test", AAAA="2001:db8::1")
    server.put("1.0.0.0." + "0.0.0.0." * 5 + "8.b.d.0.1.0.0.2.ip6.arpa", PTR="mx.example.test.")
    assert check("ada@example.test", ip="2001:db8::1").result is result


def test_hosts_without_ipv6_are_no_void_lookups(server: DnsServer, check: Check) -> None:
    """§4.6.4: a domain of IPv4 hosts is not in error because a client comes over IPv6."""
    hosts = [f"h{number}.example.test" for number in range(6)]
    for host in hosts:
        server.put(host, A="192.0.2.9")
    server.put("example.test", TXT="v=spf1 " + " ".join(f"a:{host}" for host in hosts) + " -all")
    assert check("ada@example.test", ip="2001:db8::1").result is Spf.FAIL
    server.put("example.test", TXT="v=spf1 a:n1.test a:n2.test a:n3.test -all")
    assert check("ada@example.test", ip="2001:db8::1").result is Spf.PERMERROR


def test_an_unanswered_question_is_temporary(server: DnsServer, check: Check) -> None:
    server.put("example.test", TXT="v=spf1 a:dead.test -all")
    server.lie("dead.test", Lie(silent=True))
    server.lie("deaf.test", Lie(rcode="SERVFAIL"))
    assert check("ada@example.test", timeout=0.1).result is Spf.TEMPERROR
    assert check("ada@deaf.test").result is Spf.TEMPERROR


def test_the_whole_check_has_a_limit(server: DnsServer, check: Check) -> None:
    """§4.6.4: each answer comes in time, all of them together do not."""
    for number in range(10):
        server.put(f"i{number}.test", TXT=f"v=spf1 include:i{number + 1}.test -all")
        server.lie(f"i{number}.test", Lie(delay=0.15))
    began = time.monotonic()
    assert check("ada@i0.test", limit=0.4).result is Spf.TEMPERROR
    assert time.monotonic() - began < 2


def test_a_domain_cannot_make_us_ask_without_end(server: DnsServer, check: Check) -> None:
    """§4.6.4: ten terms, each of them with ten names at most."""
    for number in range(11):
        names = [f"{index} m{index}.d{number}.test." for index in range(10)]
        server.put(f"d{number}.test", TXT=f"v=spf1 mx include:d{number + 1}.test mx -all", MX=names)
    assert check("ada@d0.test").result is Spf.PERMERROR
    assert server.questions.total() <= 10 * 10 + 2 * 10 + 2


@pytest.mark.parametrize("names", [11, 500])
def test_pointers_are_looked_at_ten_times(server: DnsServer, check: Check, names: int) -> None:
    """§5.5."""
    server.put("1.2.0.192.in-addr.arpa", PTR=[f"n{number}.test." for number in range(names)])
    server.put("example.test", TXT="v=spf1 ptr:elsewhere.test exists:%{p}.x.test ?all")
    assert check("ada@example.test").result is Spf.NEUTRAL
    assert sum(server.asked(f"n{number}.test") for number in range(names)) == 10


@pytest.mark.parametrize(
    ("ip", "own"), [("192.0.2.1", True), ("192.0.2.2", True), ("192.0.2.3", False), ("2001:db8::2", True), ("x", False)]
)
def test_a_guess_where_nothing_is_published(server: DnsServer, ip: str, own: bool) -> None:
    server.put("example.test", A="192.0.2.1", MX=["10 mx.example.test."])
    server.put("mx.example.test", A="192.0.2.2", AAAA="2001:db8::2")
    assert asyncio.run(best_guess(resolver(server), ip, "example.test")) is own
    server.lie("*", Lie(rcode="SERVFAIL"))
    assert not asyncio.run(best_guess(resolver(server), ip, "example.test"))
