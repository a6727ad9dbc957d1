"""What can be held against a message, one judge for each kind, the weightiest first.

A judge sees a case and has an objection or none. An objection says what it would do, why, and what would cure it: the
words, and the case as it would then be, so that a counterfactual can be tried instead of claimed. What a judge does not
know it does not object to. `JUDGES` says too what each is silent for: senders on an allow list, servers that filter
themselves, authors to whom people here write, and mail for postmaster.

Pure. Standards: RFC 9989 §7.4 (DMARC alone refuses nothing here), RFC 5321 §4.5.1 (postmaster), RFC 2142 (abuse).
"""

from __future__ import annotations

from gateway.policy.case import Excuse, Judge
from gateway.policy.content import judge_malformed, judge_rspamd, judge_spam
from gateway.policy.harm import judge_attachments, judge_malware, judge_unscanned
from gateway.policy.senders import (
    judge_denied,
    judge_dmarc,
    judge_dns_listed,
    judge_forged_own,
    judge_forged_own_forwarded,
    judge_spf,
)

_PROVIDERS = frozenset((Excuse.ALLOWED, Excuse.TRUSTED))
_ANYBODY = _PROVIDERS | {Excuse.ROLE}

JUDGES: tuple[Judge, ...] = (
    Judge(judge_malware),
    Judge(judge_attachments),
    Judge(judge_unscanned, _ANYBODY),
    Judge(judge_denied, frozenset({Excuse.ROLE})),
    Judge(judge_malformed, _PROVIDERS),
    Judge(judge_dmarc, _ANYBODY),
    Judge(judge_forged_own_forwarded, _PROVIDERS),
    Judge(judge_forged_own, _ANYBODY),
    Judge(judge_spf, _ANYBODY),
    Judge(judge_dns_listed, _ANYBODY),
    Judge(judge_rspamd, _ANYBODY | {Excuse.KNOWN}),
    Judge(judge_spam, _ANYBODY | {Excuse.KNOWN}),
)
