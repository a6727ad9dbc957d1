"""SEARCH, SORT and THREAD.

They see the messages that the client was told of. A session that has not asked for news for a minute is told of new
messages before its search (some clients only ever search).

Standards: RFC 9051 §6.4.4 and §6.4.4.1 (ESEARCH, SAVE), RFC 4731, RFC 5182, RFC 5256, RFC 7162 §3.1.5 and §3.1.10.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from hosting.imap import commands as c
from hosting.imap.effects import Flow, blocking
from hosting.imap.encode import quoted, uid_set
from hosting.imap.matching import Matcher
from hosting.imap.replies import Refused
from hosting.imap.selected import Selected
from hosting.imap.session import Session
from hosting.imap.thread import Threadable, ordered_subject, references

_SORT_COLUMNS = {"FROM": "sort_from", "TO": "sort_to", "CC": "sort_cc", "SUBJECT": "base_subject"}
_THREAD_COLUMNS = ("uid", "message_id_field", "references", "base_subject", "reply_or_forward")
_SLICE = 1000


def search(session: Session, tag: bytes, command: c.Search) -> Flow[bytes]:
    selected = session.mailbox
    saves = command.returned is not None and "SAVE" in command.returned
    try:
        _require_charset(command.charset_known)
        with_modseq = yield from _prepare(session, command.key, command.by_uid)
        found = yield from Matcher(session).find(command.key)
    except Exception:
        if saves:
            selected.saved = ()  # RFC 9051 §6.4.4.1: NO leaves "$" empty
        raise
    returned = command.returned
    if returned is None and session.rev2:
        returned = frozenset({"ALL"})  # RFC 9051 §6.4.4: SEARCH answers ESEARCH
    if returned is None:
        yield _search_response(selected, found, command.by_uid, with_modseq=with_modseq)
    else:
        if saves:
            selected.saved = [selected.uids[at] for at in _to_save(found, returned)]
        if returned != {"SAVE"}:
            yield _esearch_response(selected, tag, found, returned, command.by_uid, with_modseq=with_modseq)
    return b"Searched."


def _require_charset(known: bool) -> None:
    if not known:
        raise Refused(b"BADCHARSET (US-ASCII UTF-8)", "This charset is not supported.")


def _prepare(session: Session, key: c.Key, by_uid: bool) -> Flow[bool]:
    """News that are due, and CONDSTORE if the key asks for modseqs; whether it does."""
    selected = session.mailbox
    if session.news_overdue:
        selected.refresh()
        yield session.news(expunges=by_uid, arrivals=True)
        session.looked()
    with_modseq = _asks_modseq(key)
    if with_modseq and not session.condstore:
        session.condstore = True
        yield b"* OK [HIGHESTMODSEQ %d] Highest.\r\n" % selected.told_modseq
    return with_modseq


def _asks_modseq(key: c.Key) -> bool:
    match key:
        case c.ModSeqKey():
            return True
        case c.AllKeys(keys):
            return any(_asks_modseq(one) for one in keys)
        case c.NotKey(inner):
            return _asks_modseq(inner)
        case c.EitherKey(left, right):
            return _asks_modseq(left) or _asks_modseq(right)
    return False


def _names(selected: Selected, found: Sequence[int], by_uid: bool) -> Sequence[int]:
    """UIDs or message numbers of positions."""
    if by_uid:
        uids = selected.uids
        return [uids[at] for at in found]
    return [at + 1 for at in found]


def _highest_modseq(selected: Selected, found: Sequence[int]) -> int:
    _mine, current = selected.view_positions(found)
    modseqs = selected.view.modseqs
    return max((modseqs[at] for at in current), default=0)


def _search_response(selected: Selected, found: Sequence[int], by_uid: bool, *, with_modseq: bool) -> bytes:
    text = "* SEARCH " + " ".join(map(str, _names(selected, found, by_uid))) if found else "* SEARCH"
    if with_modseq and found:
        text += f" (MODSEQ {_highest_modseq(selected, found)})"
    return text.encode("ascii") + b"\r\n"


def _to_save(found: Sequence[int], returned: frozenset[str]) -> Sequence[int]:
    if not found or returned & {"ALL", "COUNT"} or not returned & {"MIN", "MAX"}:
        return found
    ends = ([found[0]] if "MIN" in returned else []) + ([found[-1]] if "MAX" in returned else [])
    return sorted(set(ends))


def _esearch_response(
    selected: Selected, tag: bytes, found: Sequence[int], returned: frozenset[str], by_uid: bool, *, with_modseq: bool
) -> bytes:
    words = [b"* ESEARCH (TAG %b)" % quoted(tag)]
    if by_uid:
        words.append(b"UID")
    names = _names(selected, found, by_uid)
    if names:
        if "MIN" in returned:
            words.append(b"MIN %d" % names[0])
        if "MAX" in returned:
            words.append(b"MAX %d" % names[-1])
        if "ALL" in returned:
            words.append(b"ALL " + uid_set(names))
    if "COUNT" in returned:
        words.append(b"COUNT %d" % len(names))
    if with_modseq and found:
        words.append(b"MODSEQ %d" % _highest_modseq(selected, _to_save(found, returned)))  # RFC 7162 §3.1.10
    return b" ".join(words) + b"\r\n"


def sort(session: Session, _: bytes, command: c.Sort) -> Flow[bytes]:
    selected = session.mailbox
    _require_charset(command.charset_known)
    with_modseq = yield from _prepare(session, command.key, command.by_uid)
    found = yield from Matcher(session).find(command.key)
    order = list(found)
    for key, reverse in reversed(command.order):  # stable sorts, the least important first; ties in mailbox order
        values = yield from _sort_values(session, key, found)
        order.sort(key=values.__getitem__, reverse=reverse)
    text = "* SORT " + " ".join(map(str, _names(selected, order, command.by_uid))) if order else "* SORT"
    if with_modseq and order:
        text += f" (MODSEQ {_highest_modseq(selected, found)})"  # RFC 7162 §3.1.9
    yield text.encode("ascii") + b"\r\n"
    return b"Sorted."


def _sort_values(session: Session, key: str, found: Sequence[int]) -> Flow[Sequence[int] | dict[int, str]]:
    """What positions are ordered by."""
    selected = session.mailbox
    yield from session.columns_ready()
    columns = selected.view.columns()
    if key in _SORT_COLUMNS:
        rows = yield from _content(session, found, ("uid", _SORT_COLUMNS[key]))
        uids = selected.uids
        return {at: str(rows[uids[at]][1]) if uids[at] in rows else "" for at in found}
    values = {"ARRIVAL": columns.internal_dates, "DATE": columns.sent_dates, "SIZE": columns.sizes}[key]
    if not selected.stale:
        return values
    mine, current = selected.view_positions(found)
    by_position = dict.fromkeys(found, 0)
    by_position.update((position, values[at]) for position, at in zip(mine, current, strict=True))
    return [by_position.get(at, 0) for at in range(selected.told)]


def _content(session: Session, found: Sequence[int], columns: tuple[str, ...]) -> Flow[dict[int, tuple[object, ...]]]:
    """Content rows of the messages found, by UID."""
    if not found:
        return {}
    selected, messages = session.mailbox, session.mailbox.account.messages
    uids = [selected.uids[at] for at in found]

    def work() -> dict[int, tuple[object, ...]]:
        rows: dict[int, tuple[object, ...]] = {}
        for start in range(0, len(uids), _SLICE):
            part = uids[start : start + _SLICE]
            rows.update((row[0], row) for row in messages.fetch_rows(selected.mailbox_id, part[0], part[-1], columns))
        return rows

    return (yield from blocking(work))


def thread(session: Session, _: bytes, command: c.Thread) -> Flow[bytes]:
    selected = session.mailbox
    _require_charset(command.charset_known)
    yield from _prepare(session, command.key, command.by_uid)
    found = yield from Matcher(session).find(command.key)
    threads = session.services.threads
    messages_found = array("I", _names(selected, found, by_uid=True)).tobytes()
    known = (session.user.account_id, selected.mailbox_id, command.algorithm, command.by_uid, messages_found)
    if not command.by_uid:
        known = (*known, array("I", found).tobytes())  # type: ignore[assignment]
    text = threads.get(known)
    if text is None:
        rows = yield from _content(session, found, _THREAD_COLUMNS)
        yield from session.columns_ready()
        sent = selected.view.columns().sent_dates
        mine, current = selected.view_positions(found)
        pairs = [(at, place) for at, place in zip(mine, current, strict=True) if selected.uids[at] in rows]
        picked = [rows[selected.uids[at]] for at, _place in pairs]
        messages = Threadable(
            ids=[str(row[1]) for row in picked],
            references=[str(row[2]).split() for row in picked],
            subjects=[str(row[3]) for row in picked],
            replies=[bool(row[4]) for row in picked],
            dates=[sent[place] for _at, place in pairs],
        )
        names = _names(selected, [at for at, _place in pairs], command.by_uid)
        algorithm = references if command.algorithm == "REFERENCES" else ordered_subject
        text = yield from blocking(lambda: algorithm(messages, names))
        threads.put(known, text)
    yield b"* THREAD %b\r\n" % text if text else b"* THREAD\r\n"
    return b"Threaded."
