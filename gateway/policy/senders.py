"""What is held against whoever sent a message: deny lists, DMARC, forged authors, SPF, DNS lists.

Pure. Standards: RFC 9989 §7.4 (DMARC alone refuses nothing here).
"""

from __future__ import annotations

from dataclasses import replace

from gateway.authentication.authorship import Authors
from gateway.dkim.result import Dkim, DkimResult
from gateway.dmarc.result import Aligned, Dmarc, Policy
from gateway.facts.values import Place, Standing
from gateway.policy import evidence
from gateway.policy.authorship import author_is_proven, claims_own_domain
from gateway.policy.case import WEIGHT, Case, Objection, action_at, weighed
from gateway.policy.rules import WEIGH
from gateway.policy.verdict import Action, Reason
from gateway.policy.wording import listed, shown
from gateway.spf import Spf


def judge_denied(case: Case) -> Objection | None:
    if case.listed is None or not case.listed.denies:
        return None
    whose = {"": "the tenant's", "d": "the domain's", "a": "the recipient's"}[case.listed.scope[:1]]
    return Objection(
        action_at(case.rules.denied, case.destination),
        Reason.DENIED,
        f"Its sender is on {whose} deny list: {case.listed.pattern}.",
        _not_listed,
    )


def _not_listed(case: Case) -> tuple[str, Case]:
    patterns = case.listed.patterns if case.listed is not None else ()
    return f"if {listed(patterns)} were not on the deny list", replace(case, listed=None)


def judge_dmarc(case: Case) -> Objection | None:
    dmarc, rules = case.facts.authentication.dmarc, case.rules
    if dmarc is None or dmarc.policy is Policy.NONE:
        return None
    reason, chosen, asked = Reason.DMARC_QUARANTINE, rules.dmarc_quarantine, "set aside"
    if dmarc.policy is Policy.REJECT:
        reason, chosen, asked = Reason.DMARC_REJECT, rules.dmarc_reject, "refuse"
    sentence = f"The sender's domain {dmarc.domain} asks to {asked} mail that fails its checks, and "
    if dmarc.result is Dmarc.FAIL:
        sentence += "this one failed."
        excuse = _dmarc_excuse(case) if dmarc.policy is Policy.REJECT else ""
        if excuse:
            sentence, chosen = f"{sentence} {excuse}", _lighter(chosen, rules.dmarc_excused)
    elif dmarc.result is Dmarc.TEMPERROR and evidence.vouched(case.facts, rules) is None:
        # Whoever can make DNS fail, for a host of his own or of the domain's, must not get past the policy by it.
        sentence += "whether this one does could not be found out."
        chosen = _lighter(chosen, rules.dmarc_excused)
    else:
        return None
    return weighed(case, chosen, reason, sentence, _signed)


def _lighter(chosen: str, excused: str) -> str:
    """An excuse makes nothing worse."""
    return min(chosen, excused, key=lambda each: -1 if each == WEIGH else WEIGHT[Action(each)])


def _dmarc_excuse(case: Case) -> str:
    """What makes it likely that the message was honest when it left, or that this cannot be known now."""
    facts = case.facts
    sealed = evidence.vouched(facts, case.rules)
    if sealed is not None:
        return f"It is not refused, since {shown(sealed.sealer)}, who is trusted, saw it pass."
    if facts.content is not None and facts.content.is_list:
        return "It is not refused, since it has the signs of a mailing list."
    if case.experience.standing in (Standing.ACCOUNT, Standing.TENANT):
        return "It is not refused, since people here write to its author."
    if facts.reverse_path is None:
        return "It is not refused, since it comes as a report, and few servers sign theirs."
    if facts.content is None or case.experience.standing is None:
        return "It is not refused, since not enough is known of it."
    if facts.authentication.arc is None and case.rules.trusted_sealers:
        return "It is not refused, since it is not known who sealed it on its way."
    return ""


def _signed(case: Case) -> tuple[str, Case]:
    """With what would prove the author, whoever the author is."""
    facts = case.facts
    authors, dmarc, dkim = facts.authentication.authors, facts.authentication.dmarc, facts.authentication.dkim or ()
    domains = authors.domains or ((dmarc.domain,) if dmarc is not None and dmarc.domain else ())
    words = f"with a valid DKIM signature of {listed(domains)}"
    if not authors.are_clear:
        domains = domains[:1]
        authors = Authors(authors.addresses[:1], domains, 1)
        words = f"with one author, and a valid DKIM signature of {listed(domains)}"
    signatures = tuple(DkimResult(Dkim.PASS, domain) for domain in domains)
    if dmarc is not None and dmarc.result is not Dmarc.NONE:
        aligned = tuple(Aligned("dkim", domain) for domain in domains)
        dmarc = replace(dmarc, result=Dmarc.PASS, domain=domains[0] if domains else "", aligned=aligned, reason="")
    authentication = replace(facts.authentication, authors=authors, dkim=(*dkim, *signatures), dmarc=dmarc)
    return words, case.with_facts(replace(facts, authentication=authentication))


def judge_forged_own(case: Case) -> Objection | None:
    if case.destination.place is Place.FORWARDED or not _is_forged_own(case):
        return None
    sentence = f"It names an author of the recipient's own domain {case.destination.domain}, and nothing proves it."
    return weighed(case, case.rules.forged_own, Reason.FORGED_OWN, sentence, _signed)


def judge_forged_own_forwarded(case: Case) -> Objection | None:
    """It would leave under a path of our domain, and DMARC would pass at the next server, for us and the forger."""
    if case.destination.place is not Place.FORWARDED or not _is_forged_own(case):
        return None
    sentence = (
        f"It names an author of {case.destination.domain}, nothing proves it, and the server to which it would be "
        "forwarded would take it for genuine."
    )
    return weighed(case, case.rules.forged_own_forwarded, Reason.FORGED_OWN, sentence, _signed)


def _is_forged_own(case: Case) -> bool:
    return claims_own_domain(case.facts, case.destination) and not author_is_proven(case.facts)


def judge_spf(case: Case) -> Objection | None:
    spf = case.facts.authentication.spf
    if spf is None or spf.result is not Spf.FAIL:
        return None
    if author_is_proven(case.facts) or evidence.vouched(case.facts, case.rules) is not None:
        return None
    sentence = f"The sender's domain {shown(spf.domain)} says that this client may not send for it."
    return weighed(case, case.rules.spf_fail, Reason.SPF_FAIL, sentence, _sent_from_elsewhere)


def _sent_from_elsewhere(case: Case) -> tuple[str, Case]:
    authentication = case.facts.authentication
    assert authentication.spf is not None
    changed = replace(authentication, spf=replace(authentication.spf, result=Spf.PASS))
    words = f"if it had come from a server that may send for {shown(authentication.spf.domain)}"
    return words, case.with_facts(replace(case.facts, authentication=changed))


def judge_dns_listed(case: Case) -> Objection | None:
    listings = [listing for listing in case.facts.client.listings or () if listing.rejects or listing.weight > 0]
    if not listings:
        return None
    chosen = Action.REJECT.value if any(listing.rejects for listing in listings) else case.rules.dns_lists
    names = listed(list(dict.fromkeys(listing.zone for listing in listings)))
    sentence = f"DNS lists of senders of spam name the client {shown(case.facts.client.address)}: {names}."
    return weighed(case, chosen, Reason.DNS_LISTED, sentence, _not_dns_listed)


def _not_dns_listed(case: Case) -> tuple[str, Case]:
    client = case.facts.client
    words = f"if no DNS list named the client {shown(client.address)}"
    return words, case.with_facts(replace(case.facts, client=replace(client, listings=())))
