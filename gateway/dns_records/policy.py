"""Whether https://mta-sts.DOMAIN answers with a valid policy: only then may its TXT record stand in DNS.

Asked as any server on the internet would ask, and never from a cache. Raises nothing.
Standards: RFC 8461 §3.1 (the id), §3.3 (the fetch).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from gateway.tls_policy.sts_fetch import FetchFailed, StsFetcher, parse_policy
from gateway.tls_policy.sts_text import matches
from storage.queue.sts import StsMode
from storage.values import Domain


@dataclass(frozen=True, slots=True)
class PolicyAnswer:
    """`exchangers` are the policy's mx patterns; without a valid policy `reason` says why, for people."""

    valid: bool
    reason: str = ""
    text: str = ""
    mode: StsMode = StsMode.NONE
    exchangers: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """For the TXT record: another one for every other policy."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:20]

    def covers(self, host: str) -> bool:
        return matches(host, self.exchangers)


async def ask_policy(fetcher: StsFetcher, domain: Domain) -> PolicyAnswer:
    try:
        text = await fetcher.fetch_text(domain)
        policy = parse_policy(text)
    except FetchFailed as failure:
        return PolicyAnswer(False, failure.reason)
    return PolicyAnswer(True, "", text, policy.mode, policy.mx)
