"""Where a next hop's mail may be handed over: its hosts in the order of RFC 5321, with addresses that may be
connected to.

A domain's MX hosts come by preference, equal ones in random order; without MX records the domain itself is the host.
Our own hosts, and all that are not preferred to them, are left out, so that no mail goes round in a circle. A
tenant's own server is one host. Addresses that are not public are left out unless the operator allows them.

Raises: `Unroutable` where there is nothing to connect to, with what that means for every recipient.
Standards: RFC 5321 §5.1, RFC 7505 (null MX), RFC 5321 §6.3 (loops), RFC 3463 §3.5.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from itertools import chain, groupby, zip_longest

from gateway.dns.answers import Answer, Dns, DnsStatus, MxRecord
from gateway.networks import Reachable
from gateway.relay.outcome import NextHop, OwnServer, RecipientOutcome
from gateway.relay.replies import deferred, failed
from storage.values import Domain

HOSTS_MAX = 16  # of a domain that are looked at
ADDRESSES_MAX = 4  # of one host that are tried
ADDRESSES_SEEN = 16  # of one host that are looked at: an answer of DNS has room for thousands


class Unroutable(Exception):  # noqa: N818 - what is known about the next hop
    def __init__(self, outcome: RecipientOutcome) -> None:
        super().__init__()
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Place:
    """One address of one host. `secure`: DNSSEC vouches for everything that led here (RFC 7672 §2.2)."""

    host: str
    address: str
    port: int
    secure: bool = False


NO_DOMAIN = failed("5.1.2", "The domain of the address does not exist.")
NULL_MX = failed("5.1.10", "The domain does not take any mail.")
NO_HOST = failed("5.4.4", "The domain has no mail server that can be found.")
PRIVATE = failed("5.4.4", "The domain names only mail servers without a public address.")
LOOP = failed("5.4.6", "The domain's mail leads back to this server, which does not host it.")
DNS_FAILED = deferred("4.4.3", "The domain name system does not answer about this domain.")
SERVER_UNKNOWN = deferred("4.4.4", "The name of the domain's own mail server has no address.")
SERVER_PRIVATE = deferred("4.4.4", "The domain's own mail server is in a network that may not be connected to.")
SERVER_LOOP = failed("5.4.6", "The route of the domain leads back to this server.")


class Hosts:
    """`own_names`: what MX records call this installation."""

    def __init__(
        self,
        dns: Dns,
        reachable: Reachable,
        port: int,
        own_names: Iterable[str] = (),
        choice: random.Random | None = None,
    ) -> None:
        self._dns = dns
        self._reachable = reachable
        self._port = port
        self._own_names = {name.lower().rstrip(".") for name in own_names}
        self._random = choice or random.SystemRandom()

    def of(self, hop: NextHop) -> AsyncGenerator[Place, None]:
        """In the order in which they are to be tried; each host is looked up when it is its turn."""
        return self._of_server(hop) if isinstance(hop, OwnServer) else self._of_domain(hop)

    async def _of_server(self, server: OwnServer) -> AsyncGenerator[Place, None]:
        answer = await self._addresses(server.host)
        if answer.failed:
            raise Unroutable(DNS_FAILED)
        if any(self._reachable.is_ourselves(address, server.port) for address in answer.records):
            raise Unroutable(SERVER_LOOP)
        permitted = [address for address in answer.records if self._reachable.permits(address)]
        if not permitted:
            raise Unroutable(SERVER_PRIVATE if answer.records else SERVER_UNKNOWN)
        for address in permitted[:ADDRESSES_MAX]:
            yield Place(server.host, address, server.port, answer.secure)

    async def _of_domain(self, domain: Domain) -> AsyncGenerator[Place, None]:
        records, secure = await self._mx(domain)
        looked_at = DnsStatus.NO_DATA  # the best that was learnt of hosts without an address that may be used
        private = False
        found = False
        for _, group in groupby(records, key=lambda record: record.preference):
            hosts = [record.host for record in group]
            answers = await asyncio.gather(*map(self._addresses, hosts))
            if self._leads_here(hosts, answers):
                if not found:  # a better host that DNS does not know just now may be there later
                    raise Unroutable(DNS_FAILED if looked_at is DnsStatus.FAILED else LOOP)
                return
            for host, answer in zip(hosts, answers, strict=True):
                if answer.failed:
                    looked_at = DnsStatus.FAILED
                permitted = [address for address in answer.records if self._reachable.permits(address)]
                private = private or len(permitted) < len(answer.records)
                for address in permitted[:ADDRESSES_MAX]:
                    found = True
                    yield Place(host, address, self._port, secure and answer.secure)
        if not found:
            if looked_at is DnsStatus.FAILED:
                raise Unroutable(DNS_FAILED)
            raise Unroutable(PRIVATE if private else NO_HOST)

    async def _mx(self, domain: Domain) -> tuple[list[MxRecord], bool]:
        """The records in the order in which they are tried, and whether they are secure."""
        answer = await self._dns.mx(domain.name)
        if answer.status is DnsStatus.FAILED:
            raise Unroutable(DNS_FAILED)
        if answer.status is DnsStatus.NO_NAME:
            raise Unroutable(NO_DOMAIN)
        if not answer.records:
            return [MxRecord(0, domain.name)], answer.secure  # RFC 5321 §5.1: the implicit MX
        named = [record for record in answer.records if record.host]
        if not named:
            raise Unroutable(NULL_MX)
        own = [record.preference for record in named if record.host in self._own_names]
        if own:
            named = [record for record in named if record.preference < min(own)]
            if not named:
                raise Unroutable(LOOP)
        self._random.shuffle(named)
        return sorted(named, key=lambda record: record.preference)[:HOSTS_MAX], answer.secure

    def _leads_here(self, hosts: Iterable[str], answers: Iterable[Answer[str]]) -> bool:
        return any(host in self._own_names for host in hosts) or any(
            self._reachable.is_ourselves(address, self._port) for answer in answers for address in answer.records
        )

    async def _addresses(self, host: str) -> Answer[str]:
        try:
            ip_address(host)
        except ValueError:
            answer = await self._dns.addresses(host)
            return replace(answer, records=tuple(_by_turns(answer.records)[:ADDRESSES_SEEN]))
        return Answer(DnsStatus.FOUND, (host,), False, host)


def _by_turns(addresses: Iterable[str]) -> list[str]:
    """Both families by turns, the first one's first, so that one that leads nowhere does not keep us from the other."""
    ordered = list(addresses)
    first = [address for address in ordered if (":" in address) == (":" in ordered[0])]
    others = [address for address in ordered if (":" in address) != (":" in ordered[0])]
    return [address for address in chain.from_iterable(zip_longest(first, others)) if address is not None]
