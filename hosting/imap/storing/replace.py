"""REPLACE and UID REPLACE: a new message in the place of one of the selected mailbox, in one commit.

Only what the new message has more than the old one counts against the quota. Between two accounts there is no common
commit: there the new message is durable before the old one goes, so a crash may leave both, never neither.

Standards: RFC 8508 (§3.4: no EXPUNGE before all is done; §4.3: APPENDUID comes before it), RFC 7162 §3.2.9, RFC 4314.
"""

from __future__ import annotations

from contextlib import suppress

from hosting.imap.commands import SequenceSet
from hosting.imap.effects import Flow, blocking
from hosting.imap.place import Place
from hosting.imap.replies import Refused
from hosting.imap.selected import Selected
from hosting.imap.session import Session
from hosting.imap.sharing import rights
from hosting.imap.storing import uploads
from hosting.imap.storing.append_commands import Replace
from storage.errors import CleanmailError, Gone, NotFound, NotPermitted
from storage.mail.messages import Appended, Messages, NewMessage
from storage.values import MailboxId, UidSet


def replace(session: Session, _: bytes, command: Replace) -> Flow[bytes]:
    selected = session.mailbox
    if selected.read_only:
        raise Refused(b"READ-ONLY", "The mailbox was opened for reading only.")
    if not rights.has(selected.rights, "te"):  # RFC 8508 §4.1
        raise NotPermitted
    numbers = SequenceSet(((command.number, command.number),))
    positions = selected.positions(numbers, command.by_uid)
    if not positions:
        raise Refused(b"EXPUNGEISSUED", "The message is no longer there.")
    uid = selected.uids[positions[0]]
    place = yield from uploads.destination(session, command.mailbox)
    (prepared,) = yield from uploads.prepare(session, place, (command.message,))
    is_full = session.user.full

    def store() -> Appended:
        new = prepared.message()
        if is_full and len(new.data) > _size(selected.account.messages, selected.mailbox_id, uid):
            uploads.require_space(session)
        if place.account is selected.account:
            return place.account.messages.replace(selected.mailbox_id, uid, place.mailbox.id, new)
        return _replace_elsewhere(selected, uid, place, new)

    try:
        appended = yield from blocking(store)
    except NotFound:
        raise (yield from uploads.lost(session)) from None
    selected.refresh()
    uploads.tell_own(session, place, appended)
    if "r" in place.rights:
        yield b"* OK [APPENDUID %d %d] Replacement stored.\r\n" % (appended.uidvalidity, appended.uid)
    yield from session.tell_result()
    if session.qresync:
        return b"[HIGHESTMODSEQ %d] Replaced." % selected.told_modseq
    return b"Replaced."


def _size(messages: Messages, mailbox_id: MailboxId, uid: int) -> int:
    rows = messages.fetch_rows(mailbox_id, uid, uid, ("size",))
    if not rows:
        raise Gone("The message is no longer there.")
    return int(rows[0][0])


def _replace_elsewhere(selected: Selected, uid: int, place: Place, new: NewMessage) -> Appended:
    """Into a mailbox of another account."""
    source, target, uids = selected.account.messages, place.account.messages, UidSet.of([uid])
    _size(source, selected.mailbox_id, uid)
    (appended,) = target.append_many(place.mailbox.id, [new], read_later=True)
    try:
        source.expunge(selected.mailbox_id, uids, only_deleted=False)
    except CleanmailError:
        with suppress(CleanmailError):  # what cannot be taken back now is there twice, and nothing is lost
            target.expunge(place.mailbox.id, UidSet.of([appended.uid]), only_deleted=False)
        raise
    return appended
