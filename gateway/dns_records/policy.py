"""Whether https://mta-sts.DOMAIN answers with a policy: only then may its TXT record stand in DNS. A value.

Standards: RFC 8461 §3.3.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PolicyAnswer:
    """`exchangers` are the policy's mx patterns; `reason` says why there is no valid policy, for people."""

    valid: bool
    reason: str = ""
    text: str = ""
    mode: str = ""
    exchangers: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """For the TXT record: another one for every other policy (RFC 8461 §3.1)."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:20]
