"""STATUS, alone and as LIST returns it.

Of the selected mailbox it tells what the session was told, so that a client never learns here of messages whose EXISTS
it has still to get (RFC 9051 §6.3.11 advises against asking at all).

Standards: RFC 9051 §6.3.11, RFC 7162 §3.1.7, RFC 7889 §5, RFC 8438 (SIZE), RFC 8474 §4.3, RFC 9208 §4.1.4
(DELETED-STORAGE).
"""

from __future__ import annotations

from collections.abc import Sequence

from hosting.imap import encode, places
from hosting.imap.commands import Status
from hosting.imap.effects import Flow, blocking
from hosting.imap.place import Place
from hosting.imap.session import Session


def status(session: Session, _: bytes, command: Status) -> Flow[bytes]:
    place = yield from places.find(session, command.mailbox, "r")
    yield from mailbox_status(session, place, command.items)
    return b"That is all."


def mailbox_status(session: Session, place: Place, items: Sequence[str]) -> Flow[None]:
    account, mailbox = place.account, place.mailbox
    if "HIGHESTMODSEQ" in items:
        session.condstore = True  # RFC 7162 §3.1: a CONDSTORE-enabling command
    deleted_octets = 0
    if "DELETED-STORAGE" in items and mailbox.deleted:
        messages = account.messages
        deleted_octets = yield from blocking(lambda: messages.deleted_octets(mailbox.id))
    selected = session.selected
    is_selected = selected is not None and selected.account is account and selected.mailbox_id == mailbox.id
    mine = selected if is_selected else None
    view = account.views.loaded(mailbox.id)
    recent_from = max(mailbox.recent_uid, view.recent_claimed + 1 if view is not None else 0)
    values = {
        "MESSAGES": mine.told if mine else mailbox.messages,
        "RECENT": mine.recent if mine else min(mailbox.messages, mailbox.uidnext - recent_from),
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
    name = encode.mailbox(place.name, session.utf8)
    yield b"* STATUS %b (%b)\r\n" % (name, " ".join(told).encode("ascii"))
