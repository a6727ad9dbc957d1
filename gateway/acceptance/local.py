"""Delivers entries of the queue to mailboxes here: at once when accepted, and again when something kept them from it.

Delivery is unique by (queue id, account), so it may be repeated: nobody gets a message twice. A recipient that cannot
be delivered stays in the queue, whatever the reason: giving up, and telling the sender, is the queue runner's.
Blocking: for worker threads.

Standards: RFC 5321 §4.4 (Return-Path), §4.5.4.1 (retries).
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from gateway.acceptance.placement import delivery
from gateway.queue.backoff import HERE
from gateway.smtp.replies import reply_for
from storage.delivery import deliver
from storage.errors import CleanmailError
from storage.installation import Installation
from storage.logs.trace import TraceEvent, TraceKind, TraceSink
from storage.queue.entries import Entry, Origin, Recipient, RecipientState, Reply
from storage.values import EmailAddress

DELIVERED = Reply(250, "2.1.5", "Delivered to the mailbox")


def return_path(address: EmailAddress | None) -> bytes:
    """The field that final delivery puts in front of all others."""
    return f"Return-Path: <{address or ''}>\r\n".encode()


def attempt_here(
    installation: Installation, entry: Entry, *, content: bytes | None = None
) -> Mapping[int, CleanmailError | None]:
    """Delivers `entry` to its mailboxes here that wait: by recipient's position, what kept it from that, if anything.

    Nothing is noted in the queue. Mail that was accepted from elsewhere may overrun a quota that was not used up when
    its recipient was accepted.
    """
    waiting = [r for r in entry.recipients if r.account_id is not None and r.state is RecipientState.QUEUED]
    if not waiting:
        return {}
    octets = installation.queue.content(entry) if content is None else content
    outcomes = deliver(
        installation,
        entry.tenant_id,
        [
            delivery(installation, entry.tenant_id, recipient.account_id, recipient.parameters.mailbox)
            for recipient in waiting
            if recipient.account_id is not None
        ],
        octets,
        return_path(entry.reverse_path),
        entry.queue_id,
        overrun=entry.origin is not Origin.SUBMISSION,
    )
    return {recipient.position: outcome.error for recipient, outcome in zip(waiting, outcomes, strict=True)}


def deliver_here(
    installation: Installation, entry: Entry, *, content: bytes | None = None, traces: TraceSink | None = None
) -> None:
    """Delivers `entry` to its mailboxes here that wait, and settles them or says when they are tried again.

    Who asked to hear of a success waits on: the queue's runner finds it delivered, and settles it with the report.
    """
    attempted = attempt_here(installation, entry, content=content)
    now = installation.clock.now()
    settled: dict[int, tuple[RecipientState, Reply]] = {}
    postponed: dict[int, tuple[int, Reply]] = {}
    for recipient in entry.recipients:
        if recipient.position not in attempted:
            continue
        error = attempted[recipient.position]
        if error is None and "SUCCESS" in recipient.parameters.notify:
            continue
        if error is None:
            settled[recipient.position] = (RecipientState.DELIVERED, DELIVERED)
        else:
            chance = random.random()  # noqa: S311 - spreads attempts, protects nothing
            again = HERE.next_attempt(now, recipient.attempts + 1, chance, entry.expires)
            postponed[recipient.position] = (again, said(error))
        if traces is not None:
            traces.record(_event(entry, recipient, error, now))
    if postponed:
        installation.queue.postpone(entry, postponed)
    if settled:
        installation.queue.settle(entry, settled)


def said(error: CleanmailError) -> Reply:
    """What the queue remembers of an error of ours."""
    reply = reply_for(error)
    return Reply(reply.code, reply.status, reply.text)


def _event(entry: Entry, recipient: Recipient, error: CleanmailError | None, now: int) -> TraceEvent:
    return TraceEvent(
        now,
        entry.queue_id,
        TraceKind.DELIVERED if error is None else TraceKind.DEFERRED,
        entry.tenant_id,
        recipient.account_id,
        str(entry.reverse_path or ""),
        str(recipient.address),
        {} if error is None else {"reply": str(said(error))},
    )
