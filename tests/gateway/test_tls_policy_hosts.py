"""What TLS has to be with one host: DANE before MTA-STS before whatever there is; what is counted for reports."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from authorities import authority, handshake
from dns_server import DnsServer, Lie

from gateway.dns.resolver import Resolver
from gateway.dns.settings import DnsSettings
from gateway.relay.outcome import TlsDemand
from gateway.tls_policy.policy import TlsPolicies, TlsPolicy
from gateway.tls_policy.results import PolicyType, TlsOutcome
from storage.clock import FixedClock
from storage.queue.sts import StsMode, StsPolicy
from storage.values import Domain

DOMAIN = Domain("example.test")
HOST = "mx.example.test"
ROOT = authority()
LEAF = ROOT.issue(HOST)
PIN = f"3 1 1 {hashlib.sha256(LEAF.public_key).hexdigest()}"
UNUSABLE = f"1 1 1 {'00' * 32}"

OPPORTUNISTIC, ENCRYPTED, VERIFIED = TlsDemand.OPPORTUNISTIC, TlsDemand.ENCRYPTED, TlsDemand.VERIFIED
TLSA, STS, NONE = PolicyType.TLSA, PolicyType.STS, PolicyType.NONE


@dataclass
class Published:
    """Policies by domain, as the cache of MTA-STS gives them."""

    policy: StsPolicy | None = None

    async def policy_for(self, domain: Domain) -> StsPolicy | None:
        return self.policy if domain == DOMAIN else None


def sts(mode: StsMode, *mx: str) -> Published:
    return Published(StsPolicy(DOMAIN, "one", mode, 1000, mx, 0, 1000))


@dataclass
class Counted:
    counts: list[tuple[str, str, str, str]] = field(default_factory=list)

    def count(self, day: int, domain: Domain, policy_type: str, mx_host: str, result_type: str) -> None:
        assert day == FixedClock().now() // 86_400
        self.counts.append((domain.name, policy_type, mx_host, result_type))


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer({HOST: {"A": "192.0.2.1"}}) as server:
        server.secure = True
        yield server


def find(server: DnsServer, lookup: Published | None = None, secure: bool = True, host: str = HOST) -> TlsPolicy:
    dns = Resolver(DnsSettings(nameservers=server.nameservers, port=server.port, timeout=5.0, validating=True))
    return asyncio.run(TlsPolicies(dns, lookup, FixedClock()).for_host(DOMAIN, host, 25, secure))


def summary(policy: TlsPolicy) -> tuple[PolicyType, TlsDemand, TlsDemand, bool, TlsOutcome]:
    return policy.kind, policy.demand, policy.aim, policy.excluded, policy.finding


ORDINARY = (NONE, OPPORTUNISTIC, OPPORTUNISTIC, False, TlsOutcome.SUCCESS)


def test_without_any_policy_tls_is_taken_as_it_comes(server: DnsServer) -> None:
    for lookup in (None, Published(), sts(StsMode.NONE)):
        assert summary(find(server, lookup)) == ORDINARY


@pytest.mark.parametrize(
    ("lookup", "expected"),
    [
        (sts(StsMode.ENFORCE, HOST), (STS, VERIFIED, VERIFIED, False, TlsOutcome.SUCCESS)),
        (sts(StsMode.ENFORCE, "*.example.test"), (STS, VERIFIED, VERIFIED, False, TlsOutcome.SUCCESS)),
        (sts(StsMode.ENFORCE, "other.test"), (STS, VERIFIED, VERIFIED, True, TlsOutcome.VALIDATION_FAILURE)),
        (sts(StsMode.TESTING, HOST), (STS, OPPORTUNISTIC, VERIFIED, False, TlsOutcome.SUCCESS)),
        (sts(StsMode.TESTING, "other.test"), (STS, OPPORTUNISTIC, VERIFIED, False, TlsOutcome.VALIDATION_FAILURE)),
    ],
)
@pytest.mark.parametrize("secure", [True, False])
def test_mta_sts(server: DnsServer, lookup: Published, expected: Any, secure: bool) -> None:
    """RFC 8461 §5."""
    policy = find(server, lookup, secure)
    assert summary(policy) == expected
    assert policy.server_name == HOST


def test_dane_goes_before_mta_sts(server: DnsServer) -> None:
    """RFC 8461 §2."""
    server.put(f"_25._tcp.{HOST}", TLSA=[PIN])
    for lookup in (None, sts(StsMode.TESTING, HOST), sts(StsMode.ENFORCE, "other.test")):
        policy = find(server, lookup)
        assert summary(policy) == (TLSA, ENCRYPTED, ENCRYPTED, False, TlsOutcome.SUCCESS)
        assert policy.dane is not None
        assert policy.names == (HOST, "example.test")


def test_certificates_are_checked(server: DnsServer, tmp_path: Path) -> None:
    server.put(f"_25._tcp.{HOST}", TLSA=[PIN])
    policy = find(server)
    connection = handshake(LEAF.server_context(tmp_path / "right"))
    assert policy.check(connection, FixedClock().now()) is TlsOutcome.SUCCESS
    stranger = handshake(ROOT.issue(HOST).server_context(tmp_path / "wrong"))
    assert policy.check(stranger, FixedClock().now()) is TlsOutcome.TLSA_INVALID
    assert find(server, secure=False).check(stranger, 0.0) is TlsOutcome.SUCCESS  # there is no policy


@pytest.mark.parametrize("which", ["mx", "addresses", "tlsa"])
def test_dane_needs_dnssec_all_the_way(server: DnsServer, which: str) -> None:
    """RFC 7672 §2.2."""
    server.put(f"_25._tcp.{HOST}", TLSA=[PIN])
    server.secure = False
    server.secure_names = {HOST, f"_25._tcp.{HOST}"} - ({HOST} if which == "addresses" else {f"_25._tcp.{HOST}"})
    assert summary(find(server, secure=which != "mx")) == ORDINARY
    assert server.asked(f"_25._tcp.{HOST}") == (1 if which == "tlsa" else 0)


def test_records_that_do_not_come_leave_the_host_out(server: DnsServer) -> None:
    """RFC 7672 §2.1.2: perhaps somebody keeps them from us."""
    server.lie(f"_25._tcp.{HOST}", Lie(rcode="SERVFAIL"))
    for lookup in (None, sts(StsMode.TESTING, HOST)):
        assert summary(find(server, lookup)) == (TLSA, OPPORTUNISTIC, OPPORTUNISTIC, True, TlsOutcome.DNSSEC_INVALID)


def test_records_that_cannot_be_used_mean_tls_all_the_same(server: DnsServer) -> None:
    """RFC 7672 §2.2; what MTA-STS asks for comes on top."""
    server.put(f"_25._tcp.{HOST}", TLSA=[UNUSABLE])
    assert summary(find(server)) == (TLSA, ENCRYPTED, ENCRYPTED, False, TlsOutcome.SUCCESS)
    testing = summary(find(server, sts(StsMode.TESTING, HOST)))
    assert testing == (STS, ENCRYPTED, VERIFIED, False, TlsOutcome.SUCCESS)
    enforced = summary(find(server, sts(StsMode.ENFORCE, HOST)))
    assert enforced == (STS, VERIFIED, VERIFIED, False, TlsOutcome.SUCCESS)


@pytest.mark.parametrize("base", ["real.example.test", "alias.example.test"])
def test_records_of_an_alias_stand_where_it_leads_or_with_it(server: DnsServer, base: str) -> None:
    """RFC 7672 §2.2.2."""
    server.put("alias.example.test", CNAME="real.example.test.")
    server.put("real.example.test", A="192.0.2.1")
    server.put(f"_25._tcp.{base}", TLSA=[PIN])
    policy = find(server, host="alias.example.test")
    assert (policy.kind, policy.server_name) == (TLSA, base)
    assert policy.names[0] == base
    assert set(policy.names) == {base, "alias.example.test", "example.test"}


def test_what_is_counted(server: DnsServer) -> None:
    """RFC 8460 §4.3."""
    counted = Counted()
    dns = Resolver(DnsSettings(nameservers=server.nameservers, port=server.port, validating=True))

    async def count(lookup: Published, *outcomes: TlsOutcome) -> None:
        policies = TlsPolicies(dns, lookup, FixedClock(), counted)
        policy = await policies.for_host(DOMAIN, HOST, 25, True)
        for outcome in outcomes or (TlsOutcome.SUCCESS,):
            policies.record(policy, outcome)

    asyncio.run(count(Published(), TlsOutcome.STARTTLS_NOT_SUPPORTED))
    asyncio.run(count(sts(StsMode.ENFORCE, HOST), TlsOutcome.SUCCESS, TlsOutcome.CERTIFICATE_EXPIRED))
    asyncio.run(count(sts(StsMode.ENFORCE, "other.test")))
    assert counted.counts == [
        ("example.test", "no-policy-found", HOST, "starttls-not-supported"),
        ("example.test", "sts", HOST, ""),
        ("example.test", "sts", HOST, "certificate-expired"),
        ("example.test", "sts", HOST, "validation-failure"),
    ]
