"""Takes responsibility for a submitted message. Blocking: for worker threads.

When `accept` returns, the message is durable for all its destinations. If one mailbox here is the only one, it is
committed there; otherwise one commit in queue.db holds an entry per tenant first, and delivery to the mailboxes follows
at once, unique by (queue id, account). Whatever keeps it from a mailbox for now, it keeps its place in the queue.

Raises: Refused (rules), OverQuota, StorageFull, Unavailable and others of delivery: nothing was kept.
Standards: RFC 6409 §6.1, §8, RFC 5321 §4.4 (Return-Path), §6.1 (responsibility).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.smtp.address import ForwardPath, ReversePath
from gateway.smtp.replies import Refused
from hosting.auth.signin import Principal
from hosting.submission.pending import deliver_here, return_path
from hosting.submission.routing import MailboxTarget, Targets, targets
from hosting.submission.rules import (
    NOT_YOURS,
    Stamp,
    Submitted,
    claimed_senders,
    read_submitted_header,
    submitted,
)
from storage.clock import Clock
from storage.delivery import Delivery, deliver
from storage.directory.resolve import Resolution, Resolver
from storage.installation import Installation
from storage.queue.entries import (
    EnvelopeParameters,
    NewEntry,
    NewRecipient,
    Origin,
    RecipientParameters,
    new_queue_id,
)
from storage.values import EmailAddress, TenantId

log = logging.getLogger(__name__)

RETRY_TIME = 5 * 86_400  # how long remote recipients are tried, by default


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is to be accepted, beside the content."""

    principal: Principal
    protocol: str  # as Received says it
    reverse_path: ReversePath
    recipients: Sequence[tuple[ForwardPath, Resolution]]


class Acceptance:
    def __init__(self, installation: Installation, resolver: Resolver, clock: Clock, hostname: str) -> None:
        self._installation = installation
        self._resolver = resolver
        self._clock = clock
        self._hostname = hostname

    def may_send_as(self, principal: Principal, address: EmailAddress) -> bool:
        return self._resolver.may_send_as(principal.tenant_id, principal.account_id, address)

    def resolve(self, address: EmailAddress) -> Resolution:
        return self._resolver.resolve(address)

    def accept(self, envelope: Envelope, data: bytes) -> str:
        """The queue id under which the message was taken."""
        header = read_submitted_header(data)
        senders = claimed_senders(header)
        for sender in senders:
            if not self.may_send_as(envelope.principal, sender):
                raise Refused(NOT_YOURS)
        queue_id = new_queue_id(self._clock)
        stamp = Stamp(self._hostname, envelope.protocol, queue_id, self._clock.now())
        message = submitted(data, header, stamp, senders)
        self._keep(envelope, message, queue_id, targets(envelope.recipients))
        return queue_id

    def _keep(self, envelope: Envelope, message: Submitted, queue_id: str, to: Targets) -> None:
        if len(to.mailboxes) == 1 and not to.remote:
            self._deliver_directly(envelope, message, queue_id, to.mailboxes[0])
            return
        entries = self._entries(envelope, message, queue_id, to)
        queue = self._installation.queue
        queue.enqueue(entries)
        for entry in entries:
            if any(recipient.account_id is not None for recipient in entry.recipients):
                self._deliver_now(entry)

    def _deliver_now(self, entry: NewEntry) -> None:
        """The message is accepted, so nothing may refuse it any more: what fails now, the queue role repeats."""
        try:
            deliver_here(self._installation, self._installation.queue.show(entry.queue_id), content=entry.content)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client must not send the message again
            log.warning("entry %s stays in the queue for now: %s", entry.queue_id, type(error).__name__)

    def _deliver_directly(self, envelope: Envelope, message: Submitted, queue_id: str, target: MailboxTarget) -> None:
        prefix = return_path(envelope.reverse_path.address) + message.prefix
        [outcome] = deliver(
            self._installation, target.tenant_id, [Delivery(target.account_id)], message.data, prefix, queue_id
        )
        if outcome.error is not None:
            raise outcome.error

    def _entries(self, envelope: Envelope, message: Submitted, queue_id: str, to: Targets) -> list[NewEntry]:
        """One entry per tenant: the submitter's with all that goes elsewhere, and those of other tenants' mailboxes."""
        own = envelope.principal.tenant_id
        by_tenant: dict[TenantId, list[NewRecipient]] = {}
        for mailbox in to.mailboxes:
            recipient = NewRecipient(mailbox.path.address, mailbox.account_id, _parameters(mailbox.path))
            by_tenant.setdefault(mailbox.tenant_id, []).append(recipient)
        for remote in to.remote:
            by_tenant.setdefault(own, []).append(NewRecipient(remote.address, None, _parameters(remote.path)))
        path = envelope.reverse_path
        content = message.prefix + message.data
        return [
            NewEntry(
                queue_id if tenant_id == own else new_queue_id(self._clock),
                tenant_id,
                envelope.principal.account_id if tenant_id == own else None,
                Origin.SUBMISSION,
                path.address,
                EnvelopeParameters(path.ret, path.envid, path.smtputf8, path.body),
                tuple(recipients),
                self._clock.now() + RETRY_TIME,
                content,
            )
            for tenant_id, recipients in by_tenant.items()
        ]


def _parameters(path: ForwardPath) -> RecipientParameters:
    return RecipientParameters(path.notify, path.orcpt)
