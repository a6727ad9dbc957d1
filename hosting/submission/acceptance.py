"""Takes responsibility for a submitted message. Blocking: for worker threads.

When `accept` returns, the message is durable for all its destinations (`gateway.acceptance.keep`).

Raises: Refused (rules), OverQuota, StorageFull, Unavailable and others of delivery: nothing was kept.
Standards: RFC 6409 §6.1, §8.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from gateway.acceptance.keep import RETRY_TIME, Keeping, Message, Sender
from gateway.acceptance.targets import Suspended, refusal, targets
from gateway.smtp.address import ForwardPath, ReversePath
from gateway.smtp.replies import Refused, SmtpReply
from hosting.auth.signin import Principal
from hosting.submission.rules import (
    CONTRACT_ENDS,
    NOT_YOURS,
    Stamp,
    claimed_senders,
    is_by_hand,
    read_submitted_header,
    submitted,
)
from hosting.submission.sending import SendingGate
from storage.clock import Clock
from storage.directory.resolve import Resolution, Resolver
from storage.errors import CleanmailError
from storage.installation import Installation
from storage.logs.trace import TraceSink
from storage.queue.entries import EnvelopeParameters, Origin, new_queue_id
from storage.values import EmailAddress


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is to be accepted, beside the content."""

    principal: Principal
    protocol: str  # as Received says it
    reverse_path: ReversePath
    recipients: Sequence[tuple[ForwardPath, Resolution]]


class Acceptance:
    def __init__(
        self,
        installation: Installation,
        resolver: Resolver,
        clock: Clock,
        hostname: str,
        *,
        suspended: Suspended = Suspended.DEFER,
        retry_time: int = RETRY_TIME,
        traces: TraceSink | None = None,
        gate: SendingGate | None = None,
    ) -> None:
        """`gate`: what limits sending; without one nothing does."""
        self._installation = installation
        self._resolver = resolver
        self._clock = clock
        self._hostname = hostname
        self._suspended = suspended
        self._retry_time = retry_time
        self._gate = gate
        self._keeping = Keeping(installation, traces)

    def may_send_as(self, principal: Principal, address: EmailAddress) -> bool:
        return self._resolver.may_send_as(principal.tenant_id, principal.account_id, address)

    def sender_refusal(self, principal: Principal, address: EmailAddress | None) -> SmtpReply | None:
        """Why the account may not send with this reverse-path, or not at all; None if it may."""
        try:
            self._limit(principal, 0)
        except Refused as refused:
            return refused.reply
        if principal.is_read_only(self._clock.now()):
            return CONTRACT_ENDS
        return None if address is None or self.may_send_as(principal, address) else NOT_YOURS

    def resolve(self, address: EmailAddress) -> Resolution:
        return self._resolver.resolve(address)

    def refusal(self, resolution: Resolution) -> SmtpReply | None:
        """Why a recipient that resolved so is refused; None if it is taken."""
        return refusal(resolution, self._suspended)

    def accept(self, envelope: Envelope, data: bytes) -> str:
        """The queue id under which the message was taken."""
        principal, path = envelope.principal, envelope.reverse_path
        header = read_submitted_header(data)
        senders = claimed_senders(header)
        for sender in senders:
            if not self.may_send_as(principal, sender):
                raise Refused(NOT_YOURS)
        to = targets(envelope.recipients, self._suspended)
        self._limit(principal, len(to.remote))
        queue_id = new_queue_id(self._clock)
        stamp = Stamp(self._hostname, envelope.protocol, queue_id, self._clock.now())
        made = submitted(data, header, stamp, senders)
        message = Message(
            queue_id,
            Origin.SUBMISSION,
            Sender(principal.tenant_id, principal.account_id),
            path.address,
            EnvelopeParameters(path.ret, path.envid, path.smtputf8, path.body),
            made.data,
            lambda _: made.prefix,
            self._retry_time,
            {"protocol": envelope.protocol},
        )
        self._keeping.keep(message, to)
        if path.address is not None and is_by_hand(header):
            self._remember(principal, [to.address for to, _ in envelope.recipients])
        return queue_id

    def _remember(self, principal: Principal, recipients: list[EmailAddress]) -> None:
        """Whom the account writes to, so that their mail is no stranger's."""
        with suppress(CleanmailError):  # the message is accepted all the same
            self._installation.tenant(principal.tenant_id).correspondents.record(principal.account_id, recipients)

    def _limit(self, principal: Principal, recipients: int) -> None:
        if self._gate is not None:
            self._gate.check(principal, recipients)
