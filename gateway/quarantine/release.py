"""Releases withheld messages: through the same door as all mail, each copy once, whoever is killed in between.

A release is a way through states that are each committed before the next step (`storage.quarantine.values.NEXT`):

    held -> releasing     from now on somebody is responsible, and another process can go on
    (delivered)           into mailboxes here: unique by (quarantine id, account), so it may be repeated
    (queued, on hold)     what leaves: under an id that was chosen before; on hold, so it can neither leave nor vanish
                          before the next commit, and a repetition finds it
    releasing -> released or, what leaves, -> queued
    (let go)              the hold in the queue ends; repeated, it finds none
    queued -> released

When nobody is left for whom a message is held, it is gone. A copy that cannot be delivered, since the mailbox is full
for instance, is held again. `resume` goes on with what dead processes left; it may be called at any time.

Raises: NotFound, Corrupt (the content is lost), Gone, Unavailable: nothing changed for those that were not released.
Standards: RFC 5321 §4.4, §6.1.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime

from gateway.acceptance.keep import RETRY_TIME, Keeping, Message
from gateway.mx.recipients import Recipients
from gateway.quarantine.onward import targets_of
from storage.errors import CleanmailError, Gone, NotFound
from storage.installation import Installation
from storage.logs.trace import TraceEvent, TraceKind
from storage.quarantine.store import Quarantine
from storage.quarantine.values import HeldRecipient, HeldState, ReleasedBy, Withheld
from storage.queue.entries import Origin, new_queue_id
from storage.values import AccountId, EmailAddress, TenantId

log = logging.getLogger("quarantine")

# Teaches the filter that a message was wanted: whose it is, for which account (None: it left), the fields that we put
# in front of it, the message.
Teach = Callable[[TenantId, AccountId | None, bytes, bytes], None]


@dataclass(frozen=True, slots=True)
class Release:
    """What became of one: by recipient's position."""

    message: Withheld
    released: tuple[int, ...] = ()
    failed: Mapping[int, CleanmailError] = field(default_factory=dict)  # held again, and why


class Releases:
    """Blocking: for worker threads. Any thread may use it."""

    def __init__(
        self,
        installation: Installation,
        quarantine: Quarantine,
        recipients: Recipients,
        *,
        teach: Teach | None = None,
        retry_time: int = RETRY_TIME,
    ) -> None:
        self._installation = installation
        self._quarantine = quarantine
        self._recipients = recipients
        self._teach = teach
        self._retry_time = retry_time
        self._keeping = Keeping(installation, installation.traces)

    def release(self, tenant_id: TenantId, quarantine_id: str, positions: Collection[int], by: ReleasedBy) -> Release:
        """Those of the recipients that are held get the message; the others' release is somebody else's, or over."""
        installation = self._installation
        message, begun = self._quarantine.of(tenant_id).begin_release(
            quarantine_id,
            positions,
            release_id=new_queue_id(installation.clock),
            by=by,
            incarnation=installation.incarnation.name,
        )
        return self._go_on(tenant_id, message, begun) if begun else Release(message)

    def resume(self, tenant_id: TenantId) -> int:
        """Goes on with releases that were interrupted; how many."""
        incarnation = self._installation.incarnation
        interrupted = self._quarantine.of(tenant_id).interrupted(incarnation.is_alive)
        for message, recipients in interrupted:
            self._quarantine.of(tenant_id).resume_release(message.quarantine_id, recipients, incarnation.name)
            try:
                self._go_on(tenant_id, message, recipients)
            except (NotFound, Gone):
                continue
            except CleanmailError as error:
                log.error("message %s was not released: %s", message.quarantine_id, error.detail or error.public)
            except Exception as error:  # noqa: BLE001 - a fault of ours with one message keeps back no other
                log.error("message %s was not released: %s", message.quarantine_id, type(error).__name__)
        return len(interrupted)

    def _go_on(self, tenant_id: TenantId, message: Withheld, recipients: Sequence[HeldRecipient]) -> Release:
        releasing = [each for each in recipients if each.state is not HeldState.QUEUED]
        failed: dict[int, CleanmailError] = {}
        if releasing:
            failed = self._deliver(tenant_id, message, releasing)
        leaving = [each for each in recipients if _leaves(each) and each.position not in failed]
        if leaving:
            self._let_go(tenant_id, message, leaving)
        released = tuple(each.position for each in recipients if each.position not in failed)
        return Release(message, released, failed)

    def _deliver(
        self, tenant_id: TenantId, message: Withheld, recipients: Sequence[HeldRecipient]
    ) -> dict[int, CleanmailError]:
        """Into mailboxes, and into the queue; what failed is held again."""
        rows = self._quarantine.of(tenant_id)
        try:
            prefix, data = self._quarantine.content(tenant_id, message)
        except CleanmailError:
            held_again = (HeldState.RELEASING, HeldState.HELD)
            rows.move(message.quarantine_id, {each.position: held_again for each in recipients})
            raise
        failed: dict[int, CleanmailError] = {}
        for each in recipients:
            if not _leaves(each):
                try:
                    self._keep(tenant_id, message, message.quarantine_id, [each], prefix, data)
                except CleanmailError as error:
                    failed[each.position] = error
        leaving = [each for each in recipients if _leaves(each)]
        if leaving:
            try:
                self._queue(tenant_id, message, leaving, prefix, data)
            except CleanmailError as error:
                failed |= {each.position: error for each in leaving}
        delivered = [each for each in recipients if each.position not in failed]
        self._learn(tenant_id, delivered, prefix, data)
        for each in delivered:
            self._trace(tenant_id, message, each)
        rows.move(
            message.quarantine_id,
            {each.position: (HeldState.RELEASING, _following(each, failed)) for each in recipients},
        )
        return failed

    def _queue(
        self, tenant_id: TenantId, message: Withheld, recipients: Sequence[HeldRecipient], prefix: bytes, data: bytes
    ) -> None:
        """What leaves, unless it is in the queue already: on hold there, so that it does not leave before we know."""
        release_id = recipients[0].release_id
        assert release_id is not None
        try:
            self._installation.queue.show(release_id)
        except NotFound:
            self._keep(tenant_id, message, release_id, recipients, prefix, data)

    def _keep(
        self,
        tenant_id: TenantId,
        message: Withheld,
        queue_id: str,
        recipients: Sequence[HeldRecipient],
        prefix: bytes,
        data: bytes,
    ) -> None:
        def rewrite(recipient: HeldRecipient) -> EmailAddress | None:
            if message.sender is None:
                return None
            return self._recipients.rewriting(tenant_id).forward(message.sender, recipient.address.domain)

        to = targets_of(recipients, tenant_id, rewrite)
        field_ = released_field(recipients[0])
        kept = Message(
            queue_id,
            Origin.MX,
            None,
            message.sender,
            message.parameters,
            data,
            lambda _: field_ + prefix,
            self._retry_time,
            {"released": message.quarantine_id},
            held=_leaves(recipients[0]),
        )
        self._keeping.keep(kept, to)

    def _let_go(self, tenant_id: TenantId, message: Withheld, recipients: Sequence[HeldRecipient]) -> None:
        """The queue may send it: it is known to be there, so nobody will queue it again."""
        release_id = recipients[0].release_id
        assert release_id is not None
        with suppress(NotFound):  # it was let go before, and is gone, or an operator took it out
            self._installation.queue.release(release_id)
        on = (HeldState.QUEUED, HeldState.RELEASED)
        self._quarantine.of(tenant_id).move(message.quarantine_id, {each.position: on for each in recipients})

    def _learn(self, tenant_id: TenantId, recipients: Sequence[HeldRecipient], prefix: bytes, data: bytes) -> None:
        """What cannot be learned is no reason not to deliver."""
        if self._teach is None:
            return
        for account_id in dict.fromkeys(each.account_id for each in recipients):
            try:
                self._teach(tenant_id, account_id, prefix, data)
            except CleanmailError as error:
                log.warning("tenant %d: a release taught nothing: %s", tenant_id, error.detail or error.public)
            except Exception as error:  # noqa: BLE001 - it is delivered, and what leaves waits to be let go
                log.error("tenant %d: a release taught nothing: %s", tenant_id, type(error).__name__)

    def _trace(self, tenant_id: TenantId, message: Withheld, recipient: HeldRecipient) -> None:
        details = {"by": str(recipient.released_by)}
        if _leaves(recipient):
            details["as"] = str(recipient.release_id)
        self._installation.traces.record(
            TraceEvent(
                self._installation.clock.now(),
                message.quarantine_id,
                TraceKind.RELEASED,
                tenant_id,
                recipient.account_id,
                str(message.sender or ""),
                str(recipient.address),
                details,
            )
        )


def released_field(recipient: HeldRecipient) -> bytes:
    """The field that says that a message was withheld, and who let it go; the time is that of the decision."""
    date = format_datetime(datetime.fromtimestamp(recipient.changed, UTC))
    return f"X-Cleanmail-Released: by {recipient.released_by or ReleasedBy.ADMINISTRATOR}; {date}\r\n".encode()


def _leaves(recipient: HeldRecipient) -> bool:
    """Whether its copy goes through the queue: elsewhere, or the sender is to hear of a delivery (RFC 3461 §4.1)."""
    return recipient.account_id is None or "SUCCESS" in recipient.onward.notify


def _following(recipient: HeldRecipient, failed: Collection[int]) -> HeldState:
    if recipient.position in failed:
        return HeldState.HELD
    return HeldState.QUEUED if _leaves(recipient) else HeldState.RELEASED
