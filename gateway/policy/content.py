"""What is held against what a message says: its form, a scanner's opinion, its score.

Pure.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.classifier.correction import Score
from gateway.classifier.model import Maturity
from gateway.content_facts import Finding
from gateway.facts.values import Place
from gateway.policy import evidence
from gateway.policy.case import WEIGHT, Case, Objection, action_at, weighed
from gateway.policy.rules import NEVER, Rules
from gateway.policy.verdict import Action, Reason
from gateway.policy.wording import scores

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


def judge_malformed(case: Case) -> Objection | None:
    content = case.facts.content
    found = [finding for finding in _FORGERIES if content is not None and finding in content.findings]
    if not found:
        return None
    return weighed(case, case.rules.malformed, Reason.MALFORMED, found[0].sentence, _well_formed)


def _well_formed(case: Case) -> tuple[str, Case]:
    content = case.facts.content
    assert content is not None
    changed = replace(content, findings=content.findings.difference(_FORGERIES))
    return "in a proper form", case.with_facts(replace(case.facts, content=changed))


def judge_rspamd(case: Case) -> Objection | None:
    rspamd = case.facts.rspamd
    if rspamd is None or rspamd.unknown or rspamd.action != "reject":
        return None
    sentence = f"Rspamd takes it for spam: {rspamd.score:.1f} of {rspamd.required_score:.1f} points."
    return weighed(case, case.rules.rspamd, Reason.SCANNER, sentence, _not_by_rspamd)


def _not_by_rspamd(case: Case) -> tuple[str, Case]:
    assert case.facts.rspamd is not None
    changed = replace(case.facts.rspamd, action="no action", score=0.0)
    return "if Rspamd had found nothing", case.with_facts(replace(case.facts, rspamd=changed))


_UNTRAINED = "It is only marked, since the filter's model has not learned enough yet."


def judge_spam(case: Case) -> Objection | None:
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
