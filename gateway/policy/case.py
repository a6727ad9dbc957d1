"""A case that is judged, what can be held against it, and what a judge is silent for.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from gateway.facts.values import Destination, Experience, Facts, Place, Standing
from gateway.policy import evidence
from gateway.policy.authorship import author_is_proven
from gateway.policy.lists import ListMatch
from gateway.policy.rules import WEIGH, Rules
from gateway.policy.verdict import Action, Evidence, Reason

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


def weighed(case: Case, chosen: str, reason: Reason, sentence: str, cure: Cure) -> Objection | None:
    """None where the fact is only evidence."""
    if chosen == WEIGH:
        return None
    return objection_of(action_at(chosen, case.destination), reason, sentence, cure)


def objection_of(action: Action, reason: Reason, sentence: str, cure: Cure) -> Objection | None:
    return None if action is Action.DELIVER else Objection(action, reason, sentence, cure)
