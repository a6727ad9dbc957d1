"""APPEND: one or more messages, all of them or none; durable when the tagged OK is sent.

The files are written one by one, then their rows are committed together; a crash in between leaves nothing that anybody
sees. Who may put messages into a mailbox but not open it is not told their UIDs (RFC 9051 §6.3.12).

Standards: RFC 9051 §6.3.12 (TRYCREATE, APPENDUID, EXISTS in the same answer), RFC 3502 (MULTIAPPEND), RFC 4469
(CATENATE), RFC 3516 §4.4 (BINARY).
"""

from __future__ import annotations

from hosting.imap.effects import Flow, blocking
from hosting.imap.encode import ordered_set
from hosting.imap.place import Place
from hosting.imap.replies import Refused
from hosting.imap.session import Session
from hosting.imap.storing import uploads
from hosting.imap.storing.append_commands import Append
from storage.errors import CleanmailError, NotFound
from storage.mail.messages import Appended

_TOGETHER = 50  # from so many messages on their files are brought to the disk all at once


def append(session: Session, _: bytes, command: Append) -> Flow[bytes]:
    place = uploads.remembered(session, command.mailbox)
    appended = None
    if place is not None:
        try:
            appended = yield from _stored(session, command, place, called=place.mailbox.name)
        except NotFound:  # nothing was stored: what the name means now is looked for
            pass
        except (CleanmailError, Refused):  # nor here: that there is no such mailbox comes before everything else
            found = yield from uploads.destination(session, command.mailbox)
            if found.mailbox.id == place.mailbox.id:
                raise
    if place is None or appended is None:
        place = yield from uploads.destination(session, command.mailbox)
        appended = yield from _stored(session, command, place)
    uploads.tell_own(session, place, appended[-1], len(appended))
    if "r" not in place.rights:
        return b"Appended."
    uids = ordered_set(each.uid for each in appended)
    return b"[APPENDUID %d %b] Appended." % (appended[0].uidvalidity, uids)


def _stored(session: Session, command: Append, place: Place, called: str | None = None) -> Flow[list[Appended]]:
    """Raises NotFound if the mailbox is not `called` so any more."""
    uploads.require_space(session)
    prepared = yield from uploads.prepare(session, place, command.messages)
    messages, mailbox_id = place.account.messages, place.mailbox.id

    def store() -> list[Appended]:
        new = (each.message() for each in prepared)
        return messages.append_many(mailbox_id, new, many=len(prepared) >= _TOGETHER, called=called, read_later=True)

    return (yield from blocking(store))
