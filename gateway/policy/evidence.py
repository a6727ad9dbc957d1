"""What speaks for or against a message beside its content: small offsets to its score, each with its reason.

The content score is a logit, so independent evidence adds to it. What is known beside the content is neither
independent nor measured, so the offsets are chosen by hand, are small, and are bounded twice: each kind by its own
limit, all of them by `LIMIT`, which is less than the way from "no idea" (0) to the default threshold (4.5). Evidence
tips what is nearly spam; it makes no spam of what reads like mail, and no other of what reads like spam.

What is not known is no evidence. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

from gateway.arc.result import SealedResults
from gateway.authentication.facts import authenticated_domains
from gateway.content_facts import Finding, HelloFinding
from gateway.dkim.result import Dkim
from gateway.dmarc.result import Dmarc, Policy
from gateway.facts.values import Destination, Experience, Facts, Reputation
from gateway.policy.authorship import author_is_proven, claims_own_domain
from gateway.policy.rules import WEIGH, Rules
from gateway.policy.verdict import Evidence
from gateway.policy.wording import shown
from gateway.spf import Spf

LIMIT = 3.0  # of all offsets together, in either direction

REPUTATION_DOMAIN, REPUTATION_NETWORK = "reputation-domain", "reputation-network"
DNS_LISTS, RSPAMD = "dns-lists", "rspamd"

_DOMAIN_LIMIT, _NETWORK_LIMIT = 1.5, 1.0
_EXPERIENCE = 3.0  # messages that make half of a reputation's weight
_LISTED, _LISTED_LIMIT, _GOOD_LIST_LIMIT = 0.7, 2.0, -1.0  # a point of a DNS list; of all of them
_RSPAMD, _RSPAMD_LEAST = 1.5, -0.5  # at the score from which Rspamd rejects; for mail that it likes
_HELLO_LIMIT, _FORM_LIMIT = 1.2, 1.5

_HELLO = {
    HelloFinding.FORGED: 0.8,
    HelloFinding.OUR_NAME: 0.8,
    HelloFinding.OUR_ADDRESS: 0.8,
    HelloFinding.CUSTOMER_LINE: 0.8,
    HelloFinding.NO_REVERSE_NAME: 0.5,
    HelloFinding.MALFORMED: 0.4,
    HelloFinding.OTHER_ADDRESS: 0.4,
    HelloFinding.BARE_ADDRESS: 0.4,
    HelloFinding.BARE_WORD: 0.3,
    HelloFinding.LOCAL_NAME: 0.3,
    HelloFinding.EMPTY: 0.3,
}
# Findings that honest mail often has too are none.
_FORM = {
    Finding.SEVERAL_FROM: 1.0,
    Finding.FROM_NAME_IS_OTHER_ADDRESS: 0.8,
    Finding.FROM_NAME_HIDDEN: 0.8,
    Finding.ATTACHED_NAME_DECEIVES: 0.8,
    Finding.LINK_WITH_CREDENTIALS: 0.6,
    Finding.LINK_SHOWS_OTHER_HOST: 0.5,
    Finding.NO_FROM: 0.5,
    Finding.FROM_UNREADABLE: 0.5,
    Finding.SUBJECT_HIDDEN: 0.5,
    Finding.LINK_TO_ADDRESS: 0.4,
    Finding.CONTROLS_IN_HEADER: 0.4,
    Finding.HTML_SCRIPT: 0.4,
    Finding.HTML_FORM: 0.3,
    Finding.NO_DATE: 0.3,
    Finding.DATE_IN_FUTURE: 0.3,
    Finding.NO_MESSAGE_ID: 0.3,
    Finding.MALFORMED_FIELD: 0.3,
    Finding.HTML_ONLY_IMAGES: 0.3,
}


def collect(facts: Facts, experience: Experience, destination: Destination, rules: Rules) -> tuple[Evidence, ...]:
    """All of it, the reputation first."""
    if facts.client.trusted:  # the connection is not the sender's, and its server filters
        return tuple(_of_form(facts))
    return (
        *_of_reputation(experience),
        *_of_client(facts),
        *_of_authentication(facts, destination, rules),
        *_of_form(facts),
        *_of_rspamd(facts),
    )


def offset(evidence: Iterable[Evidence]) -> float:
    """What it adds to the score."""
    return _bounded(math.fsum(each.offset for each in evidence), -LIMIT, LIMIT)


def vouched(facts: Facts, rules: Rules) -> SealedResults | None:
    """What a trusted sealer says, if it says that DMARC passed for the author where the message came to it.

    Of a message to which somebody added another From field the sealer saw only one.
    """
    arc, dmarc = facts.authentication.arc, facts.authentication.dmarc
    if arc is None or dmarc is None or not rules.trusted_sealers or not facts.authentication.authors.are_clear:
        return None
    sealed = arc.trusted(rules.trusted_sealers)
    return sealed if sealed is not None and sealed.vouches_for(dmarc.domain) else None


def _of_reputation(experience: Experience) -> Iterator[Evidence]:
    domain = _leaning(experience.domain, _DOMAIN_LIMIT)
    if domain:
        yield Evidence(REPUTATION_DOMAIN, domain, _remembered("the sender's domain", domain))
    network = _leaning(experience.network, _NETWORK_LIMIT)
    if network:
        yield Evidence(REPUTATION_NETWORK, network, _remembered("this network", network))


def _leaning(reputation: Reputation, limit: float) -> float:
    """The logit of spam among what came, drawn towards 0 while little came."""
    logit = math.log((reputation.spam + 0.5) / (reputation.ham + 0.5))
    weight = reputation.total / (reputation.total + _EXPERIENCE)
    return round(_bounded(logit * weight, -limit, limit), 2)


def _remembered(whom: str, leaning: float) -> str:
    return f"Of the mail that came from {whom} before, {'most was spam' if leaning > 0 else 'most was wanted'}."


def _of_client(facts: Facts) -> Iterator[Evidence]:
    listings = facts.client.listings or ()
    points = math.fsum(listing.weight for listing in listings)
    if points:
        listed = _bounded(points * _LISTED, _GOOD_LIST_LIMIT, _LISTED_LIMIT)
        names = ", ".join(dict.fromkeys(listing.zone for listing in listings))
        yield Evidence(DNS_LISTS, listed, f"DNS lists name the client: {names}.")
    findings = [
        Evidence(f"hello-{finding}", _HELLO[finding], finding.sentence)
        for finding in HelloFinding
        if finding in facts.client.hello_findings and finding in _HELLO
    ]
    yield from _limited(findings, _HELLO_LIMIT)


def _of_authentication(facts: Facts, destination: Destination, rules: Rules) -> Iterator[Evidence]:
    authentication = facts.authentication
    if author_is_proven(facts) or vouched(facts, rules) is not None:
        return
    dmarc, spf = authentication.dmarc, authentication.spf
    if dmarc is not None and dmarc.result is Dmarc.FAIL:
        strict = dmarc.policy is not Policy.NONE
        words = "asks not to take" if strict else "wants to know of"
        sentence = f"The domain {dmarc.domain} {words} mail that fails its checks, and this one failed."
        yield Evidence("dmarc-fail", 1.0 if strict else 0.5, sentence)
    elif dmarc is not None and dmarc.result is Dmarc.PERMERROR:
        yield Evidence("dmarc-permerror", 0.5, "Whose message it is cannot be said.")
    if claims_own_domain(facts, destination) and rules.forged_own == WEIGH:
        yield Evidence("forged-own", 1.0, "It names an author of the recipient's own domain, without proof.")
    if spf is not None and spf.result is Spf.FAIL:
        yield Evidence("spf-fail", 0.7, f"The client may not send for {shown(spf.domain)}.")
    elif spf is not None and spf.result is Spf.SOFTFAIL:
        yield Evidence("spf-softfail", 0.3, f"The client should not send for {shown(spf.domain)}.")
    elif _is_known(facts) and not authenticated_domains(authentication):
        yield Evidence("unauthenticated", 0.3, "No domain stands behind it.")


def _is_known(facts: Facts) -> bool:
    """Whether SPF and DKIM could be asked for."""
    spf, dkim = facts.authentication.spf, facts.authentication.dkim
    if spf is None or dkim is None or spf.result is Spf.TEMPERROR:
        return False
    return not any(signature.result is Dkim.TEMPERROR for signature in dkim)


def _of_form(facts: Facts) -> Iterator[Evidence]:
    if facts.content is None:
        return
    found = facts.content.findings
    findings = [
        Evidence(f"form-{finding}", weight, finding.sentence) for finding, weight in _FORM.items() if finding in found
    ]
    yield from _limited(findings, _FORM_LIMIT)


def _of_rspamd(facts: Facts) -> Iterator[Evidence]:
    rspamd = facts.rspamd
    if rspamd is None or rspamd.unknown or not math.isfinite(rspamd.score) or not rspamd.required_score > 0:
        return
    leaning = round(_bounded(rspamd.score / rspamd.required_score * _RSPAMD, _RSPAMD_LEAST, _RSPAMD), 2)
    if leaning:
        sentence = f"Rspamd gives it {rspamd.score:.1f} of {rspamd.required_score:.1f} points."
        yield Evidence(RSPAMD, leaning, sentence)


def _limited(evidence: list[Evidence], limit: float) -> Iterator[Evidence]:
    """As much of it as the limit lets through, the heaviest first."""
    left = limit
    for each in sorted(evidence, key=lambda each: -each.offset):
        if left <= 0:
            return
        yield each if each.offset <= left else replace(each, offset=round(left, 2))
        left -= each.offset


def _bounded(value: float, least: float, most: float) -> float:
    return max(least, min(most, value))
