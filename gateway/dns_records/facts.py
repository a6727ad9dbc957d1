"""What DNS says about a mail domain: every question at once, each with its answer, whatever that is.

Raises nothing: what could not be found out is a fact too. Ends within the time limits of the resolver, SPF's and the
policy's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.dkim.publication import Seen, look
from gateway.dns.answers import Answer, CaaRecord, Dns, MxRecord, SrvRecord
from gateway.dns_records.policy import PolicyAnswer, ask_policy
from gateway.dns_records.wanted import Kind, Offer, Record
from gateway.spf.check import check_host
from gateway.spf.result import SpfResult
from gateway.tls_policy.sts_fetch import StsFetcher
from storage.directory.dkim_keys import DkimKey
from storage.values import Domain, EmailAddress

ADDRESSES_MAX = 8  # of one host, that are looked at


@dataclass(frozen=True, slots=True)
class HostFacts:
    """One of our own hosts: its addresses, and the names that each of them has."""

    name: str
    addresses: Answer[str]
    names: dict[str, Answer[str]]

    @property
    def is_alias(self) -> bool:
        return bool(self.addresses) and self.addresses.name not in ("", self.name)


@dataclass(frozen=True, slots=True)
class Facts:
    mx: Answer[MxRecord]
    texts: Answer[bytes]  # of the domain itself
    spf: dict[str, SpfResult]  # by the address that mail comes from
    keys: tuple[Seen, ...]
    dmarc: Answer[bytes]
    tls_rpt: Answer[bytes]
    mta_sts: Answer[bytes]
    policy: PolicyAnswer
    ownership: Answer[bytes]
    services: dict[str, Answer[SrvRecord]]  # by name
    more_texts: dict[str, Answer[bytes]]  # TXT records by name
    aliases: dict[str, Answer[str]]  # addresses by name
    caa: Answer[CaaRecord]
    hosts: tuple[HostFacts, ...]


async def look_up(
    dns: Dns,
    domain: Domain,
    offer: Offer,
    keys: Sequence[DkimKey],
    records: Sequence[Record],
    fetcher: StsFetcher,
) -> Facts:
    """`records`: what is wanted, whose names are asked for.

    Mail comes from `offer.senders`, or from the addresses of `offer.host`.
    """
    async with asyncio.TaskGroup() as group:
        ask = group.create_task
        hosts = [ask(_host(dns, name)) for name in dict.fromkeys((*offer.exchangers, offer.host))]
        names = {kind: [record.name for record in records if record.kind is kind] for kind in Kind}
        answered = {name: ask(dns.srv(name)) for name in names[Kind.SRV]}
        texts_there = {name: ask(dns.txt(name)) for name in names[Kind.PATH] + names[Kind.AGENT]}
        aliases = {name: ask(dns.addresses(name)) for name in names[Kind.ALIAS]}
        mx, texts, caa = ask(dns.mx(domain.name)), ask(dns.txt(domain.name)), ask(dns.caa(domain.name))
        seen, policy_answer = ask(look(dns, keys)), ask(ask_policy(fetcher, domain))
        dmarc, tls_rpt = ask(dns.txt(f"_dmarc.{domain}")), ask(dns.txt(f"_smtp._tls.{domain}"))
        mta_sts, ownership = ask(dns.txt(f"_mta-sts.{domain}")), ask(dns.txt(f"_cleanmail.{domain}"))
    found = tuple(host.result() for host in hosts)
    return Facts(
        mx.result(),
        texts.result(),
        await _spf(dns, domain, offer, found),
        tuple(seen.result()),
        dmarc.result(),
        tls_rpt.result(),
        mta_sts.result(),
        policy_answer.result(),
        ownership.result(),
        {name: answer.result() for name, answer in answered.items()},
        {name: answer.result() for name, answer in texts_there.items()},
        {name: answer.result() for name, answer in aliases.items()},
        caa.result(),
        found,
    )


async def _spf(dns: Dns, domain: Domain, offer: Offer, hosts: Sequence[HostFacts]) -> dict[str, SpfResult]:
    senders = offer.senders or next(host.addresses.records for host in hosts if host.name == offer.host)
    author = EmailAddress("postmaster", domain)
    checked = senders[:ADDRESSES_MAX]
    results = await asyncio.gather(*(check_host(dns, address, offer.host, author) for address in checked))
    return dict(zip(checked, results, strict=True))


async def _host(dns: Dns, name: str) -> HostFacts:
    addresses = await dns.addresses(name)
    known = addresses.records[:ADDRESSES_MAX]
    names = await asyncio.gather(*(dns.ptr(address) for address in known))
    return HostFacts(name, addresses, dict(zip(known, names, strict=True)))
