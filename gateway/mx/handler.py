"""One MX session's decisions, asynchronous around the blocking parts: which senders, which recipients, which messages.

Every message that is accepted, and every recipient and message that is refused, leaves a trace event. What DNS says of
the sender is asked for when the first recipient is accepted, so a stranger who tries addresses costs us no question;
the answers are waited for at the end of the message, within their time limit.

Standards: RFC 5321 §3.3, §4.5.1 (postmaster), §6.1; RFC 3463 (status codes).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.acceptance.targets import too_many
from gateway.mx.acceptance import Arrival, MxAcceptance
from gateway.mx.header import Client
from gateway.mx.own_servers import OwnServers
from gateway.mx.recipients import Asked, LookedUp, Recipients
from gateway.mx.sender import SenderChecks, SenderFacts
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
from gateway.smtp.session import SmtpSession, Transaction
from gateway.smtp.shared_limits import Rate, SharedLimits
from gateway.work import LARGE, Together, Work
from storage.clock import Clock
from storage.directory.resolve import Resolution, is_role
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
    senders: SenderChecks
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
        self._check: asyncio.Task[SenderFacts] | None = None  # of the open transaction, or the last one

    async def connect(self, session: SmtpSession) -> SmtpReply | None:
        return None

    async def sign_in(self, session: SmtpSession, login: str, password: str) -> None:
        raise Refused(UNKNOWN_COMMAND)  # the profile offers no AUTH

    async def mail(self, session: SmtpSession, transaction: Transaction) -> SmtpReply:
        address = transaction.reverse_path.address
        if address is not None and not self._desk.shared.spend("mx sender", address.key, 1, self._desk.per_sender):
            return TOO_MANY_OF_SENDER
        return SENDER_OK

    async def rcpt(self, session: SmtpSession, transaction: Transaction, path: ForwardPath) -> SmtpReply:
        size = transaction.reverse_path.size
        try:
            found = await self._verified(await self._look_up(path.address, size), path.address, size)
        except Exception as error:
            self._refused(transaction, path, None, reply_for(error))
            raise
        refusal = found.refusal
        if refusal is None and too_many(transaction.resolved, found.resolution):
            refusal = TOO_MANY_RECIPIENTS
        if refusal is not None:
            self._refused(transaction, path, found.resolution.tenant_id, refusal)
            return refusal
        transaction.resolved.append(found.resolution)
        self._desk.counters.recipients["accepted"] += 1
        if transaction.sender is None:
            transaction.sender = self._check_sender(transaction)
        return RECIPIENT_OK

    async def data(self, session: SmtpSession, transaction: Transaction, content: Content) -> SmtpReply:
        recipients = list(zip(transaction.recipients, transaction.resolved, strict=True))
        try:
            facts: SenderFacts = await transaction.sender
            arrival = Arrival(self._client(facts), facts, transaction.reverse_path, recipients)
            kept = await self._kept(arrival, content)
        except Exception as error:
            self._message_refused(transaction, recipients, reply_for(error))
            raise
        return self._accepted(kept)

    def closed(self, session: SmtpSession) -> None:
        self._give_up_check()

    # Inside

    async def _kept(self, arrival: Arrival, content: Content) -> Mapping[str, TenantId]:
        if arrival.leaves and content.size <= LARGE:
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

    def _check_sender(self, transaction: Transaction) -> asyncio.Task[SenderFacts]:
        session, path = self._session, transaction.reverse_path
        checking = self._desk.senders.check(session.address, session.host_name or "", path.address)
        self._give_up_check()  # of a transaction that came to nothing: a session costs us one check at a time
        self._check = asyncio.get_running_loop().create_task(checking)
        return self._check

    def _give_up_check(self) -> None:
        if self._check is not None:
            self._check.cancel()

    def _client(self, facts: SenderFacts) -> Client:
        session = self._session
        return Client(session.address, session.host_name or "", facts.name, session.protocol, session.tls)

    def _accepted(self, kept: Mapping[str, TenantId]) -> SmtpReply:
        transcript = self._session.transcript
        if transcript is not None:
            for queue_id, tenant_id in kept.items():
                transcript.message(queue_id, tenant_id)
        self._desk.counters.messages["accepted"] += 1
        return SmtpReply(250, "2.6.0", f"Accepted as {next(iter(kept))}")

    def _message_refused(
        self, transaction: Transaction, recipients: Sequence[tuple[ForwardPath, Resolution]], reply: SmtpReply
    ) -> None:
        self._desk.counters.messages["deferred" if reply.temporary else "refused"] += 1
        for path, resolution in recipients:
            self._trace_refusal(transaction, path, resolution.tenant_id, reply)

    def _refused(
        self, transaction: Transaction, path: ForwardPath, tenant_id: TenantId | None, reply: SmtpReply
    ) -> None:
        self._desk.counters.recipients["deferred" if reply.temporary else "refused"] += 1
        self._trace_refusal(transaction, path, tenant_id, reply)

    def _trace_refusal(
        self, transaction: Transaction, path: ForwardPath, tenant_id: TenantId | None, reply: SmtpReply
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
                {"reply": said, "client": self._session.address},
            )
        )


def _without(resolution: Resolution, gone: Sequence[Asked]) -> Resolution:
    refused = {each.routed.address.key for each in gone}
    return replace(resolution, routed=tuple(each for each in resolution.routed if each.address.key not in refused))
