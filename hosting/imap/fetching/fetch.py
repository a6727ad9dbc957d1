r"""FETCH: sends what is asked of the messages that the client was told of, in slices that the transport pulls.

A slice reads its rows, writes its responses and lets go of both; between slices other connections are served. Messages
that are gone are left out and the answer is NO [EXPUNGEISSUED]. BODY[…] without PEEK sets \Seen first and tells the
flags.

Standards: RFC 9051 §6.4.5, RFC 7162 §3.1.4 and §3.2.6, RFC 2180 §4.1, RFC 5530 (EXPUNGEISSUED).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from hosting.imap.at_once import is_told
from hosting.imap.commands import Fetch, FetchItem, Flags
from hosting.imap.completing import completed
from hosting.imap.effects import Flow, blocking
from hosting.imap.fetching.fetch_items import SIMPLE, Plan, Slice, responses, streamed
from hosting.imap.fetching.sections import section_writer
from hosting.imap.mailboxes.selecting import vanished_since
from hosting.imap.replies import Bad, Refused
from hosting.imap.searching.esearch import window
from hosting.imap.selected import Selected
from hosting.imap.session import Session
from hosting.imap.storing.store import change_flags
from storage.errors import Busy, Unavailable
from storage.values import SEEN, UidSet

_OF_VIEW = 1000  # messages of a slice that needs the view alone
_OF_ROWS = 250  # … rows of content
_OF_FILES = 40  # … message files, and no more than this many octets:
_OCTETS = 512 * 1024
_LARGE = 1024 * 1024  # a message from this size on is sent in pieces
_UID_ALONE = frozenset({"UID"})
_LOOKED_AT = 16_000  # messages whose modseqs are compared before others are served
_FEW_ITEMS = 20  # of a plan that is remembered
_DENSE = 8  # a gap of so many messages is read along rather than split into two reads


def fetch(session: Session, _: bytes, command: Fetch) -> Flow[bytes]:
    selected = session.mailbox
    positions = selected.positions(command.numbers, command.by_uid)
    if command.partial is not None:
        positions = window(positions, command.partial)
    since = command.changed_since
    plan = _asked(command.items, command.by_uid, since is not None, selected.uid_only)
    if not session.condstore and "MODSEQ" in plan.names:
        session.condstore = True  # a CONDSTORE-enabling command (RFC 7162 §3.1)
        yield b"* OK [HIGHESTMODSEQ %d] Highest.\r\n" % selected.told_modseq
    if since is not None:
        if command.vanished:
            yield from _vanished(session, command, since)
        positions = yield from _changed(selected, since, positions)
    if not positions:
        return b"Fetched."
    if selected.stale and not command.by_uid and not selected.uid_only and plan.names == _UID_ALONE:
        yield _uids(selected, positions)
        return b"Fetched."
    if not plan.peeks and "s" in selected.rights and not (selected.read_only or session.read_only):
        newly_seen = yield from _mark_seen(session, positions)
        if newly_seen:
            plan = _with_flags(command, condstore=session.condstore, uid_only=selected.uid_only)
    if "FLAGS" in plan.names and selected.has_new_keywords:
        yield selected.flags_response()  # a keyword is named before a message has it (RFC 9051 §7.3.5)
    gone = yield from _write(session, plan, positions)
    if "FLAGS" in plan.names:
        selected.forget_news_at(positions)
    if gone and not command.by_uid:  # RFC 9051 §6.4.9: a UID that is not there is no error
        raise Refused(b"EXPUNGEISSUED", "Some of the messages are no longer there.")
    return b"Fetched."


def fetch_at_once(session: Session, tag: bytes, command: Fetch) -> bytes | None:
    """Of one message that is not large, where nothing is to be changed first or told besides."""
    ranges, selected = command.numbers.ranges, session.mailbox
    if len(ranges) != 1 or ranges[0][0] != ranges[0][1] or command.changed_since is not None or command.partial:
        return None
    if selected.stale or not is_told(selected):
        return None
    positions = selected.positions(command.numbers, command.by_uid)
    plan = _asked(command.items, command.by_uid, False, selected.uid_only)
    view = selected.view
    if len(positions) != 1 or ("MODSEQ" in plan.names and not session.condstore):
        return None
    if not plan.peeks and not view.flags[positions[0]] & SEEN:
        return None
    if plan.reads_columns and view.columns_missing:
        return None
    if plan.is_read_out and selected.account.completion.is_due():
        return None
    part = Slice(selected, positions, positions, session.rev2, selected.account.messages)
    if plan.needs:
        try:
            _read_rows(part, plan)
        except Busy:
            return None
    if not part.positions or (plan.reads_message and _size(part) >= _LARGE):
        return None
    told = responses(plan, part)
    return None if part.gone else b"%b%b OK Fetched.\r\n" % (told, tag)


def _changed(selected: Selected, since: int, positions: Sequence[int]) -> Flow[Sequence[int]]:
    """Those of messages that changed after the client's modseq (RFC 7162 §3.1.4.1)."""
    changed: list[int] = []
    if since >= selected.view.highest_modseq:
        return changed
    for start in range(0, len(positions), _LOOKED_AT):
        mine, current = selected.view_positions(positions[start : start + _LOOKED_AT])
        modseqs = selected.view.modseqs
        changed += [position for position, at in zip(mine, current, strict=True) if modseqs[at] > since]
        yield b""  # others are served between slices
    return changed


def tell(session: Session, items: tuple[FetchItem, ...], positions: Sequence[int]) -> Flow[None]:
    """FETCH responses that nobody asked for with a FETCH; those of messages that are gone are left out."""
    plan = _plan(items, session.mailbox.uid_only)
    yield from _write(session, plan, positions)
    if "FLAGS" in plan.names:
        session.mailbox.forget_news_at(positions)


def _plan(items: tuple[FetchItem, ...], uid_only: bool) -> Plan:
    """What is short is planned once for all; of what is long anybody could leave much behind."""
    return _short_plan(items, uid_only) if len(items) <= _FEW_ITEMS else _new_plan(items, uid_only)


def _new_plan(items: tuple[FetchItem, ...], uid_only: bool) -> Plan:
    writers = (SIMPLE[item.name] if item.section is None else section_writer(item) for item in items)
    names = frozenset(item.name for item in items)
    return Plan.of(tuple(writers), uid_only=uid_only, names=names, peeks=all(item.peek for item in items))


_short_plan = lru_cache(maxsize=256)(_new_plan)


def _asked(items: tuple[FetchItem, ...], by_uid: bool, changed_since: bool, uid_only: bool) -> Plan:
    """What a command means: with the UID where it is by UID, and with MODSEQ where that was asked about."""
    known = _short_asked if len(items) <= _FEW_ITEMS else _new_asked
    return known(items, by_uid, changed_since, uid_only)


def _new_asked(items: tuple[FetchItem, ...], by_uid: bool, changed_since: bool, uid_only: bool) -> Plan:
    return _plan(_items(items, by_uid, changed_since, uid_only), uid_only)


_short_asked = lru_cache(maxsize=256)(_new_asked)


def _uids(selected: Selected, positions: Sequence[int]) -> bytes:
    """Of messages that are gone too: a client that has to know which they were learns it (RFC 2180 §4.1.2)."""
    return b"".join([b"* %d FETCH (UID %d)\r\n" % (position + 1, selected.uids[position]) for position in positions])


def _items(items: tuple[FetchItem, ...], by_uid: bool, changed_since: bool, uid_only: bool) -> tuple[FetchItem, ...]:
    names = {item.name for item in items}
    if by_uid and "UID" not in names and not uid_only:
        items = (FetchItem("UID"), *items)
    if changed_since and "MODSEQ" not in names:
        items = (*items, FetchItem("MODSEQ"))
    return items


def _with_flags(command: Fetch, *, condstore: bool, uid_only: bool) -> Plan:
    items = _items(command.items, command.by_uid, command.changed_since is not None, uid_only)
    names = {item.name for item in items}
    extra = [FetchItem("FLAGS")] if "FLAGS" not in names else []
    if condstore and "MODSEQ" not in names:
        extra.append(FetchItem("MODSEQ"))
    return _plan((*extra, *items), uid_only)


def _vanished(session: Session, command: Fetch, since: int) -> Flow[None]:
    if not session.qresync:
        raise Bad("ENABLE QRESYNC first.")  # RFC 7162 §3.2.6
    view = session.mailbox.view
    last = view.uidnext - 1
    asked = UidSet.of_ranges((low or last, high or last) for low, high in command.numbers.ranges)
    gone = vanished_since(view, since, asked)
    if gone:
        yield b"* VANISHED (EARLIER) %b\r\n" % str(gone).encode("ascii")


def _mark_seen(session: Session, positions: Sequence[int]) -> Flow[bool]:
    selected = session.mailbox
    mine, current = selected.view_positions(positions)
    flags = selected.view.flags
    uids = [selected.uids[position] for position, at in zip(mine, current, strict=True) if not flags[at] & SEEN]
    if not uids:
        return False
    try:
        yield from change_flags(session, UidSet.of(uids), "add", Flags(SEEN))
    except Unavailable:
        return (
            False  # nothing can be written for now (a full disk): reading goes on, and \Seen is left for another time
        )
    return True


def _write(session: Session, plan: Plan, positions: Sequence[int]) -> Flow[int]:
    """Sends all responses; the number of messages that were found gone."""
    selected, messages = session.mailbox, session.mailbox.account.messages
    if (plan.reads_columns or (plan.reads_message and len(positions) > 1)) and selected.view.columns_missing:
        yield from session.columns_ready()
    if plan.is_read_out:
        yield from completed(selected.account)
    gone = 0
    for asked in _slices(selected, positions, plan):
        mine, current = selected.view_positions(asked)
        part = Slice(selected, mine, current, session.rev2, messages)
        if plan.needs:
            try:
                _read_rows(part, plan)
            except Busy:  # one of them could not be read just now, or its rows are lost
                yield from blocking(lambda part=part: _read_rows(part, plan, at_once=False))  # type: ignore[misc]
        if plan.reads_message and len(part.positions) == 1 and _size(part) >= _LARGE:
            if not plan.streams:
                yield from blocking(lambda part=part: part.message(0))  # type: ignore[misc]
            yield from streamed(plan, part)
        elif part.positions:
            yield responses(plan, part)
        gone += len(asked) - len(part.positions) + len(part.gone)
    return gone


def _size(part: Slice) -> int:
    """Octets of the one message of which the file is read; its row says so, and the view need not know all sizes."""
    return int(part.rows[0][part.columns["size"]]) if part.positions else 0


def _slices(selected: Selected, positions: Sequence[int], plan: Plan) -> Iterable[Sequence[int]]:
    if len(positions) == 1:
        return (positions,)
    if plan.reads_message:
        return _slices_of_files(selected, positions)
    step = _OF_ROWS if plan.needs else _OF_VIEW
    return (positions[start : start + step] for start in range(0, len(positions), step))


def _slices_of_files(selected: Selected, positions: Sequence[int]) -> Iterator[Sequence[int]]:
    start = octets = 0
    for place, position in enumerate(positions):
        size = selected.size(position)
        if place > start and (octets + size > _OCTETS or place - start >= _OF_FILES):
            yield positions[start:place]
            start, octets = place, 0
        octets += size
    yield positions[start:]


def _read_rows(part: Slice, plan: Plan, *, at_once: bool = True) -> None:
    """Reads the content rows of a slice; messages without one are gone and leave the slice."""
    selected = part.selected
    part.columns = plan.columns
    uids, read = selected.uids, part.messages.fetch_rows
    if len(part.positions) == 1:
        uid = uids[part.positions[0]]
        part.rows = read(selected.mailbox_id, uid, uid, plan.read, at_once=at_once)
        if not part.rows:
            part.positions = part.current = ()
        return
    rows: list[tuple[object, ...]] = []
    for first, last in _stretches(part.positions):
        rows += read(selected.mailbox_id, uids[first], uids[last], plan.read, at_once=at_once)
    wanted = [uids[position] for position in part.positions]
    if [row[0] for row in rows] != wanted:
        found = {row[0]: row for row in rows}
        kept = [place for place, uid in enumerate(wanted) if uid in found]
        rows = [found[wanted[place]] for place in kept]
        part.positions = [part.positions[place] for place in kept]
        part.current = [part.current[place] for place in kept]
    part.rows = rows


def _stretches(positions: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ranges to read: neighbours together, small gaps along with them."""
    if isinstance(positions, range):
        if positions:
            yield positions[0], positions[-1]
        return
    first = previous = -1
    for position in positions:
        if first >= 0 and position - previous > _DENSE:
            yield first, previous
            first = -1
        if first < 0:
            first = position
        previous = position
    if first >= 0:
        yield first, previous
