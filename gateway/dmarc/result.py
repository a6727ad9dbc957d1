"""What the evaluation of DMARC came to.

Standards: RFC 9989 §4 and §9.2 (results), RFC 8601 §2.7 (how Authentication-Results says it).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

_TOKEN = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\Z")


class Dmarc(StrEnum):
    NONE = "none"  # the author's domain publishes no policy that could be applied
    PASS = "pass"  # noqa: S105 - the RFC's word; SPF or DKIM passed for the author's domain, or one aligned with it
    FAIL = "fail"  # neither did
    TEMPERROR = "temperror"  # DNS did not answer: unknown for now
    PERMERROR = "permerror"  # whose policy would count cannot be said: From has no address, or too many domains


class Policy(StrEnum):
    """What a domain asks for mail that fails."""

    NONE = "none"
    QUARANTINE = "quarantine"
    REJECT = "reject"

    @property
    def lowered(self) -> Policy:
        """One step less (RFC 9989 §4.7, t=y)."""
        return Policy.QUARANTINE if self is Policy.REJECT else Policy.NONE


@dataclass(frozen=True, slots=True)
class Aligned:
    """A domain that authenticated the message and is aligned with the author's."""

    method: Literal["spf", "dkim"]
    domain: str


@dataclass(frozen=True, slots=True)
class DmarcResult:
    result: Dmarc
    domain: str = ""  # the author's, in lower-case A-labels; of several the one that decided
    policy: Policy = Policy.NONE  # what the domain asks for this message if it fails: after sp=, np= and t=
    organizational_domain: str = ""  # of the author's domain; empty if DNS did not say
    aligned: tuple[Aligned, ...] = ()
    record_domain: str = ""  # where the policy record stands (below `_dmarc.`); empty: there is none
    published: Policy | None = None  # p= of that record
    testing: bool = False  # t=y
    reason: str = ""  # why there is no pass, in short words of ours; ASCII without quotes

    @property
    def passed(self) -> bool:
        return self.result is Dmarc.PASS

    def authentication_result(self, disposition: str = "") -> str:
        """For an Authentication-Results field: `dmarc=fail (p=reject dis=none) header.from=example.org`.

        `disposition`: what was done with the message, if that is known already.
        """
        words = [f"dmarc={self.result.value}"]
        if self.record_domain:
            done = f" dis={disposition}" if _TOKEN.match(disposition) else ""
            words.append(f"(p={self.policy}{done})")
        if self.reason:
            words.append(f'reason="{self.reason}"')
        if _TOKEN.match(self.domain):
            words.append(f"header.from={self.domain}")
        if self.record_domain and self.published is not None:
            words.append(f"polrec.p={self.published}")
            if self.record_domain != self.domain and _TOKEN.match(self.record_domain):
                words.append(f"polrec.domain={self.record_domain}")
        return " ".join(words)
