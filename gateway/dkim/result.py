"""What the check of one DKIM signature came to.

Standards: RFC 8601 §2.7.1 (results, and how Authentication-Results says them), RFC 6008 (header.b).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

_TOKEN = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\Z")
# What of i= may stand in a field of ours as it is: no quotes, blanks or comments of a stranger.
_IDENTITY = re.compile(r"[A-Za-z0-9_+=-]*(?:\.[A-Za-z0-9_+=-]+)*@[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\Z")
_BASE64 = re.compile(r"[A-Za-z0-9+/=]+\Z")
_SHOWN = 120  # octets of one value


class Dkim(StrEnum):
    NONE = "none"  # there is no signature
    PASS = "pass"  # noqa: S105 - the RFC's word; the domain signed this message, and it is as it was
    FAIL = "fail"  # the message is not what was signed
    POLICY = "policy"  # we do not accept such a signature, whatever it would come to
    NEUTRAL = "neutral"  # it cannot be read, or failed while its domain only tests
    TEMPERROR = "temperror"  # DNS did not answer: unknown for now
    PERMERROR = "permerror"  # there is no key to check it with, or the field breaks a rule


@dataclass(frozen=True, slots=True)
class DkimResult:
    result: Dkim
    domain: str = ""  # d=, in lower-case A-labels; empty if it could not be read
    selector: str = ""
    identity: str = ""  # i=, as the signer wrote it, or its default "@domain"
    algorithm: str = ""
    reason: str = ""  # why it is not a pass, in short words of ours; ASCII without quotes
    signature: str = ""  # the beginning of b=, long enough to tell the message's signatures apart
    testing: bool = False  # the key says that its domain only tests DKIM

    @property
    def passed(self) -> bool:
        return self.result is Dkim.PASS

    @property
    def authentication_result(self) -> str:
        """For an Authentication-Results field: `dkim=pass header.d=example.org header.s=s1 header.b=AbCdEfGh`.

        A stranger's value stands there only if it cannot be taken for anything else.
        """
        words = [f"dkim={self.result.value}"]
        if self.reason:
            words.append(f'reason="{self.reason}"')
        for name, value in (("d", self.domain), ("s", self.selector), ("a", self.algorithm)):
            if len(value) <= _SHOWN * 2 and _TOKEN.match(value):
                words.append(f"header.{name}={value}")
        if self.identity != f"@{self.domain}" and len(self.identity) <= _SHOWN and _IDENTITY.match(self.identity):
            # A token of RFC 2045 has neither = nor / in it.
            words.append(f'header.i="{self.identity}"' if "=" in self.identity else f"header.i={self.identity}")
        if len(self.signature) <= _SHOWN and _BASE64.match(self.signature):
            plain = self.signature.isalnum()
            words.append(f"header.b={self.signature}" if plain else f'header.b="{self.signature}"')
        return " ".join(words)
