"""What a message brings that could do harm: malware, and attachments of forbidden kinds.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gateway.content_facts import FORBIDDEN, GROUPS, Attachment
from gateway.content_facts.forbidden import UNREADABLE_ARCHIVE
from gateway.policy.case import WEIGHT, Case, Excuse, Objection, action_at, excuses, objection_of
from gateway.policy.verdict import Action, Reason
from gateway.policy.wording import kind_of, listed, shown
from gateway.scanners import MalwareResult


def judge_malware(case: Case) -> Objection | None:
    found = case.facts.malware
    if found is None or found.unknown or not found.malware:
        return None
    known = not found.heuristic
    action = action_at(case.rules.malware if known else case.rules.malware_suspected, case.destination)
    sentence = f"It contains malware: {shown(found.malware)}." if known else f"It may do harm: {shown(found.malware)}."
    return Objection(action, Reason.MALWARE, sentence, _without_malware)


def _without_malware(case: Case) -> tuple[str, Case]:
    return "without the malware", case.with_facts(replace(case.facts, malware=MalwareResult()))


def judge_unscanned(case: Case) -> Objection | None:
    if case.facts.malware is None and "malware" not in case.facts.unknown:
        return None  # there is no scanner
    if case.facts.malware is not None and not case.facts.malware.unknown:
        return None
    action = action_at(case.rules.malware_unknown, case.destination)
    return objection_of(action, Reason.UNSCANNED, "It could not be looked through for malware.", _scanned)


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


def judge_attachments(case: Case) -> Objection | None:
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
    content, objection = case.facts.content, judge_attachments(case)
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
