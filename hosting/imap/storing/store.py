"""STORE: changes flags and tells of them, never of an EXPUNGE by number.

Standards: RFC 9051 §6.4.6, RFC 7162 §3.1.3 (UNCHANGEDSINCE, MODIFIED), RFC 2180 §4.2 (messages that are gone).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from hosting.imap.catching_up import caught_up
from hosting.imap.commands import Flags, Store
from hosting.imap.effects import Flow, blocking
from hosting.imap.encode import ordered_set
from hosting.imap.locating import located, still_there, uids_at
from hosting.imap.positions import found
from hosting.imap.replies import Refused
from hosting.imap.selected import Selected
from hosting.imap.session import Session
from hosting.imap.sharing import rights
from storage.database.errors import Busy
from storage.errors import NotPermitted
from storage.mail.flags import masks
from storage.mail.messages import How, Stored
from storage.mail.view import MailboxView
from storage.values import UidSet

_AT_ONCE = 100  # messages that are changed in the event loop, if nobody else is writing
_SLICE = 1000  # responses between two looks at other connections
_LOOKED_AT = 4000  # messages whose flags are compared with what is asked for, in between
_TRANSACTIONS = 50  # … and that the view takes in
_NONE = UidSet()


@dataclass(frozen=True, slots=True)
class Changed:
    """What a STORE did, in few octets for each message, since the event loop lets go of it."""

    modified: UidSet  # what failed UNCHANGEDSINCE
    uids: Sequence[int]  # of messages whose flags are different now, ascending
    modseqs: frozenset[int]  # that they got
    modseq: int  # of the last transaction; 0 if nothing changed

    @classmethod
    def by(cls, stored: Stored) -> Changed:
        modseqs = frozenset([modseq for _uid, _flags, modseq in stored.changed])
        return cls(stored.modified, array("I", [uid for uid, _, _ in stored.changed]), modseqs, stored.modseq)


_NOTHING = Changed(UidSet(), (), frozenset(), 0)


def store(session: Session, _: bytes, command: Store) -> Flow[bytes]:
    selected = session.mailbox
    if selected.read_only:
        raise Refused(b"READ-ONLY", "The mailbox was opened for reading only.")
    if command.unchanged_since is not None and not session.condstore:
        session.condstore = True
        yield b"* OK [HIGHESTMODSEQ %d] Highest.\r\n" % selected.told_modseq
    positions = yield from located(selected, command.numbers, command.by_uid)
    if not positions:
        return b"Nothing to store."
    existing = yield from still_there(selected, positions)
    gone = len(positions) - len(existing)
    if not existing:
        if command.by_uid:
            return b"Nothing to store."  # RFC 9051 §6.4.9: a UID that is not there is no error
        raise Refused(b"EXPUNGEISSUED", "The messages are no longer there.")
    wanted = yield from uids_at(selected, existing)
    stored = yield from change_flags(
        session, wanted, command.how, command.flags, command.unchanged_since, silent=command.silent
    )
    if selected.has_new_keywords:
        yield selected.flags_response()
    if not command.silent:  # what was so already is told too: the client learns the flags it asked to set
        if selected.has_changed:
            selected.forget_news_of(stored.uids)
        yield from tell_flags(session, selected, existing, silent=False, but=stored.modified)
    elif session.condstore:
        for start in range(0, len(stored.uids), _SLICE):
            answered = selected.positions_of(stored.uids[start : start + _SLICE])
            yield from tell_flags(session, selected, answered, silent=True)
    if stored.modified:
        modified = yield from _named(selected, stored.modified, command.by_uid)
        return b"[MODIFIED %b] Some were changed by others first." % modified
    if gone and not (command.by_uid or command.silent):  # RFC 2180 §4.2.1
        raise Refused(b"EXPUNGEISSUED", "Some of the messages are no longer there.")
    return b"Stored."


def _named(selected: Selected, uids: UidSet, by_uid: bool) -> Flow[bytes]:
    """A set of UIDs, or of the message numbers that they have; of many it is written by a worker."""
    mine, told = selected.uids, selected.told

    def work() -> bytes:
        return ordered_set(uids if by_uid else (at + 1 for at in found(mine, told, list(uids))))

    return work() if len(uids) <= _SLICE else (yield from blocking(work))


def change_flags(
    session: Session,
    uids: UidSet,
    how: How,
    flags: Flags,
    unchanged_since: int | None = None,
    *,
    silent: bool = False,
) -> Flow[Changed]:
    """Stores, brings the view up to date, and leaves the session's own change out of its news.

    `silent`: the client will not be told the flags; so it is told where others changed the same messages meanwhile.
    """
    selected, messages = session.mailbox, session.mailbox.account.messages

    only = rights.flag_mask(selected.rights)
    if only != -1:  # RFC 4314 §4: what may be changed is, and the rest stays as it is
        if not rights.is_storable(selected.rights, how, flags.system, flags.keywords):
            raise NotPermitted("The owner of the mailbox does not let you change these flags.")
        flags = Flags(*rights.permitted(selected.rights, flags.system, flags.keywords))
    may_be_so = unchanged_since is None and not flags.keywords
    if may_be_so and (yield from _is_so_already(selected.view, uids, *masks(how, flags.system, only))):
        selected.absorb()
        return _NOTHING
    asked = (selected.mailbox_id, uids, how, flags.system, flags.keywords, unchanged_since)

    def work() -> Changed:
        return Changed.by(messages.store(*asked, only=only))

    if len(uids) <= _AT_ONCE:
        try:
            stored = Changed.by(messages.store_now(*asked, only=only))
        except Busy:
            stored = yield from blocking(work)
    else:
        stored = yield from blocking(work)
    if not (yield from _taken_in(selected.view, stored)):
        yield from caught_up(selected.view)
    selected.absorb(() if silent and selected.others_wrote(stored.modseqs) else stored.modseqs)
    return stored


def _taken_in(view: MailboxView, stored: Changed) -> Flow[bool]:
    """Whether the view has the change by what this process knows of it."""
    if not stored.uids:
        return False
    before = -1
    while not view.take_own(stored.modseq, _TRANSACTIONS):
        if view.highest_modseq == before:
            return False
        before = view.highest_modseq
        yield b""  # others are served between slices
    return True


def _is_so_already(view: MailboxView, uids: UidSet, keep: int, bits: int) -> Flow[bool]:
    """Whether nothing is to be written: the view says so, and says so still when it is up to date.

    Clients set again what they set before: that costs a look into memory, and no writer's lock. Of very many messages
    each is so at its moment of the command, between others' changes.
    """
    if not (yield from _is_so(view, uids, keep, bits)):
        return False
    modseq = view.highest_modseq
    yield from caught_up(view)
    return view.highest_modseq == modseq or (yield from _is_so(view, uids, keep, bits))


def _is_so(view: MailboxView, uids: UidSet, keep: int, bits: int) -> Flow[bool]:
    if len(uids) <= _AT_ONCE:
        return not view.would_change(uids, keep, bits)
    looks = 0
    for low, last in uids.ranges:
        first = low
        while True:
            mine = view.uids  # others' expunges may have changed it since the last slice
            at = bisect_left(mine, first)
            end = min(bisect_right(mine, last, at), at + _LOOKED_AT)
            if at < end and view.would_change(UidSet(((first, mine[end - 1]),)), keep, bits):
                return False
            looks += 1
            if end - at == _LOOKED_AT or looks % _SLICE == 0:
                yield b""  # others are served between slices
            if end - at < _LOOKED_AT:
                break
            first = mine[end - 1] + 1
    return True


def tell_flags(
    session: Session, selected: Selected, positions: Sequence[int], *, silent: bool, but: UidSet = _NONE
) -> Flow[None]:
    """`silent`: modseqs alone. `but`: not of these."""
    for start in range(0, len(positions), _SLICE):
        part = positions[start : start + _SLICE]
        if but:
            uids = selected.uids
            part = [at for at in part if uids[at] not in but]
        if silent:
            mine, current = selected.view_positions(part)
            modseqs, uids, uid_only = selected.view.modseqs, selected.uids, selected.uid_only
            yield b"".join(
                b"* %d UIDFETCH (MODSEQ (%d))\r\n" % (uids[position], modseqs[at])
                if uid_only
                else b"* %d FETCH (UID %d MODSEQ (%d))\r\n" % (position + 1, uids[position], modseqs[at])
                for position, at in zip(mine, current, strict=True)
            )
        else:
            yield b"".join(selected.flag_fetches(part, condstore=session.condstore, rev2=session.rev2))
