"""STATUS, alone and as LIST returns it.

Of the selected mailbox it tells what the session was told, so that a client never learns here of messages whose EXISTS
it has still to get (RFC 9051 §6.3.11 advises against asking at all).

Standards: RFC 9051 §6.3.11, RFC 7162 §3.1.7, RFC 7889 §5, RFC 8438 (SIZE), RFC 8474 §4.3, RFC 9208 §4.1.4
(DELETED-STORAGE).
"""

from __future__ import annotations

from collections.abc import Sequence

from hosting.imap import encode
from hosting.imap.commands import Status
from hosting.imap.effects import Flow, blocking
from hosting.imap.session import Session
from storage.mail.mailboxes import Mailbox


def status(session: Session, _: bytes, command: Status) -> Flow[bytes]:
    mailbox = session.mail.mailboxes.find(command.mailbox)
    yield from mailbox_status(session, mailbox, command.items)
    return b"That is all."


def mailbox_status(session: Session, mailbox: Mailbox, items: Sequence[str]) -> Flow[None]:
    if "HIGHESTMODSEQ" in items:
        session.condstore = True  # RFC 7162 §3.1: a CONDSTORE-enabling command
    deleted_octets = 0
    if "DELETED-STORAGE" in items and mailbox.deleted:
        messages = session.mail.messages
        deleted_octets = yield from blocking(lambda: messages.deleted_octets(mailbox.id))
    selected = session.selected
    mine = selected if selected is not None and selected.mailbox_id == mailbox.id else None
    values = {
        "MESSAGES": mine.told if mine else mailbox.messages,
        "RECENT": mine.recent if mine else min(mailbox.messages, mailbox.uidnext - mailbox.recent_uid),
        "UIDNEXT": mailbox.uidnext,
        "UIDVALIDITY": mailbox.uidvalidity,
        "UNSEEN": mailbox.unseen,
        "DELETED": mailbox.deleted,
        "SIZE": mailbox.bytes,
        "HIGHESTMODSEQ": mine.told_modseq if mine else mailbox.highest_modseq,
        "APPENDLIMIT": session.services.limits.message,
        "DELETED-STORAGE": deleted_octets,
    }
    told = [
        f"MAILBOXID ({mailbox.object_id})" if item == "MAILBOXID" else f"{item} {values[item]}"
        for item in items
        if item != "RECENT" or not session.rev2
    ]
    name = encode.mailbox(mailbox.name, session.rev2)
    yield b"* STATUS %b (%b)\r\n" % (name, " ".join(told).encode("ascii"))
