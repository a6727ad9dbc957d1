"""Decides about one message for all its destinations, each by its own rules. Blocking: for worker threads.

Nothing is changed: who stores the message tells of its verdicts afterwards (`gateway.judgement.records`).

Raises: Unavailable and others of a tenant's database, if its rules cannot be read: nobody may get what they forbid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.facts.collect import Collected
from gateway.facts.values import ClientFacts, Destination
from gateway.judgement.destinations import Target, destination_of
from gateway.judgement.experience import MessageExperience
from gateway.learning.corrections import Corrections
from gateway.policy.decide import decide, decide_early
from gateway.policy.lists import early_match, list_match
from gateway.policy.rules import Rules, merged
from gateway.policy.verdict import Verdict
from storage.errors import Busy
from storage.filter.correspondents import Acquaintance
from storage.filter.rules import Look
from storage.installation import Installation
from storage.values import EmailAddress

_STEPS = 16  # looks into tenants' databases, of some 10 microseconds each, that the event loop may take itself


@dataclass(frozen=True, slots=True)
class Judged:
    """What was decided about the copy for one target."""

    target: Target
    verdict: Verdict
    keep_days: int  # that it is held, if it is withheld


@dataclass(frozen=True, slots=True)
class Early:
    """What is known of a recipient before the message."""

    refusals: tuple[Verdict, ...] = ()  # of each destination, if all of them refuse
    strangers_wait: bool = False  # greylisting is for this sender and all of these destinations


class Judge:
    """For all connections of a process; any thread may use it."""

    def __init__(self, installation: Installation, corrections: Corrections, rules: Rules) -> None:
        """`rules` are the installation's."""
        self._installation = installation
        self._corrections = corrections
        self._rules = rules

    def judge(self, collected: Collected, targets: Sequence[Target], data: bytes) -> list[Judged]:
        """One for each target, in their order. `data` is the message as it came."""
        facts = collected.facts
        experience = MessageExperience(self._installation, self._corrections, facts, collected.reading, data)
        judged = []
        for target in targets:
            destination = destination_of(target)
            look = self._look(destination)
            rules = merged(self._rules, look.layers)
            verdict = decide(facts, experience.of(destination), destination, rules, list_match(look.matcher, facts))
            judged.append(Judged(target, verdict, rules.quarantine_days))
        return judged

    def judge_at_once(self, collected: Collected, targets: Sequence[Target], data: bytes) -> list[Judged] | None:
        """For the event loop: `judge` if it is a few reads of what is open already; None: it belongs into a thread.

        A thread that does the same reads takes several times as long while the loop is busy.
        """
        try:
            with self._installation.at_hand(_STEPS):
                return self.judge(collected, targets, data)
        except Busy:
            return None

    def early_at_once(
        self, client: ClientFacts, reverse_path: EmailAddress | None, targets: Sequence[Target]
    ) -> Early | None:
        """For the event loop: `early` if it is a few reads of what is open already; None: it belongs into a thread."""
        try:
            with self._installation.at_hand(_STEPS):
                return self.early(client, reverse_path, targets)
        except Busy:
            return None

    def early(self, client: ClientFacts, reverse_path: EmailAddress | None, targets: Sequence[Target]) -> Early:
        """What is decided before the message is there."""
        verdicts: list[Verdict | None] = []
        wait = not client.trusted
        for target in targets:
            destination = destination_of(target)
            look = self._look(destination)
            rules, listed = merged(self._rules, look.layers), early_match(look.matcher, client, reverse_path)
            verdict = decide_early(client, reverse_path, destination, rules, listed)
            if verdict is None and listed is not None and listed.allows:
                wait = False
            verdicts.append(verdict)
            wait = wait and rules.greylisting and not destination.role and self._is_stranger(reverse_path, destination)
        refusals = tuple(verdict for verdict in verdicts if verdict is not None)
        return Early(refusals if len(refusals) == len(verdicts) else (), wait)

    def _look(self, destination: Destination) -> Look:
        return self._installation.tenant(destination.tenant_id).filter_rules.look(
            destination.domain, destination.account_id
        )

    def _is_stranger(self, reverse_path: EmailAddress | None, destination: Destination) -> bool:
        """To whom nobody here writes; reports come from anybody."""
        if reverse_path is None:
            return True
        tenant = self._installation.tenant(destination.tenant_id)
        standing = tenant.correspondents.standing(reverse_path, destination.account_id)
        return standing is Acquaintance.STRANGER
