"""The DNS tree walk: which domain a name belongs to, and which policy record counts for it.

A walk asks at most eight questions, all at once, and each name is asked for once in the life of a `TreeWalk`, which is
made for one message. Raises nothing but cancellation.

Standards: RFC 9989 §4.10.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.dmarc.record import DmarcRecord, find_record
from gateway.dns.answers import Answer, Dns, DnsStatus

LABELS = 7  # that are left after the first question of a longer name


@dataclass(frozen=True, slots=True)
class Found:
    """A record, and the domain it stands at."""

    domain: str
    record: DmarcRecord


@dataclass(frozen=True, slots=True)
class Walk:
    """The records on the way from `domain` upwards, the longest name first.

    `failed`: DNS did not answer for a name above the last of them, so there may be more.
    """

    domain: str
    found: tuple[Found, ...] = ()
    failed: bool = False

    @property
    def own(self) -> Found | None:
        """The record of the domain itself."""
        return self.found[0] if self.found and self.found[0].domain == self.domain else None

    @property
    def organizational_domain(self) -> str:
        """§4.10.2; empty if DNS did not say."""
        if self.failed:
            return ""
        for each in self.found:
            if each.record.psd == "n":
                return each.domain
            if each.record.psd == "y" and each.domain != self.domain:
                return _below(self.domain, each.domain)
        return self.found[-1].domain if self.found else self.domain

    @property
    def policy(self) -> Found | None:
        """The record that counts: of the domain, else of its organizational domain, else of its public suffix."""
        if self.own is not None:
            return self.own
        organizational = self.organizational_domain
        at = next((each for each in self.found if each.domain == organizational), None)
        if at is None and self.found and self.found[-1].record.psd == "y" and not self.failed:
            return self.found[-1]
        return at


def names_from(domain: str) -> tuple[str, ...]:
    """The names that a walk asks for, in order: eight at most, down to the single label."""
    labels = domain.split(".")
    names = [domain]
    rest = labels[-LABELS:] if len(labels) > LABELS else labels[1:]
    while rest:
        names.append(".".join(rest))
        rest = rest[1:]
    return tuple(names)


class TreeWalk:
    def __init__(self, dns: Dns) -> None:
        self._dns = dns
        self._answers: dict[str, Answer[bytes]] = {}

    async def walk(self, domain: str) -> Walk:
        """From a domain in lower-case A-labels."""
        names = names_from(domain)
        await self.ask(names)
        found: list[Found] = []
        for name in names:
            answer = self._answers[name]
            if answer.failed:
                return Walk(domain, tuple(found), failed=True)
            record = find_record(answer.records) if answer.records else None
            if record is not None:
                found.append(Found(name, record))
                if record.psd != "u":
                    break
        return Walk(domain, tuple(found))

    async def exists(self, domain: str) -> bool | None:
        """Whether DNS knows the name, with whatever records (RFC 8020); None if it did not say."""
        answer = await self._dns.a(domain)
        return None if answer.failed else answer.status is not DnsStatus.NO_NAME

    async def ask(self, names: Iterable[str]) -> None:
        """For the records of all these names at once. What was answered is kept, also if others never are."""
        missing = [name for name in dict.fromkeys(names) if name not in self._answers]
        if missing:
            await asyncio.gather(*map(self._ask, missing))

    async def _ask(self, name: str) -> None:
        self._answers[name] = await self._dns.txt(f"_dmarc.{name}")


def _below(domain: str, suffix: str) -> str:
    """The name on the way to `domain` that is one label longer than `suffix`."""
    return ".".join(domain.split(".")[-suffix.count(".") - 2 :])
