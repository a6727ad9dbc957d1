"""COPY and MOVE. Within an account rows only, no file is touched; MOVE is atomic for each message.

Between accounts, and where not all flags may go along, each message is written anew, under the key and the quota of the
account in which the target lies: what somebody has copied to himself is his, whatever becomes of the source.

Standards: RFC 9051 §6.4.7 and §6.4.8, RFC 6851, RFC 4315 §3 (COPYUID), RFC 7162 §3.2.10, RFC 2180 §4.4, RFC 4314 §4,
RFC 9585 (INPROGRESS, between slices of what is written anew).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from hosting.imap.commands import Copy
from hosting.imap.effects import Flow, blocking
from hosting.imap.encode import ordered_set
from hosting.imap.locating import located, uids_at
from hosting.imap.replies import Refused
from hosting.imap.searching.progress import Progress
from hosting.imap.session import Session
from hosting.imap.sharing import rights
from hosting.imap.storing import uploads
from storage.errors import NotFound, NotPermitted
from storage.mail.messages import Copied, Crossing


@dataclass(frozen=True, slots=True)
class Put:
    """What was copied, without each pair of UIDs: the event loop would be long in letting go of very many."""

    code: bytes  # COPYUID
    arrived: Collection[int]  # in the selected mailbox, if that is the target


def copy(session: Session, tag: bytes, command: Copy) -> Flow[bytes]:
    selected = session.mailbox
    account = selected.account
    if command.move and selected.read_only:
        raise Refused(b"READ-ONLY", "The mailbox was opened for reading only.")
    if command.move and not rights.has(selected.rights, rights.NEEDED["MOVE"]):
        raise NotPermitted("The owner of the mailbox does not let you take messages out of it.")
    place = yield from uploads.destination(session, command.mailbox)
    target = place.mailbox
    positions = yield from located(selected, command.numbers, command.by_uid)
    uids = yield from uids_at(selected, positions)
    if not uids:
        return b"No messages are meant."  # RFC 9051 §6.4.7: not an error
    only, here = rights.flag_mask(place.rights), account.messages
    into_itself = place.account is account and target.id == selected.mailbox_id
    try:
        if place.account is not account or only != -1:
            uploads.require_space(session)
            there = place.account.messages
            crossing = here.crossing(there, selected.mailbox_id, uids, target.id, only=only, move=command.move)
            progress = Progress(session.services.clock, tag)
            put = yield from _written_anew(crossing, len(positions), progress)
        else:
            transfer = here.move if command.move else here.copy
            put = yield from blocking(lambda: _put(transfer(selected.mailbox_id, uids, target.id), into_itself))
    except NotFound:
        raise (yield from uploads.lost(session)) from None
    if put is None:
        if command.by_uid:
            return b"No messages are meant."  # RFC 9051 §6.4.9: a UID that is not there is no error
        raise Refused(b"EXPUNGEISSUED", "The messages are no longer there.")
    yield from selected.refreshing()
    if into_itself:
        session.brings(put.arrived)
    code = put.code if "r" in place.rights else b""  # RFC 4315 §3: who may not open it is not told its UIDs
    if not command.move:
        return code + b"Copied."
    # RFC 6851 §3.3: COPYUID comes before the EXPUNGEs, which MOVE may send also by number.
    yield b"* OK " + code + b"Moved.\r\n"
    yield from session.tell_result()
    if session.qresync:
        return b"[HIGHESTMODSEQ %d] Moved." % selected.told_modseq
    return b"Moved."


def _written_anew(crossing: Crossing, count: int, progress: Progress) -> Flow[Put | None]:
    """In slices between which others are served. When the client leaves meanwhile, nothing was copied."""
    try:
        while (yield from blocking(crossing.go_on)):
            yield progress.told(crossing.done, count)
        return (yield from blocking(lambda: _put(crossing.commit(), into_itself=False)))
    except BaseException:
        crossing.abandon()
        raise


def _put(copied: Copied, into_itself: bool) -> Put | None:
    """None: no message was there any more."""
    if not copied.pairs:
        return None
    return Put(_copyuid(copied), frozenset(uid for _source, uid in copied.pairs) if into_itself else ())


def _copyuid(copied: Copied) -> bytes:
    return b"[COPYUID %d %b %b] " % (
        copied.uidvalidity,
        ordered_set(source for source, _target in copied.pairs),
        ordered_set(uid for _source, uid in copied.pairs),
    )
