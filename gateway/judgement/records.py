"""Tells of verdicts, once what they led to has happened: in traces, in the counts of the provider's promise, and in
what a tenant knows of its senders. Nothing waits for a disk. Any thread may use it.

Nothing is raised, not for a fault of ours either: the message is durable then, and its client must not send it again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from threading import Lock

from gateway.acceptance.targets import MailboxTarget
from gateway.authentication.facts import authentication_results
from gateway.facts.values import Facts
from gateway.judgement.destinations import Target
from gateway.judgement.words import of_facts, of_verdict
from gateway.learning import experience
from gateway.policy.verdict import Action, Verdict
from storage.errors import CleanmailError
from storage.installation import Installation
from storage.logs.trace import TraceEvent, TraceKind, TraceSink
from storage.values import EmailAddress, TenantId

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """A verdict that holds, and the id that its trace goes by: of an entry, a withheld message, or the session."""

    trace_id: str
    target: Target
    verdict: Verdict


class VerdictRecords:
    """Of one process."""

    def __init__(self, installation: Installation, traces: TraceSink | None = None) -> None:
        self._installation = installation
        self._traces = traces
        self._guard = Lock()  # of the next
        self._actions: Counter[str] = Counter()

    @property
    def actions(self) -> dict[str, int]:
        """How many verdicts of each kind there were, since the process began; for metrics."""
        with self._guard:
            return {action.value: self._actions[action.value] for action in Action}

    def early(self, reverse_path: EmailAddress | None, told: Iterable[Told], words: Mapping[str, str]) -> None:
        """Of recipients that were refused before the message; `words` are what was known of its sender."""
        for each in told:
            self._tell(reverse_path, each, words)

    def message(self, reverse_path: EmailAddress | None, told: Iterable[Told], facts: Facts) -> None:
        """Of a message that was taken, or refused for all its destinations."""
        try:
            words, by_tenant = of_facts(facts), dict[TenantId, Verdict]()
            for each in told:
                self._tell(reverse_path, each, words)
                by_tenant.setdefault(_tenant(each.target), each.verdict)
            self._note(by_tenant, facts)
        except Exception as error:  # noqa: BLE001 - see above
            _log.error("verdicts are not told: %s", type(error).__name__)

    def _note(self, by_tenant: Mapping[TenantId, Verdict], facts: Facts) -> None:
        """A tenant got the message once, whomever it was for."""
        subjects = experience.subjects(authentication_results(facts.authentication), facts.client.address)
        for tenant_id, verdict in by_tenant.items():
            try:
                experience.judged(self._installation.tenant(tenant_id).reputation, verdict, subjects)
            except CleanmailError as error:
                _log.warning("tenant %d: nothing is noted of a sender: %s", tenant_id, error.detail or error.public)

    def _tell(self, reverse_path: EmailAddress | None, told: Told, words: Mapping[str, str]) -> None:
        tenant_id, action = _tenant(told.target), told.verdict.action.value
        self._installation.counts.add(tenant_id, action)
        with self._guard:
            self._actions[action] += 1
        if self._traces is None:
            return
        self._traces.record(
            TraceEvent(
                self._installation.clock.now(),
                told.trace_id,
                TraceKind.VERDICT,
                tenant_id,
                told.target.account_id if isinstance(told.target, MailboxTarget) else None,
                str(reverse_path or ""),
                str(told.target.path.address),
                {**of_verdict(told.verdict), **words},
            )
        )


def _tenant(target: Target) -> TenantId:
    assert target.tenant_id is not None, "mail from elsewhere to elsewhere is never accepted"
    return target.tenant_id
