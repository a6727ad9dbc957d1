"""What DNS says about who hands over a message: its SPF, whether a bounce may go to its reverse-path, its name.

Every check is over within its time limit and raises nothing but cancellation; what DNS does not answer is not known,
and what is not known speaks for nobody.

Standards: RFC 7208 (SPF), RFC 5321 §4.4 and RFC 1912 §2.1 (names that lead back), RFC 3834 §2 and RFC 5321 §6.2 (no
backscatter).
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from ipaddress import ip_address

from gateway.dns.answers import Answer, Dns
from gateway.spf import Spf, SpfResult, best_guess, check_host
from storage.values import EmailAddress

_NAMES = 3  # of an address that are looked at
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?\Z")


@dataclass(frozen=True, slots=True)
class SenderFacts:
    """`authentic`: the reverse-path is the sender's own as far as can be known, so a bounce hits no stranger."""

    spf: SpfResult
    authentic: bool
    name: str = ""  # the client's, if DNS knows it both ways


class SenderChecks:
    def __init__(self, dns: Dns, hostname: str, limit: float = 20.0) -> None:
        self._dns = dns
        self._hostname = hostname
        self._limit = limit

    async def check(self, address: str, hello: str, reverse_path: EmailAddress | None) -> SenderFacts:
        """All of them, side by side."""
        (spf, authentic), name = await asyncio.gather(
            self._authenticity(address, hello, reverse_path), self._name(address)
        )
        return SenderFacts(spf, authentic, name)

    async def _authenticity(
        self, address: str, hello: str, reverse_path: EmailAddress | None
    ) -> tuple[SpfResult, bool]:
        spf = await check_host(self._dns, address, hello, reverse_path, receiver=self._hostname, limit=self._limit)
        if spf.result is not Spf.NONE or reverse_path is None:
            return spf, spf.passed and reverse_path is not None
        # The domain says nothing: its own hosts and those that take its mail may speak for it.
        return spf, await best_guess(self._dns, address, reverse_path.domain.name, limit=self._limit)

    async def _name(self, address: str) -> str:
        try:
            async with asyncio.timeout(self._limit):
                names = await self._dns.ptr(address)
                for name in names.records[:_NAMES]:
                    if _NAME.match(name) and _leads_to(await self._dns.addresses(name), address):
                        return name
        except TimeoutError:
            pass
        return ""


def _leads_to(answer: Answer[str], address: str) -> bool:
    wanted = ip_address(address)
    return any(ip_address(each) == wanted for each in answer.records)
