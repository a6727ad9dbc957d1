"""What DNS says about the reverse-path that a client gives: SPF, and whether a bounce may go there.

Both begin with the first recipient that is accepted, so a stranger who tries addresses costs nothing, and are waited
for at the end of the message. Every check is over within its time limit and raises nothing but cancellation; what DNS
does not answer is not known, and what is not known speaks for nobody.

Standards: RFC 7208 (SPF), RFC 3834 §2 and RFC 5321 §6.2 (no backscatter).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gateway.dns.answers import Dns
from gateway.spf import Spf, SpfResult, best_guess, check_host
from storage.values import EmailAddress


@dataclass(frozen=True, slots=True)
class SenderInquiry:
    """About one reverse-path; what is being asked. Belongs to the event loop that began it."""

    spf: asyncio.Task[SpfResult]
    guess: asyncio.Task[bool]  # whether the domain's own hosts speak for it where it publishes no SPF
    unanswered: SpfResult | None = None  # what stands for `spf` as long as DNS has not answered

    def cancel(self) -> None:
        self.spf.cancel()
        self.guess.cancel()


class SenderChecks:
    def __init__(self, dns: Dns, hostname: str, limit: float = 20.0) -> None:
        self._dns = dns
        self._hostname = hostname
        self._limit = limit

    def begin(self, address: str, hello: str, reverse_path: EmailAddress | None) -> SenderInquiry:
        loop = asyncio.get_running_loop()
        spf = loop.create_task(
            check_host(self._dns, address, hello, reverse_path, receiver=self._hostname, limit=self._limit)
        )
        guess = loop.create_task(self._guess(spf, address, reverse_path))
        return SenderInquiry(spf, guess, _unanswered(hello, reverse_path))

    async def _guess(self, spf: asyncio.Task[SpfResult], address: str, reverse_path: EmailAddress | None) -> bool:
        if reverse_path is None or (await asyncio.shield(spf)).result is not Spf.NONE:
            return False
        return await best_guess(self._dns, address, reverse_path.domain.name, limit=self._limit)


def _unanswered(hello: str, reverse_path: EmailAddress | None) -> SpfResult:
    """RFC 7208 §2.4: of the domain of the reverse-path, or the HELO name if that is null."""
    if reverse_path is None:
        return SpfResult(Spf.TEMPERROR, hello.removesuffix("."), "helo")
    return SpfResult(Spf.TEMPERROR, reverse_path.domain.name)
