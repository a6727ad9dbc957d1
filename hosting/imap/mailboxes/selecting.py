"""SELECT, EXAMINE, CLOSE, UNSELECT; and what changed since a client was here last (QRESYNC).

HIGHESTMODSEQ is told at every SELECT, not only after CONDSTORE was asked for: clients look for it there.

Standards: RFC 9051 §6.3.2, §6.3.3, §6.4.1, §6.4.2; RFC 7162 §3.2.5; RFC 8474 §4.2 (MAILBOXID); RFC 3501 §6.3.1 (RECENT,
UNSEEN).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from contextlib import suppress

from hosting.imap import encode, places
from hosting.imap.catching_up import caught_up
from hosting.imap.commands import Close, Resync, Select, SequenceSet, Unselect
from hosting.imap.effects import Flow, blocking
from hosting.imap.recents import claiming
from hosting.imap.replies import Bad, printable
from hosting.imap.selected import Selected
from hosting.imap.session import Session, State
from hosting.imap.sharing.opening import record_opening
from hosting.imap.sharing.rights import is_read_write
from storage.directory.terms import READ_ONLY
from storage.errors import Gone, NotFound, Unavailable
from storage.mail.ledger import READ_ONLY as KEPT_BY_SERVER
from storage.mail.mailboxes import Mailbox
from storage.mail.view import MailboxView
from storage.values import UidSet

_SLICE = 1000  # messages that are looked at before others are served


def select(session: Session, _: bytes, command: Select) -> Flow[bytes]:
    try:
        return (yield from _select(session, command))
    except Gone:  # it was deleted between being found and being read
        raise NotFound("There is no such mailbox.") from None


def _select(session: Session, command: Select) -> Flow[bytes]:
    if command.resync is not None and not session.qresync:
        raise Bad("ENABLE QRESYNC first.")
    if session.selected is not None:
        yield from session.leave()
        yield b"* OK [CLOSED] The previous mailbox is closed.\r\n"  # RFC 9051 §7.1
    place = yield from places.find(session, command.mailbox, "r")
    account, mailbox = place.account, place.mailbox
    view = account.views.quickly(mailbox.id)
    if view is None:
        view = yield from blocking(lambda: account.views.load(mailbox.id))
    recent_from = mailbox.recent_uid
    examined = command.read_only or session.read_only
    read_only = examined or mailbox.read_only or not is_read_write(place.rights)
    takes_recent = not (examined or (read_only and not place.is_own))
    if takes_recent and recent_from < mailbox.uidnext:
        with suppress(Unavailable):  # nothing can be written for now (a full disk): reading goes on
            recent_from = yield from blocking(lambda: account.mailboxes.take_recent(mailbox.id))
    if not place.is_own:  # nobody looks after a session that selects while the right is taken away
        places.check((yield from places.shared(session)).rights(account.account_id, mailbox.id), "r")
    yield from caught_up(view)
    claim = claiming(session.services.installation, account, view)
    recent_from = max(recent_from, view.recent_claimed + 1)
    if view.uids and recent_from <= view.uids[-1]:  # told by another process, perhaps, and not yet written
        recent_from = max(recent_from, claim(view.uids[-1] if takes_recent else 0) + 1)
    if takes_recent and view.uids:
        view.recent_claimed = max(view.recent_claimed, view.uids[-1])
    if command.condstore:
        session.condstore = True
    selected = Selected(place, view, read_only=read_only, recent_from=recent_from, claim=claim)
    selected.uid_only = session.uid_only
    session.selected = selected
    session.state = State.SELECTED
    session.looked()
    if not place.is_own:
        record_opening(session, place)
    yield _opening(session, selected, mailbox)
    if command.resync is not None and command.resync.uidvalidity == view.uidvalidity:
        yield from _resynchronise(selected, command.resync, rev2=session.rev2)
    if command.read_only:
        return b"[READ-ONLY] Examined."
    if mailbox.read_only:
        return b"[READ-ONLY] " + printable(KEPT_BY_SERVER)
    if not is_read_write(place.rights):
        return b"[READ-ONLY] Its owner lets you read only."
    return b"[READ-ONLY] " + printable(READ_ONLY) if read_only else b"[READ-WRITE] Selected."


def _opening(session: Session, selected: Selected, mailbox: Mailbox) -> bytes:
    view = selected.view
    lines = [selected.flags_response(), b"* %d EXISTS\r\n" % selected.told]
    if session.rev2:
        lines.append(b'* LIST () "/" %b\r\n' % encode.mailbox(selected.name, utf8=True))
    else:
        lines.append(b"* %d RECENT\r\n" % selected.recent)
        unseen = view.first_unseen()
        if unseen and not selected.uid_only:  # it is a number (RFC 9586 §3.6)
            lines.append(b"* OK [UNSEEN %d] First unseen.\r\n" % unseen)
    lines.append(
        b"* OK [UIDVALIDITY %d] UIDs valid.\r\n* OK [UIDNEXT %d] Next UID.\r\n* OK [HIGHESTMODSEQ %d] Highest.\r\n"
        b"* OK [MAILBOXID (%b)] Id.\r\n"
        % (view.uidvalidity, view.uidnext, selected.told_modseq, mailbox.object_id.encode("ascii"))
    )
    return b"".join(lines)


def _resynchronise(selected: Selected, resync: Resync, *, rev2: bool) -> Flow[None]:
    """VANISHED (EARLIER) and the flags that changed since the client's modseq (RFC 7162 §3.2.5)."""
    view = selected.view
    asked = (
        UidSet.of_ranges(resync.known_uids.ranges) if resync.known_uids else UidSet(((1, max(1, view.uidnext - 1)),))
    )
    gone = vanished_since(view, resync.modseq, asked)
    if resync.sample is not None:
        known_to = _agreed(view.uids, *resync.sample)
        gone = UidSet(tuple((max(low, known_to + 1), high) for low, high in gone.ranges if high > known_to))
    if gone:
        yield b"* VANISHED (EARLIER) %b\r\n" % str(gone).encode("ascii")
    if resync.modseq >= view.highest_modseq:
        return
    positions = selected.positions(SequenceSet(asked.ranges), by_uid=True)
    for start in range(0, len(positions), _SLICE):
        mine, current = selected.view_positions(positions[start : start + _SLICE])  # others may expunge meanwhile
        modseqs = view.modseqs
        changed = [at for at, now in zip(mine, current, strict=True) if modseqs[now] > resync.modseq]
        yield b"".join(selected.flag_fetches(changed, condstore=True, rev2=rev2))
        yield b""  # others are served between slices


def vanished_since(view: MailboxView, modseq: int, asked: UidSet) -> UidSet:
    """The UIDs of `asked` that were expunged after `modseq`; beyond the horizon of the tombstones every absent one."""
    if modseq >= view.highest_modseq:
        return UidSet()
    known = view.vanished_since(modseq)
    if known is not None:
        return UidSet.of(uid for uid in known if uid in asked)
    uids = view.uids
    absent: list[tuple[int, int]] = []
    for low, high in asked.ranges:
        first, last = low, min(high, view.uidnext - 1)
        end = bisect_right(uids, last)
        for start in range(bisect_left(uids, low), end, _SLICE):
            part = uids[start : min(start + _SLICE, end)]
            if part[0] == first and part[-1] - first == len(part) - 1:  # none is absent here
                first = part[-1] + 1
                continue
            for uid in part:
                if uid > first:
                    absent.append((first, uid - 1))
                first = uid + 1
        if first <= last:
            absent.append((first, last))
    return UidSet.of_ranges(absent)


def _agreed(uids: Sequence[int], numbers: SequenceSet, known: SequenceSet) -> int:
    """The highest UID up to which the client's picture agrees with ours (RFC 7162 §3.2.5.2)."""
    agreed = 0
    for number, uid in zip(UidSet(numbers.ranges), UidSet(known.ranges), strict=False):
        if number > len(uids) or uids[number - 1] != uid:
            break
        agreed = uid
    return agreed


def close(session: Session, _: bytes, __: Close) -> Flow[bytes]:
    r"""Expunges what is \Deleted and says nothing of it (RFC 9051 §6.4.1)."""
    selected = session.mailbox
    account = selected.account
    if not selected.read_only and not session.read_only and selected.told and "e" in selected.rights:
        uids = UidSet(((1, selected.last_uid),))
        yield from blocking(lambda: account.messages.expunge(selected.mailbox_id, uids, only_deleted=True))
    told = selected.told_modseq
    yield from session.leave()
    return b"[HIGHESTMODSEQ %d] Closed." % told if session.qresync else b"Closed."


def unselect(session: Session, _: bytes, __: Unselect) -> Flow[bytes]:
    yield from session.leave()
    return b"Unselected."
