"""What can be held against a message, one judge for each kind, the weightiest first.

A judge sees a case and has an objection or none. An objection says what it would do, why, and what would cure it: the
words, and the case as it would then be, so that a counterfactual can be tried instead of claimed. What a judge does not
know it does not object to. `JUDGES` says too what each is silent for: senders on an allow list, servers that filter
themselves, authors to whom people here write, and mail for postmaster.

Pure. Standards: RFC 9989 §7.4 (DMARC alone refuses nothing here), RFC 5321 §4.5.1 (postmaster), RFC 2142 (abuse).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import TypeAlias

from gateway.authentication.authorship import Authors
from gateway.classifier.correction import Score
from gateway.classifier.model import Maturity
from gateway.content_facts import FORBIDDEN, GROUPS, Attachment, Finding
from gateway.content_facts.forbidden import UNREADABLE_ARCHIVE
from gateway.dkim.result import Dkim, DkimResult
from gateway.dmarc.result import Aligned, Dmarc, Policy
from gateway.facts.values import Destination, Experience, Facts, Place, Standing
from gateway.policy import evidence
from gateway.policy.authorship import author_is_proven, claims_own_domain
from gateway.policy.lists import ListMatch
from gateway.policy.rules import NEVER, WEIGH, Rules
from gateway.policy.verdict import Action, Evidence, Reason
from gateway.policy.wording import kind_of, listed, scores, shown
from gateway.scanners import MalwareResult
from gateway.spf import Spf

WEIGHT: Mapping[Action, int] = {action: weight for weight, action in enumerate(Action)}


@dataclass(frozen=True, slots=True)
class Case:
    """All that a verdict depends on."""

    facts: Facts
    experience: Experience
    destination: Destination
    rules: Rules
    listed: ListMatch | None
    evidence: tuple[Evidence, ...]

    @classmethod
    def of(
        cls, facts: Facts, experience: Experience, destination: Destination, rules: Rules, listed: ListMatch | None
    ) -> Case:
        return cls(
            facts, experience, destination, rules, listed, evidence.collect(facts, experience, destination, rules)
        )

    def with_facts(self, facts: Facts) -> Case:
        return Case.of(facts, self.experience, self.destination, self.rules, self.listed)

    @property
    def score(self) -> float | None:
        """What thresholds are compared with; None if nothing is known of the content."""
        content = self.experience.score
        return None if content is None else content.total + evidence.offset(self.evidence)


Cure: TypeAlias = Callable[[Case], tuple[str, Case]]


@dataclass(frozen=True, slots=True)
class Objection:
    action: Action
    reason: Reason
    sentence: str
    cure: Cure  # how "It would have passed" goes on, and the case that would have


class Excuse(Enum):
    """Why an objection may not count."""

    ALLOWED = auto()
    TRUSTED = auto()
    KNOWN = auto()
    ROLE = auto()  # it counts, but nothing is withheld for it


def excuses(case: Case) -> frozenset[Excuse]:
    """All but ROLE."""
    found = set()
    if case.listed is not None and case.listed.allows:
        found.add(Excuse.ALLOWED)
    if case.facts.client.trusted:
        found.add(Excuse.TRUSTED)
    if case.experience.standing in (Standing.ACCOUNT, Standing.TENANT) and author_is_proven(case.facts):
        found.add(Excuse.KNOWN)
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class Judge:
    look: Callable[[Case], Objection | None]
    excuses: frozenset[Excuse] = frozenset()


def action_at(action: Action | str, destination: Destination) -> Action:
    """Where there is no Junk folder the quarantine takes its place."""
    action = Action(action)
    return Action.QUARANTINE if action is Action.JUNK and destination.place is not Place.MAILBOX else action


# Malware and attachments


def _malware(case: Case) -> Objection | None:
    found = case.facts.malware
    if found is None or found.unknown or not found.malware:
        return None
    known = not found.heuristic
    action = action_at(case.rules.malware if known else case.rules.malware_suspected, case.destination)
    sentence = f"It contains malware: {shown(found.malware)}." if known else f"It may do harm: {shown(found.malware)}."
    return Objection(action, Reason.MALWARE, sentence, _without_malware)


def _without_malware(case: Case) -> tuple[str, Case]:
    return "without the malware", case.with_facts(replace(case.facts, malware=MalwareResult()))


def _unscanned(case: Case) -> Objection | None:
    if case.facts.malware is None and "malware" not in case.facts.unknown:
        return None  # there is no scanner
    if case.facts.malware is not None and not case.facts.malware.unknown:
        return None
    action = action_at(case.rules.malware_unknown, case.destination)
    return _objection(action, Reason.UNSCANNED, "It could not be looked through for malware.", _scanned)


def _scanned(case: Case) -> tuple[str, Case]:
    unknown = {name: why for name, why in case.facts.unknown.items() if name != "malware"}
    facts = replace(case.facts, malware=MalwareResult(), unknown=unknown)
    return "if the malware scanner had answered and found nothing", case.with_facts(facts)


class _Groups:
    """The groups of a message's attachments; the last answer is kept, since each recipient asks for the same."""

    def __init__(self) -> None:
        self._last: tuple[tuple[Attachment, ...], dict[str, str]] = ((), {})

    def __call__(self, attachments: tuple[Attachment, ...]) -> Mapping[str, str]:
        last = self._last
        if last[0] is not attachments:
            last = self._last = (attachments, FORBIDDEN.groups_of_all(attachments))
        return last[1]


_groups = _Groups()


def _attachments(case: Case) -> Objection | None:
    content = case.facts.content
    if content is None or not (content.attachments or content.incomplete):
        return None
    found = dict(_groups(content.attachments))
    if content.incomplete is not None:
        found.setdefault(UNREADABLE_ARCHIVE, "")
    heaviest, group = max(
        ((_of_group(case, name), name) for name in GROUPS if name in found),
        key=lambda each: WEIGHT[each[0]],
        default=(Action.DELIVER, ""),
    )
    if heaviest is Action.DELIVER:
        return None
    if not found[group] and content.incomplete is not None:
        sentence = "It could not be looked into as a whole. " + content.incomplete.sentence
    else:
        ending = kind_of(found[group])
        sentence = f"It has {GROUPS[group]} attached{f' ({ending})' if ending else ''}."
    return Objection(heaviest, Reason.FORBIDDEN_ATTACHMENT, sentence, _without_attachments)


def _of_group(case: Case, group: str) -> Action:
    """What the rules say; nothing goes into Junk that comes from whom the recipient knows."""
    action = case.rules.attachment(group)
    if action is Action.JUNK and not excuses(case).isdisjoint({Excuse.ALLOWED, Excuse.KNOWN}):
        return Action.TAG
    return action_at(action, case.destination)


def _without_attachments(case: Case) -> tuple[str, Case]:
    """Without those that are held against it as much as the heaviest one."""
    content, objection = case.facts.content, _attachments(case)
    assert content is not None and objection is not None
    least = WEIGHT[objection.action]
    heavy = {group for group in GROUPS if WEIGHT[_of_group(case, group)] >= least}
    taken: list[Attachment] = []
    kept: list[Attachment] = []
    for each in content.attachments:
        (kept if heavy.isdisjoint(FORBIDDEN.groups(each)) else taken).append(each)
    words = []
    if taken:
        endings = list(dict.fromkeys(ending for each in taken if (ending := kind_of(each.name))))
        files = "the attached file" if len(taken) == 1 else f"{len(taken)} attached files"
        words.append(f"without {files}{f' ({listed(endings)})' if endings else ''}")
    incomplete = content.incomplete
    if incomplete is not None and UNREADABLE_ARCHIVE in heavy:
        words.append("if all of it could be looked into")
        incomplete = None
    changed = replace(content, attachments=tuple(kept), incomplete=incomplete)
    return " and ".join(words), case.with_facts(replace(case.facts, content=changed))


# Lists and form


def _denied(case: Case) -> Objection | None:
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


# What forgers and evaders do, and what no program does by mistake.
_FORGERIES = (
    Finding.SEVERAL_FROM,
    Finding.NO_FROM,
    Finding.FROM_UNREADABLE,
    Finding.CONTROLS_IN_HEADER,
    Finding.ATTACHED_NAME_DECEIVES,
    Finding.PARTIAL,
    Finding.TOO_MANY_PARTS,
)


def _malformed(case: Case) -> Objection | None:
    content = case.facts.content
    found = [finding for finding in _FORGERIES if content is not None and finding in content.findings]
    if not found:
        return None
    return _weighed(case, case.rules.malformed, Reason.MALFORMED, found[0].sentence, _well_formed)


def _well_formed(case: Case) -> tuple[str, Case]:
    content = case.facts.content
    assert content is not None
    changed = replace(content, findings=content.findings.difference(_FORGERIES))
    return "in a proper form", case.with_facts(replace(case.facts, content=changed))


# Who stands behind it


def _dmarc(case: Case) -> Objection | None:
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
    return _weighed(case, chosen, reason, sentence, _signed)


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


def _forged_own(case: Case) -> Objection | None:
    if case.destination.place is Place.FORWARDED or not _is_forged_own(case):
        return None
    sentence = f"It names an author of the recipient's own domain {case.destination.domain}, and nothing proves it."
    return _weighed(case, case.rules.forged_own, Reason.FORGED_OWN, sentence, _signed)


def _forged_own_forwarded(case: Case) -> Objection | None:
    """It would leave under a path of our domain, and DMARC would pass at the next server, for us and the forger."""
    if case.destination.place is not Place.FORWARDED or not _is_forged_own(case):
        return None
    sentence = (
        f"It names an author of {case.destination.domain}, nothing proves it, and the server to which it would be "
        "forwarded would take it for genuine."
    )
    return _weighed(case, case.rules.forged_own_forwarded, Reason.FORGED_OWN, sentence, _signed)


def _is_forged_own(case: Case) -> bool:
    return claims_own_domain(case.facts, case.destination) and not author_is_proven(case.facts)


def _spf(case: Case) -> Objection | None:
    spf = case.facts.authentication.spf
    if spf is None or spf.result is not Spf.FAIL:
        return None
    if author_is_proven(case.facts) or evidence.vouched(case.facts, case.rules) is not None:
        return None
    sentence = f"The sender's domain {shown(spf.domain)} says that this client may not send for it."
    return _weighed(case, case.rules.spf_fail, Reason.SPF_FAIL, sentence, _sent_from_elsewhere)


def _sent_from_elsewhere(case: Case) -> tuple[str, Case]:
    authentication = case.facts.authentication
    assert authentication.spf is not None
    changed = replace(authentication, spf=replace(authentication.spf, result=Spf.PASS))
    words = f"if it had come from a server that may send for {shown(authentication.spf.domain)}"
    return words, case.with_facts(replace(case.facts, authentication=changed))


def _dns_listed(case: Case) -> Objection | None:
    listings = [listing for listing in case.facts.client.listings or () if listing.rejects or listing.weight > 0]
    if not listings:
        return None
    chosen = Action.REJECT.value if any(listing.rejects for listing in listings) else case.rules.dns_lists
    names = listed(list(dict.fromkeys(listing.zone for listing in listings)))
    sentence = f"DNS lists of senders of spam name the client {shown(case.facts.client.address)}: {names}."
    return _weighed(case, chosen, Reason.DNS_LISTED, sentence, _not_dns_listed)


def _not_dns_listed(case: Case) -> tuple[str, Case]:
    client = case.facts.client
    words = f"if no DNS list named the client {shown(client.address)}"
    return words, case.with_facts(replace(case.facts, client=replace(client, listings=())))


# Content


def _rspamd(case: Case) -> Objection | None:
    rspamd = case.facts.rspamd
    if rspamd is None or rspamd.unknown or rspamd.action != "reject":
        return None
    sentence = f"Rspamd takes it for spam: {rspamd.score:.1f} of {rspamd.required_score:.1f} points."
    return _weighed(case, case.rules.rspamd, Reason.SCANNER, sentence, _not_by_rspamd)


def _not_by_rspamd(case: Case) -> tuple[str, Case]:
    assert case.facts.rspamd is not None
    changed = replace(case.facts.rspamd, action="no action", score=0.0)
    return "if Rspamd had found nothing", case.with_facts(replace(case.facts, rspamd=changed))


_UNTRAINED = "It is only marked, since the filter's model has not learned enough yet."


def _spam(case: Case) -> Objection | None:
    score, content = case.score, case.experience.score
    if score is None or content is None or score < _suspicious_from(case.rules):
        return None
    if score < case.rules.junk_at:
        return _suspicion(case, score)
    action = _of_spam(case, score, content.total)
    if action is Action.DELIVER:
        return None
    limit, found, own = scores(case.rules.junk_at, score, content.total)
    sentence = f"It looks like spam: its score is {found}, and from {limit} on a message is spam."
    if content.total < case.rules.junk_at:
        sentence += f" Its content alone would have {own}."
    if WEIGHT[action] < WEIGHT[_if_trained(case, score, content.total)] and not case.destination.role:
        sentence += f" {_UNTRAINED}"
    return Objection(action, _reason_of_spam(case, content.total), sentence, _like_mail)


def _suspicious_from(rules: Rules) -> float:
    return rules.junk_at if rules.tag_at == NEVER else min(rules.tag_at, rules.junk_at)


def _suspicion(case: Case, score: float) -> Objection | None:
    """It is delivered, and says what is thought of it; where spam is delivered as it is, so is this."""
    if _of_spam(case, score, score) is Action.DELIVER:
        return None
    limit, found = scores(_suspicious_from(case.rules), score)
    sentence = f"It may be spam: its score is {found}, and from {limit} on a message is suspicious."
    return Objection(Action.TAG, Reason.SPAM, sentence, _like_mail)


def _of_spam(case: Case, score: float, content: float) -> Action:
    """Who has learned little only tags."""
    action = _if_trained(case, score, content)
    if case.experience.maturity is not Maturity.TRAINED:
        action = min(action, Action.TAG, key=WEIGHT.__getitem__)
    return action


def _if_trained(case: Case, score: float, content: float) -> Action:
    """Heavier with a higher score. Evidence beside the content refuses nothing."""
    rules = case.rules
    chosen = rules.spam_here if case.destination.place is Place.MAILBOX else rules.spam_routed
    action = action_at(chosen, case.destination)
    if rules.quarantine_at != NEVER and score >= rules.quarantine_at:
        action = max(action, Action.QUARANTINE, key=WEIGHT.__getitem__)
    if rules.reject_at != NEVER and min(score, content) >= rules.reject_at:
        action = Action.REJECT
    if action is Action.REJECT and content < rules.junk_at:
        action = Action.QUARANTINE
    return action


def _reason_of_spam(case: Case, content: float) -> Reason:
    if content >= case.rules.junk_at:
        return Reason.SPAM
    heaviest = max(case.evidence, key=lambda each: each.offset)
    return _REASONS.get(heaviest.name, Reason.SPAM)


_REASONS = {
    evidence.REPUTATION_DOMAIN: Reason.BAD_REPUTATION,
    evidence.REPUTATION_NETWORK: Reason.BAD_REPUTATION,
    evidence.DNS_LISTS: Reason.DNS_LISTED,
    evidence.RSPAMD: Reason.SCANNER,
}


def _like_mail(case: Case) -> tuple[str, Case]:
    score = case.score
    assert score is not None
    limit, found = scores(_suspicious_from(case.rules), score)
    content = _suspicious_from(case.rules) - evidence.offset(case.evidence) - 0.001
    experience = replace(case.experience, score=Score(content, 0.0, 0.0))
    return f"with a score below {limit} (it was {found})", replace(case, experience=experience)


def _weighed(case: Case, chosen: str, reason: Reason, sentence: str, cure: Cure) -> Objection | None:
    """None where the fact is only evidence."""
    if chosen == WEIGH:
        return None
    return _objection(action_at(chosen, case.destination), reason, sentence, cure)


def _objection(action: Action, reason: Reason, sentence: str, cure: Cure) -> Objection | None:
    return None if action is Action.DELIVER else Objection(action, reason, sentence, cure)


_PROVIDERS = frozenset((Excuse.ALLOWED, Excuse.TRUSTED))
_ANYBODY = _PROVIDERS | {Excuse.ROLE}

JUDGES: tuple[Judge, ...] = (
    Judge(_malware),
    Judge(_attachments),
    Judge(_unscanned, _ANYBODY),
    Judge(_denied, frozenset({Excuse.ROLE})),
    Judge(_malformed, _PROVIDERS),
    Judge(_dmarc, _ANYBODY),
    Judge(_forged_own_forwarded, _PROVIDERS),
    Judge(_forged_own, _ANYBODY),
    Judge(_spf, _ANYBODY),
    Judge(_dns_listed, _ANYBODY),
    Judge(_rspamd, _ANYBODY | {Excuse.KNOWN}),
    Judge(_spam, _ANYBODY | {Excuse.KNOWN}),
)
