"""Takes responsibility for one message with all its recipients. Blocking: for worker threads.

When `keep` returns, the message is durable for all its destinations. If one mailbox here is the only one, it is
committed there; otherwise one commit in queue.db holds an entry per tenant and stamp first, each content under its
tenant's own key, and delivery to the mailboxes follows at once, unique by (queue id, account). Whatever keeps it from a
mailbox then, it keeps its place in the queue: nothing that happens after that commit refuses the message.

Raises: OverQuota, StorageFull, Unavailable and others of delivery: nothing was kept.
Standards: RFC 5321 §4.1.1.4, §6.1 (responsibility), §4.4 (Return-Path).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.acceptance.local import deliver_here, return_path
from gateway.acceptance.placement import delivery
from gateway.acceptance.targets import MailboxTarget, RemoteTarget, RoutedTarget, Targets
from gateway.smtp.address import ForwardPath
from storage.delivery import deliver
from storage.installation import Installation
from storage.logs.trace import SEPARATOR, TO, TraceEvent, TraceKind, TraceSink
from storage.queue.entries import (
    EnvelopeParameters,
    NewEntry,
    NewRecipient,
    Origin,
    RecipientParameters,
    new_queue_id,
)
from storage.values import AccountId, EmailAddress, TenantId

log = logging.getLogger(__name__)

RETRY_TIME = 5 * 86_400  # seconds that recipients elsewhere are tried, by default


@dataclass(frozen=True, slots=True)
class Sender:
    """Who submitted a message: its recipients elsewhere are his tenant's."""

    tenant_id: TenantId
    account_id: AccountId


@dataclass(frozen=True, slots=True)
class Message:
    """What is to be kept. `prefix` gives the fields that we add, for the queue id that a copy is kept under.

    `queue_id` is that of the sender's entry, or of the first.
    """

    queue_id: str
    origin: Origin
    sender: Sender | None  # None: it came from elsewhere
    reverse_path: EmailAddress | None
    parameters: EnvelopeParameters
    data: bytes = field(repr=False)
    prefix: Callable[[str], bytes] = field(repr=False)
    retry_time: int = RETRY_TIME  # seconds
    facts: Mapping[str, str] = field(default_factory=dict, repr=False)  # what a trace says of its arrival
    held: bool = False  # it is queued, and waits there for `Queue.release`


class Keeping:
    def __init__(self, installation: Installation, traces: TraceSink | None = None) -> None:
        self._installation = installation
        self._clock = installation.clock
        self._traces = traces

    def keep(self, message: Message, to: Targets) -> Mapping[str, TenantId]:
        """The queue ids under which the message was taken, `message.queue_id` first, and whose each is."""
        if _is_one_mailbox(to) and not message.held:
            return self._deliver_directly(message, to.mailboxes[0])
        entries = self._entries(message, to)
        self._installation.queue.enqueue(entries)
        return self._queued(message, entries)

    def keep_together(self, messages: Sequence[tuple[Message, Targets]]) -> list[Mapping[str, TenantId] | Exception]:
        """`keep` for messages that have no mailbox here: one commit for all. For each its ids, or what kept it out."""
        entries = [self._entries(message, to) for message, to in messages]
        outcomes = self._installation.queue.enqueue_together(entries)
        return [
            error or self._queued(message, own)
            for (message, _), own, error in zip(messages, entries, outcomes, strict=True)
        ]

    def _queued(self, message: Message, entries: Sequence[NewEntry]) -> Mapping[str, TenantId]:
        for entry in entries:
            self._trace(message, entry.queue_id, entry.tenant_id, [_known_as(each) for each in entry.recipients])
            if not entry.held and any(recipient.account_id is not None for recipient in entry.recipients):
                self._deliver_now(entry)
        return {entry.queue_id: entry.tenant_id for entry in entries}

    def _deliver_now(self, entry: NewEntry) -> None:
        """The message is accepted, so nothing may refuse it any more: what fails now, the queue role repeats."""
        try:
            waiting = self._installation.queue.show(entry.queue_id)
            deliver_here(self._installation, waiting, content=entry.content, traces=self._traces)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client must not send the message again
            log.warning("entry %s stays in the queue for now: %s", entry.queue_id, type(error).__name__)

    def _deliver_directly(self, message: Message, target: MailboxTarget) -> Mapping[str, TenantId]:
        queue_id = message.queue_id
        [outcome] = deliver(
            self._installation,
            target.tenant_id,
            [delivery(self._installation, target.tenant_id, target.account_id, target.mailbox)],
            message.data,
            return_path(message.reverse_path) + message.prefix(queue_id) + target.stamp,
            queue_id,
            overrun=message.origin is not Origin.SUBMISSION,
        )
        if outcome.error is not None:
            raise outcome.error
        self._trace(message, queue_id, target.tenant_id, [str(target.path.address)])
        self._trace_delivery(message, queue_id, target)
        return {queue_id: target.tenant_id}

    def _entries(self, message: Message, to: Targets) -> list[NewEntry]:
        """One for each copy."""
        recipients: dict[tuple[TenantId, bytes], list[NewRecipient]] = {copy: [] for copy in copies(message, to)}
        for mailbox in to.mailboxes:
            parameters = _parameters(mailbox.path, mailbox=mailbox.mailbox)
            recipient = NewRecipient(mailbox.path.address, mailbox.account_id, parameters)
            recipients[mailbox.tenant_id, mailbox.stamp].append(recipient)
        for routed in to.routed:
            recipients[routed.tenant_id, routed.stamp].append(_routed(routed))
        for remote in to.remote:
            recipients[_whose(message, remote), remote.stamp].append(_remote(remote))
        expires = self._clock.now() + message.retry_time
        ids = [message.queue_id, *(new_queue_id(self._clock) for _ in range(len(recipients) - 1))]
        return [
            self._entry(message, queue_id, tenant_id, its, stamp, expires)
            for queue_id, ((tenant_id, stamp), its) in zip(ids, recipients.items(), strict=True)
        ]

    def _entry(
        self,
        message: Message,
        queue_id: str,
        tenant_id: TenantId,
        recipients: list[NewRecipient],
        stamp: bytes,
        expires: int,
    ) -> NewEntry:
        sender = message.sender
        return NewEntry(
            queue_id,
            tenant_id,
            sender.account_id if sender is not None and sender.tenant_id == tenant_id else None,
            message.origin,
            message.reverse_path,
            message.parameters,
            tuple(recipients),
            expires,
            message.prefix(queue_id) + stamp + message.data,
            message.held,
        )

    # Traces

    def _trace(self, message: Message, queue_id: str, tenant_id: TenantId, recipients: Sequence[str]) -> None:
        if self._traces is None:
            return
        account_id = message.sender.account_id if message.sender is not None else None
        facts = {**message.facts, "size": str(len(message.data)), "recipients": str(len(recipients))}
        named = list(dict.fromkeys(recipients))  # an alias may stand for several
        if len(named) > 1:
            facts[TO] = SEPARATOR.join(named)
        self._traces.record(
            TraceEvent(
                self._clock.now(),
                queue_id,
                TraceKind.RECEIVED,
                tenant_id,
                account_id,
                str(message.reverse_path or ""),
                named[0] if len(named) == 1 else "",
                facts,
            )
        )

    def _trace_delivery(self, message: Message, queue_id: str, target: MailboxTarget) -> None:
        if self._traces is not None:
            self._traces.record(
                TraceEvent(
                    self._clock.now(),
                    queue_id,
                    TraceKind.DELIVERED,
                    target.tenant_id,
                    target.account_id,
                    str(message.reverse_path or ""),
                    str(target.path.address),
                )
            )


def copies(message: Message, to: Targets) -> tuple[tuple[TenantId, bytes], ...]:
    """Whose copies are kept and with which stamps, each once, in the order of the ids that they are kept under.

    Mailboxes and routed addresses are their tenants', the rest is the sender's.
    """
    found: list[tuple[TenantId, bytes]] = []
    sender = message.sender
    if sender is not None and (to.remote or any(each.tenant_id == sender.tenant_id for each in to.mailboxes)):
        found.append((sender.tenant_id, b""))  # so that it is the first
    found += [(mailbox.tenant_id, mailbox.stamp) for mailbox in to.mailboxes]
    found += [(routed.tenant_id, routed.stamp) for routed in to.routed]
    found += [(_whose(message, remote), remote.stamp) for remote in to.remote]
    return tuple(dict.fromkeys(found))


def _whose(message: Message, remote: RemoteTarget) -> TenantId:
    whose = message.sender.tenant_id if message.sender is not None else remote.tenant_id
    assert whose is not None, "mail from elsewhere to elsewhere is never accepted"
    return whose


def _is_one_mailbox(to: Targets) -> bool:
    """And nobody asked to hear of it (RFC 3461 §4.1): a report is queued when its recipient is settled."""
    alone = len(to.mailboxes) == 1 and not to.remote and not to.routed
    return alone and "SUCCESS" not in to.mailboxes[0].path.notify


def _known_as(recipient: NewRecipient) -> str:
    """The address that the sender knows: the envelope's."""
    return recipient.parameters.original or str(recipient.address)


def _parameters(
    path: ForwardPath, *, original: str = "", reverse_path: str = "", mailbox: str = ""
) -> RecipientParameters:
    return RecipientParameters(path.notify, path.orcpt, original, reverse_path, mailbox)


def _routed(target: RoutedTarget) -> NewRecipient:
    # Only what an alias leads there has a Delivered-To: recipients without one share a transaction.
    original = "" if target.address == target.path.address else str(target.path.address)
    return NewRecipient(target.address, None, _parameters(target.path, original=original), routed=target.domain)


def _remote(target: RemoteTarget) -> NewRecipient:
    original = str(target.path.address) if target.forwarded else ""
    reverse_path = str(target.reverse_path) if target.reverse_path is not None else ""
    return NewRecipient(target.address, None, _parameters(target.path, original=original, reverse_path=reverse_path))
