"""What TLS has to be with one mail server of one domain: by DANE, else by MTA-STS, else whatever there is.

For whoever opens the connection:

    policy = await policies.for_host(domain, host, port, secure)
    if policy.excluded: the host may not be used now; policies.record(policy)
    else open a connection whose TLS is `policy.aim`, with `policy.server_name` in SNI; after the handshake
    `policy.check(ssl_object, now)`; policies.record(policy, outcome);
    where that failed: without `policy.demand` no message.

DANE goes before MTA-STS and is never overridden by it (RFC 8461 §2). Never raises but for cancellation.

Standards: RFC 7672 §2.1, §2.2 (DNS) and §3 (certificates), RFC 8461 §4, §5, RFC 8460 §4.3.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, replace
from typing import Protocol

from gateway.dns.answers import Dns
from gateway.relay.outcome import TlsDemand
from gateway.tls_policy.certificates import peer_chain
from gateway.tls_policy.dane import DanePolicy
from gateway.tls_policy.results import PolicyType, TlsOutcome, TlsReporter
from gateway.tls_policy.sts_text import matches
from storage.clock import Clock
from storage.queue.sts import StsMode, StsPolicy
from storage.values import Domain

DAY = 86_400


class StsLookup(Protocol):
    async def policy_for(self, domain: Domain) -> StsPolicy | None: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """`aim` is what is tried first and reported about; `demand` what is insisted on: less in a policy's testing mode.

    VERIFIED: a certificate for `server_name` from a known authority. With `dane`, `check` says whether the certificates
    are the right ones, after a handshake that verified nothing.
    """

    domain: Domain
    mx_host: str
    demand: TlsDemand = TlsDemand.OPPORTUNISTIC
    aim: TlsDemand = TlsDemand.OPPORTUNISTIC
    kind: PolicyType = PolicyType.NONE
    server_name: str = ""
    excluded: bool = False  # the host may not be used, as far as is known now
    finding: TlsOutcome = TlsOutcome.SUCCESS  # what is wrong already before a connection
    dane: DanePolicy | None = None
    names: tuple[str, ...] = ()  # for certificates that an authority named by DANE vouches for

    def check(self, connection: ssl.SSLObject, now: float) -> TlsOutcome:
        """After the handshake: SUCCESS, or what is wrong with the server's certificates as DANE has it."""
        if self.dane is None:
            return TlsOutcome.SUCCESS
        return self.dane.check(peer_chain(connection), self.names, now)


class TlsPolicies:
    """`sts`: None if MTA-STS is not to be used."""

    def __init__(self, dns: Dns, sts: StsLookup | None, clock: Clock, reporter: TlsReporter | None = None) -> None:
        self._dns = dns
        self._sts = sts
        self._clock = clock
        self._reporter = reporter

    async def for_host(self, domain: Domain, mx_host: str, port: int, secure: bool) -> TlsPolicy:
        """`secure`: DNSSEC vouches for the MX records and the host's addresses (RFC 7672 §2.2)."""
        policy = TlsPolicy(domain, mx_host, server_name=mx_host)
        if secure:
            policy = await self._by_dane(policy, port)
        if policy.kind is PolicyType.NONE or (policy.kind is PolicyType.TLSA and not policy.dane):
            policy = await self._by_sts(policy) if not policy.excluded else policy
        return policy

    async def close(self) -> None:
        """Ends what is still being fetched in the background."""
        if self._sts is not None:
            await self._sts.close()

    def record(self, policy: TlsPolicy, outcome: TlsOutcome | str = TlsOutcome.SUCCESS) -> None:
        """Counts one session, or one host that was left out, for TLS reports."""
        if self._reporter is not None:
            day = self._clock.now() // DAY
            self._reporter.count(day, policy.domain, policy.kind, policy.mx_host, outcome or policy.finding)

    async def _by_dane(self, policy: TlsPolicy, port: int) -> TlsPolicy:
        """RFC 7672 §2.2: the records stand with the name that aliases lead to, or with the alias."""
        addresses = await self._dns.addresses(policy.mx_host)
        if not addresses.secure:
            return policy
        for base in dict.fromkeys((addresses.name or policy.mx_host, policy.mx_host)):
            answer = await self._dns.tlsa(f"_{port}._tcp.{base}")
            if answer.failed:
                # §2.1.2: perhaps somebody keeps the records from us; another host, or later.
                return replace(
                    policy, kind=PolicyType.TLSA, excluded=True, finding=TlsOutcome.DNSSEC_INVALID, server_name=base
                )
            if not answer or not answer.secure:
                continue
            dane = DanePolicy.of(answer.records)
            names = tuple(dict.fromkeys((base, policy.mx_host, policy.domain.name)))
            return replace(
                policy,
                demand=TlsDemand.ENCRYPTED,  # §2.2: also where no record can be used
                aim=TlsDemand.ENCRYPTED,
                kind=PolicyType.TLSA,
                server_name=base,  # §3.2.1: SNI
                dane=dane,
                names=names,
            )
        return policy

    async def _by_sts(self, policy: TlsPolicy) -> TlsPolicy:
        sts = await self._sts.policy_for(policy.domain) if self._sts is not None else None
        if sts is None or sts.mode is StsMode.NONE:
            return policy
        enforced = sts.mode is StsMode.ENFORCE
        known = matches(policy.mx_host, sts.mx)
        return replace(
            policy,
            demand=TlsDemand.VERIFIED if enforced else policy.demand,
            aim=TlsDemand.VERIFIED,
            kind=PolicyType.STS,
            server_name=policy.mx_host,
            excluded=enforced and not known,  # RFC 8461 §5: hosts that the policy does not name are left out
            finding=TlsOutcome.SUCCESS if known else TlsOutcome.VALIDATION_FAILURE,
        )
