"""What the filter decides for one recipient of a message, and how it says why.

Pure values. A reason has a name that never changes, for scripts and counts; `sentence` and `counterfactual` are for
people: why, and what would have let the message pass. `evidence` is what was added to the content's own score.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """In the order of their weight, the lightest first."""

    DELIVER = "deliver"  # to the mailbox or the tenant's own server
    TAG = "tag"  # the same, with a field that says that it may be spam
    JUNK = "junk"  # into the mailbox's Junk folder
    QUARANTINE = "quarantine"
    REJECT = "reject"  # in the dialogue; where other recipients take the message: quarantine
    DEFER = "defer"  # 4yz: only what an operator configured to wait, such as greylisting


class Reason(StrEnum):
    """Why. Names are kept for ever: traces, counts and scripts use them."""

    NOTHING_AGAINST_IT = "nothing-against-it"
    ALLOWED = "allowed"  # the sender is on an allow list
    KNOWN_CORRESPONDENT = "known-correspondent"  # would have been spam, but the recipient writes to this sender
    TRUSTED_CLIENT = "trusted-client"  # a server that filters what it hands over
    ROLE_ADDRESS = "role-address"  # postmaster and abuse get everything that is harmless
    DENIED = "denied"  # the sender is on a deny list
    MALWARE = "malware"
    UNSCANNED = "unscanned"  # nobody could look for malware
    FORBIDDEN_ATTACHMENT = "forbidden-attachment"
    DMARC_REJECT = "dmarc-reject"
    DMARC_QUARANTINE = "dmarc-quarantine"
    SPF_FAIL = "spf-fail"
    FORGED_OWN = "forged-own"  # names an author of the recipient's own domain, without proof
    DNS_LISTED = "dns-listed"
    GREYLISTED = "greylisted"
    SPAM = "spam"  # by its score
    BAD_REPUTATION = "bad-reputation"  # spam, and would not be without what came from there before
    SCANNER = "scanner"  # an outside scanner says so
    MALFORMED = "malformed"  # its form is that of forgeries


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for or against a message beside its content, in units of the score."""

    name: str
    offset: float  # above 0: against it
    sentence: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """One recipient's. `score` is what thresholds were compared with, None if nothing is known of the content."""

    action: Action
    reason: Reason
    sentence: str
    counterfactual: str = ""
    score: float | None = None
    evidence: tuple[Evidence, ...] = ()

    @property
    def withheld(self) -> bool:
        return self.action in {Action.QUARANTINE, Action.REJECT}
