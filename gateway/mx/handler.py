"""One MX session's decisions, asynchronous around the blocking parts: which senders, which recipients, which messages.

Every message that is accepted, and every recipient and message that is refused, leaves a trace event, and so does
every verdict. What DNS says of the client is asked for from the connection on, what it says of the sender when the
first recipient is accepted, so a stranger who tries addresses costs us little; the answers are waited for at the end of
the message, within the time limit of all facts, or at RCPT where a rule may refuse by them.

Standards: RFC 5321 §3.3, §4.5.1 (postmaster), §6.1; RFC 3463 (status codes).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.acceptance.targets import Suspended, targets, too_many
from gateway.facts import collect
from gateway.facts.client import ClientChecks, ClientInquiry
from gateway.facts.collect import AT_ONCE, Collector
from gateway.facts.sender import SenderChecks, SenderInquiry
from gateway.facts.values import ClientFacts
from gateway.greylist import Greylist, client_network
from gateway.judgement.destinations import every_target
from gateway.judgement.judge import Early, Judge, Judged
from gateway.judgement.records import Told, VerdictRecords
from gateway.judgement.refusals import refusal
from gateway.mx.acceptance import Arrival, MxAcceptance
from gateway.mx.header import Client
from gateway.mx.own_servers import OwnServers
from gateway.mx.recipients import Asked, LookedUp, Recipients
from gateway.policy.decide import put_off
from gateway.smtp.address import ForwardPath
from gateway.smtp.content import Content
from gateway.smtp.replies import (
    RECIPIENT_OK,
    SENDER_OK,
    TOO_MANY_RECIPIENTS,
    UNKNOWN_COMMAND,
    Refused,
    SmtpReply,
    reply_for,
)
from gateway.smtp.session import Exchange, SmtpSession, Transaction
from gateway.smtp.shared_limits import Rate, SharedLimits
from gateway.work import Together, Work
from storage.clock import Clock
from storage.directory.resolve import Resolution, is_role
from storage.errors import QuarantineFull
from storage.logs.trace import TraceEvent, TraceKind, TraceSink
from storage.values import EmailAddress, TenantId

TOO_MANY_OF_SENDER = SmtpReply(450, "4.7.1", "Too many messages of this sender; try again later")


@dataclass(slots=True)
class MxCounters:
    """Plain numbers for metrics: no addresses."""

    messages: dict[str, int] = field(default_factory=lambda: {"accepted": 0, "refused": 0, "deferred": 0})
    recipients: dict[str, int] = field(default_factory=lambda: {"accepted": 0, "refused": 0, "deferred": 0})


@dataclass(frozen=True, slots=True)
class MxDesk:
    """What the sessions of a process share."""

    recipients: Recipients
    acceptance: MxAcceptance
    clients: ClientChecks
    senders: SenderChecks
    collector: Collector
    judge: Judge
    records: VerdictRecords
    greylist: Greylist | None  # None: nobody is put off
    listings_wait: float  # seconds that RCPT waits for DNS lists; 0 where no list may refuse by itself
    own_servers: OwnServers
    shared: SharedLimits
    per_sender: Rate
    traces: TraceSink
    counters: MxCounters
    work: Work
    queueing: Together[tuple[Arrival, Content], Mapping[str, TenantId]]  # of what has no mailbox here
    clock: Clock


class MxHandler:
    """A `gateway.smtp.session.Handler`."""

    def __init__(self, session: SmtpSession, desk: MxDesk) -> None:
        self._session = session
        self._desk = desk
        self._client: ClientInquiry | None = None
        self._sender: SenderInquiry | None = None  # of the open transaction, or the last one

    async def connect(self, session: SmtpSession) -> SmtpReply | None:
        self._client = self._desk.clients.begin(session.address)
        return None

    async def sign_in(self, session: SmtpSession, login: str, password: str) -> None:
        raise Refused(UNKNOWN_COMMAND)  # the profile offers no AUTH

    def exchange(self, session: SmtpSession, mechanism: str) -> Exchange:
        raise Refused(UNKNOWN_COMMAND)

    async def mail(self, session: SmtpSession, transaction: Transaction) -> SmtpReply:
        address = transaction.reverse_path.address
        if address is not None and not self._desk.shared.spend("mx sender", address.key, 1, self._desk.per_sender):
            return TOO_MANY_OF_SENDER
        return SENDER_OK

    async def rcpt(self, session: SmtpSession, transaction: Transaction, path: ForwardPath) -> SmtpReply:
        size = transaction.reverse_path.size
        try:
            found = await self._verified(await self._look_up(path.address, size), path.address, size)
            refused = found.refusal
            if refused is None and too_many(transaction.resolved, found.resolution):
                refused = TOO_MANY_RECIPIENTS
            if refused is None:
                refused = await self._judged_early(transaction, path, found.resolution)
        except Exception as error:
            self._refused(transaction, path, None, reply_for(error))
            raise
        if refused is not None:
            self._refused(transaction, path, found.resolution.tenant_id, refused)
            return refused
        transaction.resolved.append(found.resolution)
        self._desk.counters.recipients["accepted"] += 1
        self._check_sender(transaction)
        return RECIPIENT_OK

    async def data(self, session: SmtpSession, transaction: Transaction, content: Content) -> SmtpReply:
        recipients = list(zip(transaction.recipients, transaction.resolved, strict=True))
        try:
            collected = await self._desk.collector.message(self._asked(transaction), content)
            name = collected.facts.client.name or ""
            client = Client(session.address, session.host_name or "", name, session.protocol, session.tls)
            arrival = Arrival(session.id, client, collected, transaction.reverse_path, recipients)
            kept = await self._kept(arrival, content)
        except Exception as error:
            self._message_refused(transaction, recipients, error)
            raise
        return self._accepted(kept)

    def closed(self, session: SmtpSession) -> None:
        if self._client is not None:
            self._client.cancel()
        if self._sender is not None:
            self._sender.cancel()

    # Inside

    async def _kept(self, arrival: Arrival, content: Content) -> Mapping[str, TenantId]:
        if content.size <= AT_ONCE:
            judged = self._desk.judge.judge_at_once(arrival.collected, every_target(arrival.to), content.read())
            arrival = replace(arrival, judged=judged)
        if arrival.leaves and _is_quick(arrival.judged):
            return await self._desk.queueing.run((arrival, content))
        acceptance = self._desk.acceptance
        return await self._desk.work.run_on(content.size, lambda: acceptance.accept(arrival, content.read()))

    async def _look_up(self, address: EmailAddress, size: int) -> LookedUp:
        recipients = self._desk.recipients
        found = recipients.look_up_at_once(address, size)
        if found is not None:
            return found
        return await self._desk.work.run(lambda: recipients.look_up(address, size))

    async def _verified(self, found: LookedUp, address: EmailAddress, size: int) -> LookedUp:
        """`found` after the servers of tenants that take part were asked."""
        if found.refusal is not None or not found.ask:
            return found
        own_servers = self._desk.own_servers
        answers = await asyncio.gather(*(own_servers.verify(each.server, each.routed.address) for each in found.ask))
        refused = [(each, answer) for each, answer in zip(found.ask, answers, strict=True) if answer is not None]
        if not refused:
            return found
        if is_role(address):  # RFC 5321 §4.5.1: somebody reads it, always
            here = await self._desk.work.run(lambda: self._desk.recipients.without_route(address, size))
            if here.refusal is None:
                return here
        for _, answer in refused:
            if answer.temporary:
                return replace(found, refusal=answer)
        left = _without(found.resolution, [each for each, _ in refused])
        if left.mailboxes or left.external or left.routed:
            return replace(found, resolution=left)
        return replace(found, refusal=refused[0][1])

    def _check_sender(self, transaction: Transaction) -> SenderInquiry:
        """What is being asked about the transaction's reverse-path; it begins with the first call."""
        if transaction.sender is None:
            if self._sender is not None:  # of a transaction before: a session costs us one check at a time
                self._sender.cancel()
            session, path = self._session, transaction.reverse_path.address
            self._sender = self._desk.senders.begin(session.address, session.host_name or "", path)
            transaction.sender = self._sender
        inquiry: SenderInquiry = transaction.sender
        return inquiry

    def _asked(self, transaction: Transaction) -> collect.Transaction:
        assert self._client is not None, "a session connects before anything else"
        return collect.Transaction(
            self._session.address,
            self._session.host_name or "",
            transaction.reverse_path.address,
            [path.address for path in transaction.recipients],
            transaction.reverse_path.smtputf8,
            self._client,
            self._check_sender(transaction),
        )

    # Verdicts before the message

    async def _judged_early(
        self, transaction: Transaction, path: ForwardPath, resolution: Resolution
    ) -> SmtpReply | None:
        """Why the recipient is refused, or put off, by what is known of the sender; None: go on."""
        desk, inquiry = self._desk, self._client
        assert inquiry is not None, "a session connects before anything else"
        sender = transaction.reverse_path.address
        listings = await inquiry.listings(desk.listings_wait)
        client = ClientFacts(self._session.address, listings=listings, trusted=inquiry.trusted)
        to = every_target(targets([(path, resolution)], Suspended.TAKE))
        early: Early | None = desk.judge.early_at_once(client, sender, to)
        if early is None:
            early = await desk.work.run(lambda: desk.judge.early(client, sender, to))
        verdicts = early.refusals
        if not verdicts and early.strangers_wait and desk.greylist is not None:
            wait = await self._greylisted(desk.greylist, transaction, path)
            verdicts = (put_off(wait),) * len(to) if wait else ()
        if not verdicts:
            return None
        told = [Told(self._session.id, target, verdict) for target, verdict in zip(to, verdicts, strict=True)]
        desk.records.early(sender, told, {"client": self._session.address, "hello": self._session.host_name or ""})
        return refusal(verdicts[0])

    async def _greylisted(self, greylist: Greylist, transaction: Transaction, path: ForwardPath) -> int:
        """Seconds until another try is taken; 0: it passes.

        RFC 6647 §4: who is proven to send for a domain may try again from elsewhere.
        """
        spf = self._check_sender(transaction).spf
        await asyncio.wait([spf])  # it has a time limit of its own
        network = client_network(self._session.address)
        if not spf.cancelled() and spf.exception() is None and spf.result().passed:
            network = spf.result().domain.lower()
        sender = str(transaction.reverse_path.address or "")
        return greylist.pass_(network, sender, str(path.address), self._desk.clock.now())

    def _accepted(self, kept: Mapping[str, TenantId]) -> SmtpReply:
        transcript = self._session.transcript
        if transcript is not None:
            for queue_id, tenant_id in kept.items():
                transcript.message(queue_id, tenant_id)
        self._desk.counters.messages["accepted"] += 1
        return SmtpReply(250, "2.6.0", f"Accepted as {next(iter(kept))}")

    def _message_refused(
        self, transaction: Transaction, recipients: Sequence[tuple[ForwardPath, Resolution]], error: Exception
    ) -> None:
        reply = reply_for(error)
        self._desk.counters.messages["deferred" if reply.temporary else "refused"] += 1
        for path, resolution in recipients:
            self._trace_refusal(transaction, path, resolution.tenant_id, reply, _reason(error, resolution.tenant_id))

    def _refused(
        self, transaction: Transaction, path: ForwardPath, tenant_id: TenantId | None, reply: SmtpReply
    ) -> None:
        self._desk.counters.recipients["deferred" if reply.temporary else "refused"] += 1
        self._trace_refusal(transaction, path, tenant_id, reply)

    def _trace_refusal(
        self,
        transaction: Transaction,
        path: ForwardPath,
        tenant_id: TenantId | None,
        reply: SmtpReply,
        reason: Mapping[str, str] | None = None,
    ) -> None:
        said = f"{reply.code} {reply.status} {reply.text}"
        self._desk.traces.record(
            TraceEvent(
                self._desk.clock.now(),
                self._session.id,
                TraceKind.REFUSED,
                tenant_id,
                None,
                str(transaction.reverse_path.address or ""),
                str(path.address),
                {"reply": said, "client": self._session.address, **(reason or {})},
            )
        )


def _reason(error: Exception, tenant_id: TenantId | None) -> dict[str, str]:
    """What the reply does not say, for the trace of one recipient, of which his tenant alone learns."""
    if not isinstance(error, QuarantineFull):
        return {}
    its = error.tenant_id == tenant_id
    return {"reason": "the quarantine is full" if its else "the copy of another recipient has to wait"}


def _is_quick(judged: Sequence[Judged] | None) -> bool:
    """Whether one commit of the queue is all that is left: what waits for a tenant holds up no other mail."""
    return judged is not None and not any(each.verdict.withheld for each in judged)


def _without(resolution: Resolution, gone: Sequence[Asked]) -> Resolution:
    refused = {each.routed.address.key for each in gone}
    return replace(resolution, routed=tuple(each for each in resolution.routed if each.address.key not in refused))
