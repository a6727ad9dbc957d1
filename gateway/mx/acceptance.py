"""Takes a message from elsewhere for the recipients that were accepted, each as its verdict says. Blocking: for worker
threads.

When `accept` returns, the message is durable for all of them: withheld copies in the quarantine first, the others as
`gateway.acceptance.keep` has it. If the others cannot be kept, what was withheld is taken back. Only if all copies are
rejected the message is refused; else a rejected copy is quarantined, so that no stranger gets a bounce.

Aliases that lead outside forward it under a reverse-path of their own domain (SRS), so that the next hop's SPF holds
and bounces find back; the tenant's own server always sees the original one, and so does whoever a bounce goes back to.

Raises: Refused (verdicts, loops, headers beyond measure), StorageFull, Unavailable and others of delivery and of the
quarantine: nothing was kept.
Standards: RFC 5321 §4.4, §6.1, §6.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from gateway.acceptance.border import without_border
from gateway.acceptance.keep import Keeping, Message, copies
from gateway.acceptance.targets import RemoteTarget, Suspended, Targets, targets
from gateway.authentication.facts import authentication_results
from gateway.facts.collect import Collected
from gateway.judgement.destinations import Target, every_target, only, placed
from gateway.judgement.judge import Judge, Judged
from gateway.judgement.records import Told, VerdictRecords
from gateway.judgement.refusals import refusal
from gateway.judgement.words import of_authentication, of_facts
from gateway.mx import header as fields
from gateway.mx.header import Client, check_loops, read_arriving_header, received, verdict_field
from gateway.mx.recipients import Recipients
from gateway.policy.verdict import Action
from gateway.quarantine.onward import withheld_for
from gateway.smtp.address import ForwardPath, ReversePath
from gateway.smtp.content import Content
from gateway.smtp.replies import Refused
from storage.clock import Clock
from storage.directory.resolve import Resolution
from storage.errors import CleanmailError
from storage.quarantine.store import Quarantine
from storage.quarantine.values import NewWithheld
from storage.queue.entries import EnvelopeParameters, Origin, new_queue_id
from storage.values import EmailAddress, TenantId

_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is to be accepted, beside the content."""

    session_id: str
    client: Client
    collected: Collected
    reverse_path: ReversePath
    recipients: Sequence[tuple[ForwardPath, Resolution]]
    judged: Sequence[Judged] | None = None  # of each of `to`, if that is decided already

    @property
    def to(self) -> Targets:
        """Where copies go. Who takes no mail was left out at RCPT."""
        return targets(self.recipients, Suspended.TAKE)

    @property
    def leaves(self) -> bool:
        """All of it goes elsewhere: nothing is delivered to a mailbox here."""
        return not any(resolution.mailboxes for _, resolution in self.recipients)


@dataclass(slots=True)
class _Decided:
    """A message on its way: what is decided about its copies, and what has happened so far."""

    arrival: Arrival
    message: Message
    kept: Targets  # that get their copies
    judged: list[Judged]
    withheld: dict[tuple[TenantId, bytes], str] = field(default_factory=dict)  # by tenant and stamp


class MxAcceptance:
    def __init__(
        self,
        keeping: Keeping,
        quarantine: Quarantine,
        judge: Judge,
        records: VerdictRecords,
        recipients: Recipients,
        clock: Clock,
        hostname: str,
        retry_time: int,
    ) -> None:
        self._keeping = keeping
        self._quarantine = quarantine
        self._judge = judge
        self._records = records
        self._recipients = recipients
        self._clock = clock
        self._hostname = hostname
        self._retry_time = retry_time

    def accept(self, arrival: Arrival, data: bytes) -> Mapping[str, TenantId]:
        """The ids under which the message was taken, and whose each is."""
        decided = self._decide(arrival, data)
        self._withhold(decided)
        try:
            kept = self._keeping.keep(decided.message, decided.kept) if _any(decided.kept) else {}
        except BaseException:
            self._take_back(decided)
            raise
        return self._taken(decided, kept)

    def accept_together(self, arrivals: Sequence[tuple[Arrival, Content]]) -> list[Mapping[str, TenantId] | Exception]:
        """`accept` for arrivals of which none has a mailbox here: for each its ids, or why it was not taken."""
        outcomes: list[Mapping[str, TenantId] | Exception] = []
        queued: list[tuple[int, _Decided]] = []
        for arrival, content in arrivals:
            try:
                decided = self._decide(arrival, content.read())
                self._withhold(decided)
            except Exception as error:  # noqa: BLE001 - it is its own message's
                outcomes.append(error)
                continue
            if _any(decided.kept):
                queued.append((len(outcomes), decided))
                outcomes.append({})
            else:
                outcomes.append(self._taken(decided, {}))
        try:
            kept = self._keeping.keep_together([(each.message, each.kept) for _, each in queued])
        except BaseException:
            for _, decided in queued:
                self._take_back(decided)
            raise
        for (position, decided), ids in zip(queued, kept, strict=True):
            if isinstance(ids, Exception):
                self._take_back(decided)
                outcomes[position] = ids
            else:
                outcomes[position] = self._taken(decided, ids)
        return outcomes

    # Deciding

    def _decide(self, arrival: Arrival, data: bytes) -> _Decided:
        """Raises Refused: for its form, or since all verdicts do."""
        message, to = self._message(arrival, data)
        judged = arrival.judged
        if judged is None:
            judged = self._judge.judge(arrival.collected, every_target(to), data)
        else:  # reverse-paths were not rewritten then
            judged = [replace(each, target=target) for each, target in zip(judged, every_target(to), strict=True)]
        self._refuse(arrival, judged)
        judged = [_stamped(each) for each in judged]
        kept = only(tuple(each.target for each in judged if not each.verdict.withheld))
        return _Decided(arrival, message, kept, judged)

    def _refuse(self, arrival: Arrival, judged: Sequence[Judged]) -> None:
        """Raises Refused if one copy has to wait, since then all do, or if all are rejected."""
        actions = {each.verdict.action for each in judged}
        if actions != {Action.REJECT} and Action.DEFER not in actions:
            return
        told = [Told(arrival.session_id, each.target, each.verdict) for each in judged]
        waiting = [each.verdict for each in judged if each.verdict.action is Action.DEFER]
        if waiting:
            told = [each for each in told if each.verdict.action is Action.DEFER]
        self._records.message(arrival.reverse_path.address, told, arrival.collected.facts)
        raise Refused(refusal(waiting[0] if waiting else judged[0].verdict))

    def _message(self, arrival: Arrival, data: bytes) -> tuple[Message, Targets]:
        """What is kept, and where it goes. Raises Refused."""
        header = read_arriving_header(data)
        asked_for = [path.address for path, _ in arrival.recipients]
        check_loops(header, asked_for)
        path, facts, authentic = arrival.reverse_path, arrival.collected.facts, arrival.collected.authentic
        time, single = self._clock.now(), asked_for[0] if len(asked_for) == 1 else None
        results = fields.authentication_results(self._hostname, *authentication_results(facts.authentication))

        def prefix(queue_id: str) -> bytes:
            return received(arrival.client, self._hostname, queue_id, time, single) + results

        message = Message(
            new_queue_id(self._clock),
            Origin.MX,
            None,
            path.address,
            EnvelopeParameters(path.ret, path.envid, path.smtputf8, path.body, authentic),
            without_border(data, header, self._hostname),
            prefix,
            self._retry_time,
            {
                "client": arrival.client.address,
                "name": arrival.client.name,
                "hello": arrival.client.hello,
                "protocol": arrival.client.protocol,
                "tls": arrival.client.tls,
                **of_authentication(facts),
            },
        )
        return message, self._rewritten(path.address, arrival.to, authentic=authentic)

    def _rewritten(self, original: EmailAddress | None, to: Targets, *, authentic: bool) -> Targets:
        """With the reverse-paths under which aliases forward.

        For domains of ours we may send anyway; but whoever only claims to be of one would be vouched for by us.
        """
        if original is None or not to.remote or (authentic and self._recipients.is_ours(original)):
            return to
        return replace(to, remote=tuple(self._forwarded(original, target) for target in to.remote))

    def _forwarded(self, original: EmailAddress, target: RemoteTarget) -> RemoteTarget:
        if target.tenant_id is None or target.returned:
            return target
        rewriting = self._recipients.rewriting(target.tenant_id)
        return replace(target, reverse_path=rewriting.forward(original, target.path.address.domain))

    # Withholding

    def _withhold(self, decided: _Decided) -> None:
        """An entry for each tenant and stamp. Raises what the quarantine does; then it holds nothing of the message."""
        groups: dict[tuple[TenantId, bytes], list[Judged]] = {}
        for each in decided.judged:
            if each.verdict.withheld:
                groups.setdefault(_copy(each.target), []).append(each)
        message, facts = decided.message, of_facts(decided.arrival.collected.facts) if groups else {}
        shared = _any(decided.kept) or len({tenant_id for tenant_id, _ in groups}) > 1
        try:
            for (tenant_id, stamp), group in groups.items():
                quarantine_id = new_queue_id(self._clock)
                new = NewWithheld(
                    quarantine_id,
                    message.reverse_path,
                    message.parameters,
                    tuple(withheld_for(each.target, each.verdict) for each in group),
                    self._clock.now() + _DAY * max(each.keep_days for each in group),
                    message.prefix(quarantine_id) + stamp,
                    message.data,
                    group[0].verdict.score,
                    facts,
                )
                decided.withheld[tenant_id, stamp] = self._quarantine.keep(tenant_id, new, shared=shared)
        except BaseException:
            self._take_back(decided)
            raise

    def _take_back(self, decided: _Decided) -> None:
        """The message is not accepted. What cannot be taken back is there twice when it is sent again, and not lost."""
        for (tenant_id, _), quarantine_id in decided.withheld.items():
            with suppress(CleanmailError):
                self._quarantine.forget(tenant_id, quarantine_id)

    # Telling

    def _taken(self, decided: _Decided, kept: Mapping[str, TenantId]) -> Mapping[str, TenantId]:
        ids = dict(zip(copies(decided.message, decided.kept), kept, strict=True)) | decided.withheld
        told = [Told(ids[_copy(each.target)], each.target, each.verdict) for each in decided.judged]
        self._records.message(decided.message.reverse_path, told, decided.arrival.collected.facts)
        return {**kept, **{held: tenant_id for (tenant_id, _), held in decided.withheld.items()}}


def _stamped(judged: Judged) -> Judged:
    """As it holds for a message that is taken: a copy that alone would be refused is quarantined."""
    verdict = judged.verdict
    if verdict.action is Action.REJECT:
        verdict = replace(verdict, action=Action.QUARANTINE)
    return replace(judged, target=placed(judged.target, verdict.action, verdict_field(verdict)), verdict=verdict)


def _copy(target: Target) -> tuple[TenantId, bytes]:
    assert target.tenant_id is not None, "mail from elsewhere to elsewhere is never accepted"
    return target.tenant_id, target.stamp


def _any(to: Targets) -> bool:
    return bool(to.mailboxes or to.routed or to.remote)
