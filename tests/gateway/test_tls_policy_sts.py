"""MTA-STS: its texts, its policy host with all that can go wrong there, and how long a policy binds."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from authorities import authority, self_signed
from dns_server import DnsServer, Lie
from hypothesis import given
from hypothesis import strategies as st
from policy_host import PolicyHost, http
from queue_place import Place

from gateway.dns.resolver import Resolver
from gateway.dns.settings import DnsSettings
from gateway.networks import Reachable, networks
from gateway.tls_policy.policy import TlsPolicies
from gateway.tls_policy.results import PolicyType, TlsOutcome
from gateway.tls_policy.sts import DAY, StsPolicies
from gateway.tls_policy.sts_fetch import FetchFailed, StsFetcher
from gateway.tls_policy.sts_text import PolicyInvalid, PolicyText, matches, parse, policy_id
from gateway.work import Work
from storage.clock import FixedClock
from storage.errors import Unavailable
from storage.queue.sts import StsMode, StsPolicy, StsStore
from storage.values import Domain

DOMAIN = Domain("example.test")
ROOT = authority()
POLICY = b"version: STSv1\r\nmode: enforce\r\nmx: mx.example.test\r\nmx: *.mail.test\r\nmax_age: 604800\r\n"
WEEK = 604_800


# Texts


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ([b"v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
        ([b"v=STSv1;id=a"], "a"),
        ([b"v = STSv1 ; other=x ; id = a1 ;"], "a1"),
        ([b"v=spf1 -all", b"v=STSv1; id=a"], "a"),
        ([b"v=STSv1; id=a", b"v=STSv1; id=b"], None),  # §3.1: not exactly one
        ([b"v=STSv1; id=a", b"v=STSv1; id=a"], None),
        ([b"v=STSv1"], None),
        ([b"v=STSv1; id="], None),
        ([b"v=STSv1; id=" + b"a" * 33], None),
        ([b"v=STSv1; id=a-b"], None),
        ([b"v=STSv2; id=a"], None),
        ([b"V=STSv1; id=a"], None),
        ([b"id=a; v=STSv1"], None),
        ([b"\xff\x00"], None),
        ([], None),
    ],
)
def test_the_record(texts: list[bytes], found: str | None) -> None:
    """RFC 8461 §3.1."""
    assert policy_id(texts) == found


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_a_policy(end: str) -> None:
    """RFC 8461 §3.2."""
    text = end.join(["version: STSv1", "mode: testing", "mx: MX1.example.test", "mx:*.mail.test", "max_age: 86400", ""])
    assert parse(text) == PolicyText(StsMode.TESTING, 86400, ("mx1.example.test", "*.mail.test"))


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("version: STSv1\nmode: none\nmax_age: 0", PolicyText(StsMode.NONE, 0, ())),
        ("mode: none\nmax_age: 1\nversion: STSv1\nnew.field: what ever\n", PolicyText(StsMode.NONE, 1, ())),
        ("version: STSv1\nmode: none\nmode: enforce\nmax_age: 9999999999", PolicyText(StsMode.NONE, 31_557_600, ())),
    ],
)
def test_policies(text: str, policy: PolicyText) -> None:
    assert parse(text) == policy


@pytest.mark.parametrize(
    "text",
    [
        "",
        "version: STSv2\nmode: none\nmax_age: 1",
        "mode: none\nmax_age: 1",
        "version: STSv1\nmax_age: 1\nmx: a.test",
        "version: STSv1\nmode: strict\nmax_age: 1\nmx: a.test",
        "version: STSv1\nmode: enforce\nmax_age: 1",
        "version: STSv1\nmode: enforce\nmax_age: week\nmx: a.test",
        "version: STSv1\nmode: enforce\nmax_age: -1\nmx: a.test",
        "version: STSv1\nmode: enforce\nmax_age: 99999999999\nmx: a.test",
        "version: STSv1\nmode: enforce\nmx: a.test",
        "version: STSv1\nmode: enforce\nmax_age: 1\nmx: *",
        "version: STSv1\nmode: enforce\nmax_age: 1\nmx: a.*.test",
        "version: STSv1\nmode: enforce\nmax_age: 1\nmx: a b",
        "version: STSv1\nmode: enforce\nmax_age: 1\nmx:",
        "version: STSv1\nmode: enforce\nmax_age: 1\nmx: a.test\n<html>",
        "version: STSv1\nmode: enforce\nmax_age: 1\n" + "\n".join(f"mx: a{number}.test" for number in range(201)),
    ],
)
def test_what_is_no_policy(text: str) -> None:
    with pytest.raises(PolicyInvalid):
        parse(text)


@given(st.text(max_size=200))
def test_any_text_is_a_policy_or_is_not(text: str) -> None:
    try:
        assert isinstance(parse("version: STSv1\n" + text), PolicyText)
    except PolicyInvalid as error:
        assert str(error)


@pytest.mark.parametrize(
    ("host", "matched"),
    [
        ("mx.example.test", True),
        ("MX.Example.Test.", True),
        ("a.mail.test", True),
        ("mail.test", False),
        ("a.b.mail.test", False),
        (".mail.test", False),
        ("xmx.example.test", False),
        ("mail.test.evil.test", False),
        ("", False),
    ],
)
def test_patterns(host: str, matched: bool) -> None:
    """RFC 8461 §4.1: a wildcard is one whole label."""
    assert matches(host, ("mx.example.test", "*.mail.test")) is matched


# The policy host


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    return ROOT.issue("mta-sts.example.test").server_context(tmp_path_factory.mktemp("certified"))


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer(
        {
            "mta-sts.example.test": {"A": ["127.0.0.9", "127.0.0.1"]},  # nobody listens at the first
            "_mta-sts.example.test": {"TXT": "v=STSv1; id=one"},
            "example.test": {"MX": "10 mx.example.test."},
        }
    ) as server:
        yield server


def resolver(server: DnsServer, **settings: Any) -> Resolver:
    return Resolver(DnsSettings(nameservers=server.nameservers, port=server.port, timeout=5.0, **settings))


def fetch(server: DnsServer, host: PolicyHost, allowed: str = "127.0.0.0/8", limit: float = 5.0) -> PolicyText:
    fetcher = StsFetcher(
        resolver(server), Reachable(networks([allowed])), ROOT.client_context(), port=host.port, limit=limit
    )
    return asyncio.run(fetcher.fetch(DOMAIN))


def refused(server: DnsServer, host: PolicyHost, **options: Any) -> FetchFailed:
    with pytest.raises(FetchFailed) as caught:
        fetch(server, host, **options)
    return caught.value


def test_a_policy_is_fetched(server: DnsServer, certified: ssl.SSLContext) -> None:
    """RFC 8461 §3.3."""
    with PolicyHost(certified, http(POLICY)) as host:
        assert fetch(server, host) == PolicyText(StsMode.ENFORCE, WEEK, ("mx.example.test", "*.mail.test"))
    request = host.requests[0].split(b"\r\n")
    assert request[0] == b"GET /.well-known/mta-sts.txt HTTP/1.1"
    assert b"Host: mta-sts.example.test" in request


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" + POLICY,  # until the connection ends
        b"HTTP/1.0 200 OK\r\nContent-Type: TEXT/PLAIN;charset=us-ascii\r\n\r\n" + POLICY,
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n" % len(POLICY)
        + POLICY
        + b"\r\n0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + http(POLICY),
    ],
)
def test_ways_to_answer(server: DnsServer, certified: ssl.SSLContext, answer: bytes) -> None:
    with PolicyHost(certified, answer) as host:
        assert fetch(server, host).max_age == WEEK


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        (http(b"", "301 Moved", extra="Location: https://elsewhere.test/\r\n"), "sts-policy-fetch-error", "301"),
        (http(b"", "404 Not Found"), "sts-policy-fetch-error", "404"),
        (http(POLICY, "206 Partial"), "sts-policy-fetch-error", "206"),
        (http(POLICY, kind="text/html"), "sts-policy-fetch-error", "media type"),
        (http(POLICY, kind="text/plainer"), "sts-policy-fetch-error", "media type"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "sts-policy-fetch-error", "media type"),
        (http(b"x" * 65_537), "sts-policy-fetch-error", "too large"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" + b"x" * 100_000,
            "sts-policy-fetch-error",
            "too large",
        ),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000, "sts-policy-fetch-error", "not HTTP"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 5_000, "sts-policy-fetch-error", "too large"),
        (b"220 mail.example.test ESMTP\r\n", "sts-policy-fetch-error", "not HTTP"),
        (b"", "sts-policy-fetch-error", "not HTTP"),
        (http(POLICY)[:-20], "sts-policy-fetch-error", "not HTTP"),
        (http(b"hello"), "sts-policy-invalid", "no field"),
        (http(b"\xff\xfe"), "sts-policy-invalid", "UTF-8"),
    ],
)
def test_what_is_no_answer(
    server: DnsServer, certified: ssl.SSLContext, answer: bytes, outcome: str, reason: str
) -> None:
    with PolicyHost(certified, answer) as host:
        failed = refused(server, host)
    assert (failed.outcome, reason in failed.reason) == (outcome, True), failed.reason


def test_silence_ends_in_time(server: DnsServer, certified: ssl.SSLContext) -> None:
    with PolicyHost(certified, None) as host:
        failed = refused(server, host, limit=0.3)
    assert (failed.outcome, failed.reason) == (
        TlsOutcome.STS_POLICY_FETCH_ERROR,
        "the policy host did not answer in time",
    )


@pytest.mark.parametrize(
    "certificate",
    [
        ROOT.issue("example.test"),
        ROOT.issue("*.mta-sts.example.test"),
        ROOT.issue("mta-sts.example.test", days=(-9, -1)),
        self_signed("mta-sts.example.test"),
    ],
)
def test_the_certificate_is_valid_for_the_policy_host(server: DnsServer, tmp_path: Path, certificate: Any) -> None:
    with PolicyHost(certificate.server_context(tmp_path), http(POLICY)) as host:
        assert refused(server, host).outcome is TlsOutcome.STS_WEBPKI_INVALID
    assert not host.requests


def test_private_addresses_are_not_connected_to(server: DnsServer, certified: ssl.SSLContext) -> None:
    with PolicyHost(certified, http(POLICY)) as host:
        assert "may be connected to" in refused(server, host, allowed="10.0.0.0/8").reason
        server.lie("mta-sts.example.test", Lie(rcode="SERVFAIL"))
        assert "DNS" in refused(server, host).reason
    assert not host.requests


# How long a policy binds


class Shelf:
    """The store of queue.db, with a count of how often it is asked, and sometimes not there."""

    def __init__(self, store: StsStore) -> None:
        self.store = store
        self.broken = False
        self.read = 0

    def get(self, domain: Domain) -> StsPolicy | None:
        self.read += 1
        if self.broken:
            raise Unavailable
        return self.store.get(domain)

    def put(self, policy: StsPolicy) -> None:
        if self.broken:
            raise Unavailable
        self.store.put(policy)


@dataclass
class Counted:
    counts: list[tuple[int, str, str, str, str]] = field(default_factory=list)

    def count(self, day: int, domain: Domain, policy_type: str, mx_host: str, result_type: str) -> None:
        self.counts.append((day, domain.name, policy_type, mx_host, result_type))


@dataclass
class Surroundings:
    """A name server, a policy host and a clock, and caches of several processes over one store."""

    server: DnsServer
    host: PolicyHost
    clock: FixedClock
    shelf: Shelf
    counted: Counted = field(default_factory=Counted)
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    def process(self) -> Callable[[], StsPolicy | None]:
        """Another process's cache; called, it looks for the domain's policy and lets what goes on behind end."""
        dns = resolver(self.server, cache=0)
        fetcher = StsFetcher(dns, Reachable(networks(["127.0.0.1"])), ROOT.client_context(), port=self.host.port)
        policies = StsPolicies(dns, fetcher, self.shelf, Work(self.pool), self.clock, self.counted)

        async def look() -> StsPolicy | None:
            found = await policies.policy_for(DOMAIN)
            await asyncio.gather(*policies._fetching.values())
            return found

        return lambda: asyncio.run(look())

    def publish(self, policy_id: str) -> None:
        self.server.put("_mta-sts.example.test", TXT=f"v=STSv1; id={policy_id}")


@pytest.fixture
def around(server: DnsServer, certified: ssl.SSLContext, tmp_path: Path) -> Iterator[Surroundings]:
    place = Place(tmp_path)
    with PolicyHost(certified, http(POLICY)) as host:
        around = Surroundings(server, host, place.clock, Shelf(place.queue.sts))
        yield around
    around.pool.shutdown()
    place.close()


def test_a_policy_is_fetched_once_for_all_processes(around: Surroundings) -> None:
    first, second = around.process(), around.process()
    for look in (first, first, second, second):
        policy = look()
        assert policy is not None
        assert (policy.mode, policy.policy_id, policy.mx) == (
            StsMode.ENFORCE,
            "one",
            ("mx.example.test", "*.mail.test"),
        )
        assert policy.expires == around.clock.now() + WEEK
    assert len(around.host.requests) == 1


def test_another_id_means_another_policy(around: Surroundings) -> None:
    """RFC 8461 §3.1."""
    look = around.process()
    look()
    around.host.answers = [http(POLICY.replace(b"enforce", b"testing"))]
    policy = look()
    assert policy is not None and policy.mode is StsMode.ENFORCE
    around.publish("two")
    policy = look()
    assert policy is not None
    assert (policy.mode, policy.policy_id) == (StsMode.TESTING, "two")


def test_without_a_record_there_is_no_policy(around: Surroundings) -> None:
    around.server.remove("_mta-sts.example.test")
    look = around.process()
    assert [look(), look(), look()] == [None, None, None]
    assert around.shelf.read == 1  # an ordinary domain costs a look at the database once
    assert not around.host.requests


@pytest.mark.parametrize("how", ["record gone", "dns dead", "two records", "host dead", "policy wrong"])
def test_a_policy_that_was_seen_binds_until_it_expires(around: Surroundings, how: str) -> None:
    """RFC 8461 §5.1, §10.2: suppressing it later is of no use."""
    look = around.process()
    look()
    match how:
        case "record gone":
            around.server.remove("_mta-sts.example.test")
        case "dns dead":
            around.server.lie("*", Lie(rcode="SERVFAIL"))
        case "two records":
            around.server.put("_mta-sts.example.test", TXT=["v=STSv1; id=one", "v=STSv1; id=two"])
        case "host dead":
            around.publish("two")
            around.host.answers = [b""]
        case _:
            around.publish("two")
            around.host.answers = [http(b"mode: none")]
    for process in (look, around.process()):
        policy = process()
        assert policy is not None and policy.policy_id == "one"
    around.clock.advance(WEEK)
    assert look() is None


def test_a_policy_is_looked_at_anew_after_a_day_while_nobody_waits(around: Surroundings) -> None:
    look = around.process()
    look()
    around.clock.advance(86_400 - 1)
    look()
    assert len(around.host.requests) == 1
    around.clock.advance(1)
    stale = look()
    assert stale is not None and stale.expires == around.clock.now() + WEEK - 86_400
    assert len(around.host.requests) == 2
    fresh = look()
    assert fresh is not None and fresh.expires == around.clock.now() + WEEK


def test_a_failed_fetch_is_not_repeated_at_once_and_is_reported(around: Surroundings) -> None:
    """RFC 8461 §3.3, RFC 8460 §4.3.2.2."""
    around.host.answers = [http(b"", "503 Busy"), http(POLICY)]
    look = around.process()
    assert [look(), look()] == [None, None]
    assert len(around.host.requests) == 1
    day = around.clock.now() // 86_400
    assert around.counted.counts == [(day, "example.test", "sts", "", "sts-policy-fetch-error")]
    around.clock.advance(301)
    assert look() is not None


def test_many_messages_share_one_fetch(around: Surroundings) -> None:
    dns = resolver(around.server)
    fetcher = StsFetcher(dns, Reachable(networks(["127.0.0.1"])), ROOT.client_context(), port=around.host.port)

    async def look() -> list[StsPolicy | None]:
        policies = StsPolicies(dns, fetcher, around.shelf, Work(around.pool), around.clock)
        return await asyncio.gather(*(policies.policy_for(DOMAIN) for _ in range(50)))

    assert None not in asyncio.run(look())
    assert len(around.host.requests) == 1


def test_a_store_that_does_not_answer_is_done_without(around: Surroundings) -> None:
    around.shelf.broken = True
    look = around.process()
    assert look() is not None
    assert look() is not None
    assert len(around.host.requests) == 1


class NeverThere:
    """A policy host that takes for ever."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def fetch(self, domain: Domain) -> PolicyText:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError


def test_closing_ends_what_is_fetched_in_the_background(around: Surroundings) -> None:
    assert around.process()() is not None
    around.clock.advance(2 * DAY)  # old enough to be fetched anew, behind the answer

    async def play() -> None:
        host = NeverThere()
        work = Work(around.pool)
        dns = resolver(around.server, cache=0)
        sts = StsPolicies(dns, host, around.shelf, work, around.clock)
        policies = TlsPolicies(dns, sts, around.clock)
        assert (await policies.for_host(DOMAIN, "mx.example.test", 25, False)).kind is PolicyType.STS
        await host.asked.wait()
        [fetching] = sts._fetching.values()
        await policies.close()
        assert fetching.cancelled() and not sts._fetching

    asyncio.run(play())
