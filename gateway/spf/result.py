"""What a check of SPF came to.

Standards: RFC 7208 §2.6 (results), RFC 8601 §2.7.2 (how Authentication-Results says it).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Identity = Literal["mailfrom", "helo"]

_TOKEN = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\Z")


class Spf(StrEnum):
    NONE = "none"  # no name to check, or the domain publishes nothing
    NEUTRAL = "neutral"  # the domain says nothing about this address
    PASS = "pass"  # noqa: S105 - the RFC's word; the address may send for the domain
    FAIL = "fail"  # it may not
    SOFTFAIL = "softfail"  # it probably may not
    TEMPERROR = "temperror"  # DNS did not answer: unknown for now
    PERMERROR = "permerror"  # the domain's records cannot be interpreted


@dataclass(frozen=True, slots=True)
class SpfResult:
    result: Spf
    domain: str  # whose policy it is: of the reverse-path, or the HELO name where that is null; as a stranger wrote it
    identity: Identity = "mailfrom"
    term: str = ""  # the mechanism that decided, or what is wrong with the record: for traces
    explanation: str = ""  # the domain's own words about a fail, if they were asked for; ASCII

    @property
    def passed(self) -> bool:
        return self.result is Spf.PASS

    @property
    def authentication_result(self) -> str:
        """For an Authentication-Results field: `spf=pass smtp.mailfrom=example.org`."""
        text = f"spf={self.result.value}"
        return f"{text} smtp.{self.identity}={self.domain}" if _TOKEN.match(self.domain) else text
