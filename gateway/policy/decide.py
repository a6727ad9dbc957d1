"""Decides what becomes of a message for one of its destinations: facts and rules in, a verdict out.

All judges are heard (`gateway.policy.judges`), and the heaviest of what they would do is done. Of several that want the
same the weightier one gives the reason; malware is named before everything else, so that nobody releases it by mistake.
The counterfactual is found by trying: the facts that were held against the message are changed, one after the other,
until the verdict is another one.

Pure; never fails. Only what is known is held against a message, so what could not be found out never refuses it.

Standards: RFC 5321 §4.5.1, RFC 9989 §7.4, RFC 6647 (what greylisting answers).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gateway.facts.values import ClientFacts, Destination, Experience, Facts
from gateway.policy.case import WEIGHT, Case, Excuse, Objection, excuses
from gateway.policy.judges import JUDGES
from gateway.policy.lists import ListMatch
from gateway.policy.rules import Rules
from gateway.policy.verdict import Action, Reason, Verdict
from gateway.policy.wording import listed as named
from gateway.policy.wording import shown
from storage.values import EmailAddress

_ROLE_SENTENCE = "Mail for postmaster and abuse is delivered all the same."


def decide(
    facts: Facts, experience: Experience, destination: Destination, rules: Rules, listed: ListMatch | None = None
) -> Verdict:
    """`rules` and `listed` are the destination's own (`gateway.policy.rules.merged`, `lists.list_match`)."""
    case = Case.of(facts, experience, destination, rules, listed)
    verdict = _weigh(case).verdict
    if verdict.action is Action.DELIVER:
        return verdict
    return replace(verdict, counterfactual=counterfactual(case)[0])


def decide_early(
    client: ClientFacts,
    reverse_path: EmailAddress | None,
    destination: Destination,
    rules: Rules,
    listed: ListMatch | None = None,
) -> Verdict | None:
    """What is refused before the content is there; `listed` is `lists.early_match`'s. None: go on.

    Nothing is decided here that the content could change: a sender who might prove to be on an allow list goes on.
    """
    if destination.role or (listed is not None and listed.allows):
        return None
    if listed is not None and listed.denies and rules.denied == Action.REJECT:
        words = f"if {named(listed.patterns)} were not on the deny list"
        return _refused(Reason.DENIED, f"The sender is on a deny list: {listed.pattern}.", words)
    listings = () if client.trusted else client.listings or ()
    against = [each.zone for each in listings if each.rejects or (each.weight > 0 and rules.dns_lists == Action.REJECT)]
    if against:
        names = named(list(dict.fromkeys(against)))
        sentence = f"DNS lists of senders of spam name the client {shown(client.address)}: {names}."
        return _refused(Reason.DNS_LISTED, sentence, f"if no DNS list named the client {shown(client.address)}")
    return None


def put_off(seconds: int) -> Verdict:
    """What greylisting says to a stranger's first message (RFC 6647)."""
    return Verdict(
        Action.DEFER,
        Reason.GREYLISTED,
        f"First messages of unknown senders are taken at their second try; try again in {max(1, seconds)} seconds.",
        f"It would have passed at a try {max(1, seconds)} seconds later.",
    )


def counterfactual(case: Case) -> tuple[str, Case]:
    """What would have let the message pass, as a sentence; and the case in which it does.

    To pass is to be delivered, with a tag at most; for a message that is only tagged, without one.
    """
    first = _weigh(case)
    aim = Action.DELIVER if first.verdict.action is Action.TAG else Action.TAG
    words: list[str] = []
    weighed = first
    while weighed.objection is not None and WEIGHT[weighed.verdict.action] > WEIGHT[aim]:
        if len(words) == len(JUDGES) + len(Action):  # each cure takes something away; this is for mistakes of ours
            return "", case
        word, case = weighed.objection.cure(case)
        if word not in words:
            words.append(word)
        weighed = _weigh(case)
    if not words:
        return "", case
    return f"It would have passed {', '.join(words[:-1])}{' and ' if words[:-1] else ''}{words[-1]}.", case


@dataclass(frozen=True, slots=True)
class _Weighed:
    verdict: Verdict  # without a counterfactual
    objection: Objection | None = None  # the one that decided


def _weigh(case: Case) -> _Weighed:
    found = excuses(case)
    excused: set[Excuse] = set()
    objections = list(_objections(case, found, excused))
    if not objections:
        return _Weighed(_passed(case, found, excused))
    heaviest = max(objections, key=lambda each: WEIGHT[each.action])  # the first of them
    action = heaviest.action
    decisive = objections[0] if objections[0].reason is Reason.MALWARE else heaviest
    return _Weighed(Verdict(action, decisive.reason, decisive.sentence, "", _score(case), case.evidence), decisive)


def _objections(case: Case, found: frozenset[Excuse], excused: set[Excuse]) -> Iterator[Objection]:
    """Those that count; `excused` gets why others do not."""
    for judge in JUDGES:
        objection = judge.look(case)
        if objection is None:
            continue
        why = judge.excuses & found
        if why:
            excused |= why
        elif case.destination.role:
            yield _for_role(objection, harmless=Excuse.ROLE in judge.excuses)
        else:
            yield objection


def _for_role(objection: Objection, *, harmless: bool) -> Objection:
    """RFC 5321 §4.5.1: postmaster takes what is no danger; only for its form a message is refused."""
    if harmless and WEIGHT[objection.action] > WEIGHT[Action.TAG]:
        sentence = f"{objection.sentence} {_ROLE_SENTENCE}"
        return replace(objection, action=Action.TAG, reason=Reason.ROLE_ADDRESS, sentence=sentence)
    if objection.action is Action.REJECT and objection.reason is not Reason.MALFORMED:
        return replace(objection, action=Action.QUARANTINE)
    return objection


def _passed(case: Case, found: frozenset[Excuse], excused: set[Excuse]) -> Verdict:
    reason, sentence = Reason.NOTHING_AGAINST_IT, "Nothing speaks against it."
    if Excuse.ALLOWED in found and case.listed is not None:
        reason, sentence = Reason.ALLOWED, f"Its sender is on an allow list: {case.listed.pattern}."
    elif Excuse.TRUSTED in found:
        reason, sentence = Reason.TRUSTED_CLIENT, "It comes from a server that filters its mail itself."
    elif Excuse.KNOWN in excused:
        reason = Reason.KNOWN_CORRESPONDENT
        sentence = "It looks like spam, but people here write to its author, and the author is proven."
    return Verdict(Action.DELIVER, reason, sentence, "", _score(case), case.evidence)


def _score(case: Case) -> float | None:
    score = case.score
    return None if score is None else round(score, 3)


def _refused(reason: Reason, sentence: str, words: str) -> Verdict:
    return Verdict(Action.REJECT, reason, sentence, f"It would have passed {words}.")
