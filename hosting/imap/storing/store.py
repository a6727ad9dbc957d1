"""STORE: changes flags and tells of them, never of an EXPUNGE by number.

Standards: RFC 9051 §6.4.6, RFC 7162 §3.1.3 (UNCHANGEDSINCE, MODIFIED), RFC 2180 §4.2 (messages that are gone).
"""

from __future__ import annotations

from collections.abc import Sequence

from hosting.imap.catching_up import caught_up
from hosting.imap.commands import Flags, Store
from hosting.imap.effects import Flow, blocking
from hosting.imap.encode import uid_set
from hosting.imap.positions import runs
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


def store(session: Session, _: bytes, command: Store) -> Flow[bytes]:
    selected = session.mailbox
    if selected.read_only:
        raise Refused(b"READ-ONLY", "The mailbox was opened for reading only.")
    if command.unchanged_since is not None and not session.condstore:
        session.condstore = True
        yield b"* OK [HIGHESTMODSEQ %d] Highest.\r\n" % selected.told_modseq
    positions = selected.positions(command.numbers, command.by_uid)
    if not positions:
        return b"Nothing to store."
    existing, _at = selected.view_positions(positions)
    gone = len(positions) - len(existing)
    if not existing:
        if command.by_uid:
            return b"Nothing to store."  # RFC 9051 §6.4.9: a UID that is not there is no error
        raise Refused(b"EXPUNGEISSUED", "The messages are no longer there.")
    uids = selected.uids
    wanted = UidSet.of_ranges(runs(uids, existing))
    stored = yield from change_flags(
        session, wanted, command.how, command.flags, command.unchanged_since, silent=command.silent
    )
    if selected.has_new_keywords:
        yield selected.flags_response()
    if not command.silent and selected.has_changed:
        selected.forget_news_of({uid for uid, _flags, _modseq in stored.changed})
    if not command.silent:  # what was so already is told too: the client learns the flags it asked to set
        told: Sequence[int] = existing
        if stored.modified:
            told = [at for at in existing if uids[at] not in stored.modified]
        yield from tell_flags(session, selected, told, silent=False)
    elif session.condstore:
        answered = {uid for uid, _flags, _modseq in stored.changed}
        yield from tell_flags(session, selected, selected.positions_of(answered), silent=True)
    if stored.modified:
        modified = (
            uid_set(stored.modified)
            if command.by_uid
            else uid_set(position + 1 for position in selected.positions_of(list(stored.modified)))
        )
        return b"[MODIFIED %b] Some were changed by others first." % modified
    if gone and not (command.by_uid or command.silent):  # RFC 2180 §4.2.1
        raise Refused(b"EXPUNGEISSUED", "Some of the messages are no longer there.")
    return b"Stored."


def change_flags(
    session: Session,
    uids: UidSet,
    how: How,
    flags: Flags,
    unchanged_since: int | None = None,
    *,
    silent: bool = False,
) -> Flow[Stored]:
    """Stores, brings the view up to date, and leaves the session's own change out of its news.

    `silent`: the client will not be told the flags; so it is told where others changed the same messages meanwhile.
    """
    selected, messages = session.mailbox, session.mailbox.account.messages

    only = rights.flag_mask(selected.rights)
    if only != -1:  # RFC 4314 §4: what may be changed is, and the rest stays as it is
        if not rights.is_storable(selected.rights, how, flags.system, flags.keywords):
            raise NotPermitted("The owner of the mailbox does not let you change these flags.")
        flags = Flags(*rights.permitted(selected.rights, flags.system, flags.keywords))
    if unchanged_since is None and not flags.keywords and _is_so_already(selected.view, uids, how, flags.system, only):
        selected.absorb()
        return Stored(UidSet(), [], 0)
    asked = (selected.mailbox_id, uids, how, flags.system, flags.keywords, unchanged_since)

    def work() -> tuple[Stored, frozenset[int]]:
        stored = messages.store(*asked, only=only)
        return stored, _modseqs(stored)

    if len(uids) <= _AT_ONCE:
        try:
            stored = messages.store_now(*asked, only=only)
            own_modseqs = _modseqs(stored)
        except Busy:
            stored, own_modseqs = yield from blocking(work)
    else:
        stored, own_modseqs = yield from blocking(work)
    if not (stored.changed and selected.view.take_own(stored.modseq)):
        yield from caught_up(selected.view)
    selected.absorb(() if silent and selected.others_wrote(own_modseqs) else own_modseqs)
    return stored


def _is_so_already(view: MailboxView, uids: UidSet, how: How, flags: int, only: int) -> bool:
    """Whether nothing is to be written: the view says so, and says so still when it is up to date.

    Clients set again what they set before: that costs a look into memory, and no writer's lock.
    """
    if len(uids) > _AT_ONCE:
        return False
    keep, bits = masks(how, flags, only)
    if view.would_change(uids, keep, bits):
        return False
    view.refresh()
    return not view.would_change(uids, keep, bits)


def _modseqs(stored: Stored) -> frozenset[int]:
    return frozenset([modseq for _uid, _flags, modseq in stored.changed])


def tell_flags(session: Session, selected: Selected, positions: Sequence[int], *, silent: bool) -> Flow[None]:
    for start in range(0, len(positions), _SLICE):
        part = positions[start : start + _SLICE]
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
