"""Says whether an address may send mail for a domain: SPF's check_host().

`check_host` returns within `LIMIT` seconds and raises nothing but cancellation: what DNS does not answer is TEMPERROR,
what a domain publishes wrongly PERMERROR. A domain can cost us ten look-ups and what they need (§4.6.4), no more.

Void look-ups (§4.6.4, §11.1) are counted once for each term. That a host has no IPv6 address is none of them: domains
with IPv4 hosts alone would be in error for every client that comes over IPv6.

Standards: RFC 7208; RFC 8616 §4 (internationalised local parts match no macro).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, TypeVar

from gateway.dns.answers import Answer, Dns, DnsStatus
from gateway.dns.names import normal
from gateway.spf.macros import EXPLAINING, MacroString, NotAscii, PermError, parse_string
from gateway.spf.record import Mechanism, Record, parse, select
from gateway.spf.result import Identity, Spf, SpfResult
from storage.values import EmailAddress

T = TypeVar("T")

LIMIT = 20.0  # seconds; §4.6.4: at least twenty
LOOKUPS = 10  # terms that ask DNS
VOIDS = 2  # terms that ask for nothing
NAMES = 10  # MX or PTR records that are looked at
EXPLANATION_OCTETS = 500  # what a reply line can carry

_GUESS = b"v=spf1 a mx -all"


class TempError(Exception):
    pass


async def check_host(
    dns: Dns,
    ip: str,
    helo: str,
    reverse_path: EmailAddress | None,
    *,
    receiver: str = "unknown",
    explain: bool = False,
    limit: float = LIMIT,
) -> SpfResult:
    """For the domain of the reverse-path, or for the HELO name if that is null (§2.4).

    `receiver` is our own name, for explanations; `explain` asks DNS for the domain's words about a fail.
    """
    if reverse_path is None:
        return await evaluate(dns, ip, helo, "postmaster", helo, "helo", receiver, explain=explain, limit=limit)
    domain = reverse_path.domain.name
    return await evaluate(dns, ip, domain, reverse_path.local, helo, receiver=receiver, explain=explain, limit=limit)


async def best_guess(dns: Dns, ip: str, domain: str, *, limit: float = LIMIT) -> bool:
    """Whether the address is one of the domain's own hosts or MXs: for domains that publish no SPF record.

    False too if DNS did not answer.
    """
    result = await evaluate(dns, ip, domain, "postmaster", domain, record=_GUESS, limit=limit)
    return result.passed


async def evaluate(
    dns: Dns,
    ip: str,
    domain: str,
    local: str,
    helo: str,
    identity: Identity = "mailfrom",
    receiver: str = "unknown",
    *,
    explain: bool = False,
    record: bytes | None = None,
    limit: float = LIMIT,
) -> SpfResult:
    """check_host() with its arguments as text (§4.1); `record`: this one instead of the domain's."""
    domain = domain.removesuffix(".")
    name = normal(domain)
    try:
        address = ip_address(ip)
    except ValueError:
        return SpfResult(Spf.NONE, domain, identity)
    if name is None or "." not in name or name.startswith("["):  # §4.3; a literal is no name
        return SpfResult(Spf.NONE, domain, identity)
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address  # §5
    check = _Check(dns, address, local or "postmaster", domain, helo, receiver)
    explanation = ""
    try:
        async with asyncio.timeout(limit):
            result, term, found = await check.host(name, record)
            if explain and result is Spf.FAIL and found is not None:
                explanation = await check.explain(found, name)
    except PermError as error:
        result, term = Spf.PERMERROR, str(error)
    except (TempError, TimeoutError):
        result, term = Spf.TEMPERROR, ""
    return SpfResult(result, domain, identity, term, explanation)


class _Check:
    """One run of check_host(), with its includes and redirects."""

    def __init__(
        self, dns: Dns, ip: IPv4Address | IPv6Address, local: str, sender_domain: str, helo: str, receiver: str
    ) -> None:
        self._dns = dns
        self._ip = ip
        self._fixed = {
            "s": f"{local}@{sender_domain}",
            "l": local,
            "o": sender_domain,
            "i": str(ip) if ip.version == 4 else ".".join(ip.exploded.replace(":", "").upper()),
            "h": helo,
            "v": "in-addr" if ip.version == 4 else "ip6",
            "c": str(ip),
            "r": receiver,
        }
        self._lookups = 0
        self._voids = 0
        self._names: tuple[str, ...] | None = None  # validated names of the address
        self._explaining = ""  # the domain whose record said fail

    async def host(self, domain: str, record: bytes | None = None) -> tuple[Spf, str, Record | None]:
        """The result, the term that decided, and the record it stands in. Raises PermError and TempError."""
        if record is None:
            record = select(await self._texts(domain))
        if record is None:
            return Spf.NONE, "", None
        parsed = parse(record)
        for mechanism in parsed.mechanisms:
            if await self._matches(mechanism, domain):
                self._explaining = domain
                return mechanism.qualifier, mechanism.text, parsed
        if parsed.redirect is None:
            return Spf.NEUTRAL, "", parsed  # §4.7
        # §6.1
        self._count()
        try:
            target = await self._name(parsed.redirect, domain)
        except NotAscii:
            raise PermError("redirect= needs a local part of ASCII") from None
        result, term, parsed_there = await self.host(target)
        if result is Spf.NONE:
            raise PermError("redirect= leads to a domain without an SPF record")
        return result, term, parsed_there

    async def explain(self, record: Record, domain: str) -> str:
        """What the domain says about its fail; empty for whatever is wrong with that (§6.2)."""
        if record.explanation is None:
            return ""
        try:
            domain = self._explaining or domain
            answer = await self._dns.txt(await self._name(record.explanation, domain))
            if len(answer.records) != 1:
                return ""
            text = parse_string(answer.records[0].decode("ascii"), letters=EXPLAINING, spaces=True)
            said = text.expand(await self._values(text, domain))
        except (PermError, NotAscii, UnicodeDecodeError):
            return ""
        return said[:EXPLANATION_OCTETS]

    async def _matches(self, mechanism: Mechanism, domain: str) -> bool:
        """§5."""
        name = mechanism.name
        if name == "all":
            return True
        if mechanism.network is not None:
            return self._ip in mechanism.network
        self._count()
        try:
            target = await self._name(mechanism.domain, domain) if mechanism.domain else domain
        except NotAscii:
            return False
        if name == "include":
            return await self._includes(target)
        if name == "a":
            return self._any(_answered(await self._addresses(target)), mechanism)
        if name == "mx":
            return await self._is_mx(target, mechanism)
        if name == "ptr":
            return any(_is_within(host, target) for host in await self._validated(void_counts=True))
        answer = await self._dns.a(target)  # exists: IPv4, whatever the client has (§5.7)
        self._note(answer)
        return bool(_answered(answer))

    async def _includes(self, target: str) -> bool:
        """§5.2: the table of results."""
        result, _, _ = await self.host(target)
        if result is Spf.NONE:
            raise PermError("include: leads to a domain without an SPF record")
        return result is Spf.PASS

    async def _is_mx(self, target: str, mechanism: Mechanism) -> bool:
        """§5.4."""
        answer = await self._dns.mx(target)
        self._note(answer)
        hosts = [record.host for record in _answered(answer)]
        if len(hosts) > NAMES:
            raise PermError("mx finds too many hosts")
        for host in hosts:
            if host and self._any(_answered(await self._of_family(host)), mechanism):
                return True
        return False

    def _any(self, addresses: tuple[str, ...], mechanism: Mechanism) -> bool:
        prefix = mechanism.prefix4 if self._ip.version == 4 else mechanism.prefix6
        return any(self._ip in ip_network((address, prefix), strict=False) for address in addresses)

    async def _validated(self, *, void_counts: bool = False) -> tuple[str, ...]:
        """The names of the client's address that lead back to it (§5.5)."""
        if self._names is None:
            answer = await self._dns.ptr(str(self._ip))
            if void_counts:
                self._note(answer)
            names = []
            for name in answer.records[:NAMES]:
                addresses = await self._of_family(name)
                if str(self._ip) in addresses.records:
                    names.append(name)
            self._names = tuple(names)
        return self._names

    async def _addresses(self, name: str) -> Answer[str]:
        answer = await self._of_family(name)
        if self._ip.version == 4 or answer.status is DnsStatus.NO_NAME:
            self._note(answer)
        return answer

    async def _of_family(self, name: str) -> Answer[str]:
        return await (self._dns.a(name) if self._ip.version == 4 else self._dns.aaaa(name))

    async def _texts(self, domain: str) -> tuple[bytes, ...]:
        return _answered(await self._dns.txt(domain))

    async def _name(self, macros: MacroString, domain: str) -> str:
        return macros.name(await self._values(macros, domain))

    async def _values(self, macros: MacroString, domain: str) -> Mapping[str, str]:
        """§7.2."""
        values = {**self._fixed, "d": domain, "t": str(int(time.time())), "p": "unknown"}
        if "p" in macros.letters:
            names = await self._validated()
            ordered = sorted(names, key=lambda name: (name != domain, not _is_within(name, domain)))
            values["p"] = ordered[0] if ordered else "unknown"
        return values

    def _count(self) -> None:
        self._lookups += 1
        if self._lookups > LOOKUPS:
            raise PermError("too many terms that ask DNS")

    def _note(self, answer: Answer[Any]) -> None:
        if answer.status in (DnsStatus.NO_NAME, DnsStatus.NO_DATA):
            self._voids += 1
            if self._voids > VOIDS:
                raise PermError("too many terms for which DNS has nothing")


def _answered(answer: Answer[T]) -> tuple[T, ...]:
    if answer.failed:
        raise TempError
    return answer.records


def _is_within(name: str, domain: str) -> bool:
    domain = domain.lower()
    return name == domain or name.endswith("." + domain)
