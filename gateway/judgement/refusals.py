"""What a sender is told of a verdict that refuses his message. Pure.

It has to help whoever is refused by mistake, and nobody else: what is the sender's own (his domain's policy, his
client's address) is said in full; scores, names of malware, and whom a list names are not told to those who would
learn from them how to get through.

Standards: RFC 3463 §3.8 (X.7.1), RFC 5321 §4.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from gateway.policy.verdict import Action, Reason, Verdict
from gateway.smtp.replies import SmtpReply

_TEXT_MAX = 400  # RFC 5321 §4.5.3.1.5: a reply line has 512 octets
_UNSAYABLE = re.compile(r"[^ -~]")

_INSTEAD: Mapping[Reason, str] = {
    Reason.DENIED: "Mail of this sender is not taken here.",
    Reason.MALWARE: "The message contains malware, or something like it.",
    Reason.UNSCANNED: "The message cannot be looked through for malware.",
    Reason.FORBIDDEN_ATTACHMENT: "The message has an attachment of a kind that is not taken here.",
    Reason.SPAM: "The message looks like spam.",
    Reason.BAD_REPUTATION: "The message looks like spam, as most of what came from there.",
    Reason.SCANNER: "The message looks like spam.",
}


def refusal(verdict: Verdict) -> SmtpReply:
    """550 for REJECT, 450 for DEFER."""
    text = _UNSAYABLE.sub("?", _INSTEAD.get(verdict.reason, verdict.sentence))[:_TEXT_MAX]
    code, status = (450, "4.7.1") if verdict.action is Action.DEFER else (550, "5.7.1")
    return SmtpReply(code, status, text)
