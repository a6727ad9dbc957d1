"""Delivers queued messages to mailboxes here: at once when accepted, and later what a crash or a full mailbox left.

Delivery is unique by (queue id, account), so it may be repeated: nobody gets a message twice. Blocking.

Standards: RFC 5321 §4.4 (Return-Path), §4.5.4.1 (retries).
"""

from __future__ import annotations

from storage.delivery import Delivery, deliver
from storage.errors import CleanmailError, Gone, NotFound
from storage.installation import Installation
from storage.queue.entries import Entry, Recipient, RecipientState
from storage.values import EmailAddress

RETRY_AFTER = (60, 300, 900, 1800, 3600)  # seconds after each attempt; the last one repeats


def return_path(address: EmailAddress | None) -> bytes:
    """The field that final delivery puts in front of all others."""
    return f"Return-Path: <{address or ''}>\r\n".encode()


def deliver_here(installation: Installation, entry: Entry, *, content: bytes | None = None) -> None:
    """Delivers `entry` to its mailboxes here that wait, and settles them or says when they are tried again."""
    waiting = [r for r in entry.recipients if r.account_id is not None and not r.state.settled]
    if not waiting:
        return
    octets = installation.queue.content(entry) if content is None else content
    targets = [Delivery(recipient.account_id) for recipient in waiting if recipient.account_id is not None]
    outcomes = deliver(installation, entry.tenant_id, targets, octets, return_path(entry.reverse_path), entry.queue_id)
    now = installation.clock.now()
    settled: dict[int, tuple[RecipientState, str]] = {}
    postponed: dict[int, tuple[int, str]] = {}
    for recipient, outcome in zip(waiting, outcomes, strict=True):
        error = outcome.error
        if error is None:
            settled[recipient.position] = (RecipientState.DELIVERED, "")
        elif isinstance(error, (Gone, NotFound)) or now >= entry.expires:
            settled[recipient.position] = (RecipientState.FAILED, error.public)
        else:
            postponed[recipient.position] = (now + _pause(recipient), error.public)
    if postponed:
        installation.queue.postpone(entry, postponed)
    if settled:
        installation.queue.settle(entry, settled)


def _pause(recipient: Recipient) -> int:
    return RETRY_AFTER[min(recipient.attempts, len(RETRY_AFTER) - 1)]


def deliver_pending(installation: Installation, limit: int = 100) -> int:
    """Delivers what is due to mailboxes here; how many entries it tried. For the queue role, each minute."""
    tried = 0
    for queue_id in installation.queue.due_here(limit):
        try:
            deliver_here(installation, installation.queue.show(queue_id))
        except (NotFound, Gone):
            continue  # settled meanwhile, or its tenant ended
        except CleanmailError as error:
            if not error.temporary:
                raise
            continue
        tried += 1
    return tried
