"""Search programs: the keys of SEARCH, SORT and THREAD as a tree.

Nesting is bounded, so that no recursion here or over the tree runs deep.
Standards: RFC 9051 §6.4.4, RFC 3501 §6.4.4 (RECENT, OLD, NEW), RFC 4731, RFC 5182, RFC 5032, RFC 5256,
RFC 7162 §3.1.5, RFC 8474 §6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from hosting.imap import commands as c
from hosting.imap.cursor import Cursor, Malformed
from storage.values import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN

_RETURN: Final = frozenset({"MIN", "MAX", "ALL", "COUNT", "SAVE"})
_CHARSETS: Final = frozenset({"US-ASCII", "UTF-8", "UTF8", "ASCII"})
_SORT_KEYS: Final = frozenset({"ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO"})
_ALGORITHMS: Final[dict[str, Literal["ORDEREDSUBJECT", "REFERENCES"]]] = {
    "ORDEREDSUBJECT": "ORDEREDSUBJECT",
    "REFERENCES": "REFERENCES",
}
_MOST_KEYS = 1000
_NUMBER_MAX = (1 << 63) - 1


def search(cursor: Cursor, by_uid: bool, nesting: int) -> c.Search:
    cursor.space()
    returned: frozenset[str] | None = None
    start = cursor.at
    if cursor.text[start : start + 7].upper() == b"RETURN ":
        cursor.at += 7
        returned = _return_options(cursor)
        cursor.space()
    known = True
    if cursor.text[cursor.at : cursor.at + 8].upper() == b"CHARSET ":
        cursor.at += 8
        known = _charset(cursor)
        cursor.space()
    return c.Search(_program(cursor, nesting), by_uid, returned, known)


def sort(cursor: Cursor, by_uid: bool, nesting: int) -> c.Sort:
    cursor.expect(b" (")
    order: list[tuple[str, bool]] = []
    reverse = False
    while True:
        word = cursor.word()
        if word == "REVERSE" and not reverse:
            reverse = True
        elif word in _SORT_KEYS:
            order.append((word, reverse))
            reverse = False
        else:
            raise Malformed("Unknown sort key.")
        if cursor.accept(b")"):
            break
        cursor.space()
        if len(order) > 20:
            raise Malformed("Too many sort keys.")
    if reverse:
        raise Malformed("REVERSE needs a sort key.")
    cursor.space()
    known = _charset(cursor)
    cursor.space()
    return c.Sort(tuple(order), _program(cursor, nesting), by_uid, known)


def thread(cursor: Cursor, by_uid: bool, nesting: int) -> c.Thread:
    cursor.space()
    algorithm = _ALGORITHMS.get(cursor.word())
    if algorithm is None:
        raise Malformed("Unknown thread algorithm.")
    cursor.space()
    known = _charset(cursor)
    cursor.space()
    return c.Thread(algorithm, _program(cursor, nesting), by_uid, known)


def _charset(cursor: Cursor) -> bool:
    return cursor.astring().decode("ascii", "replace").upper() in _CHARSETS


def _return_options(cursor: Cursor) -> frozenset[str]:
    cursor.expect(b"(")
    found: list[str] = []
    while not cursor.accept(b")"):
        if found:
            cursor.space()
        option = cursor.word()
        if option not in _RETURN:
            raise Malformed("Unknown return option of SEARCH.")
        found.append(option)
        if len(found) > 20:
            raise Malformed("Too many return options.")
    return frozenset(found or ["ALL"])


def _program(cursor: Cursor, nesting: int) -> c.Key:
    """Keys up to the end of the command, all of which must match."""
    keys = [_key(cursor, nesting)]
    while cursor.accept(b" ") and not cursor.at_end():
        keys.append(_key(cursor, nesting))
        if len(keys) > _MOST_KEYS:
            raise Malformed("Too many search keys.")
    return keys[0] if len(keys) == 1 else c.AllKeys(tuple(keys))


def _key(cursor: Cursor, nesting: int) -> c.Key:
    if nesting <= 0:
        raise Malformed("The search is nested too deeply.")
    if cursor.accept(b"("):
        keys = [_key(cursor, nesting - 1)]
        while not cursor.accept(b")"):
            cursor.space()
            keys.append(_key(cursor, nesting - 1))
            if len(keys) > _MOST_KEYS:
                raise Malformed("Too many search keys.")
        return keys[0] if len(keys) == 1 else c.AllKeys(tuple(keys))
    next_octet = cursor.peek()
    if next_octet.isdigit() or next_octet in (b"*", b"$"):
        return c.NumbersKey(cursor.sequence_set(), by_uid=False)
    word = cursor.word()
    if (fixed := _FIXED.get(word)) is not None:
        return fixed
    if (argument := _ARGUMENT.get(word)) is not None:
        cursor.space()
        return argument(cursor)
    cursor.space()
    if word == "NOT":
        return c.NotKey(_key(cursor, nesting - 1))
    if word == "OR":
        left = _key(cursor, nesting - 1)
        cursor.space()
        return c.EitherKey(left, _key(cursor, nesting - 1))
    raise Malformed("Unknown search key.")


def _needle(field: str) -> Callable[[Cursor], c.Key]:
    return lambda cursor: c.TextKey(field, cursor.text_of(cursor.astring()))


def _header(cursor: Cursor) -> c.Key:
    name = cursor.text_of(cursor.astring()).lower()
    cursor.space()
    return c.TextKey(name, cursor.text_of(cursor.astring()), header=True)


def _modseq(cursor: Cursor) -> c.Key:
    if cursor.peek() == b'"':  # an entry name and type: per-flag modseqs, which we keep per message (RFC 7162 §3.1.5)
        cursor.string()
        cursor.space()
        if cursor.word() not in ("PRIV", "SHARED", "ALL"):
            raise Malformed("Unknown entry type.")
        cursor.space()
    return c.ModSeqKey(cursor.number(_NUMBER_MAX))


def _keyword(is_set: bool) -> Callable[[Cursor], c.Key]:
    return lambda cursor: c.KeywordKey(cursor.flag().decode("ascii"), is_set)


def _within(younger: bool) -> Callable[[Cursor], c.Key]:
    def parse(cursor: Cursor) -> c.Key:
        seconds = cursor.number()
        if seconds == 0:
            raise Malformed("The interval must not be zero.")
        return c.WithinKey(younger, seconds)

    return parse


def _dated(kind: str, sent: bool) -> Callable[[Cursor], c.Key]:
    return lambda cursor: c.DateKey(kind, cursor.date(), sent)  # type: ignore[arg-type]


def _saved(kind: str) -> Callable[[Cursor], c.Key]:
    return lambda cursor: c.SavedKey(kind, cursor.date())  # type: ignore[arg-type]


_FIXED: Final[dict[str, c.Key]] = {
    "ALL": c.AllKeys(),
    "SAVEDATESUPPORTED": c.AllKeys(),  # RFC 8514 §4.3: of every mailbox here
    "ANSWERED": c.FlagKey(ANSWERED, True),
    "DELETED": c.FlagKey(DELETED, True),
    "DRAFT": c.FlagKey(DRAFT, True),
    "FLAGGED": c.FlagKey(FLAGGED, True),
    "SEEN": c.FlagKey(SEEN, True),
    "UNANSWERED": c.FlagKey(ANSWERED, False),
    "UNDELETED": c.FlagKey(DELETED, False),
    "UNDRAFT": c.FlagKey(DRAFT, False),
    "UNFLAGGED": c.FlagKey(FLAGGED, False),
    "UNSEEN": c.FlagKey(SEEN, False),
    "RECENT": c.RecentKey("RECENT"),
    "OLD": c.RecentKey("OLD"),
    "NEW": c.RecentKey("NEW"),
}

_ARGUMENT: Final[dict[str, Callable[[Cursor], c.Key]]] = {
    "BCC": _needle("bcc"),
    "BODY": _needle("body"),
    "CC": _needle("cc"),
    "FROM": _needle("from"),
    "SUBJECT": _needle("subject"),
    "TEXT": _needle("text"),
    "TO": _needle("to"),
    "HEADER": _header,
    "KEYWORD": _keyword(True),
    "UNKEYWORD": _keyword(False),
    "BEFORE": _dated("BEFORE", sent=False),
    "ON": _dated("ON", sent=False),
    "SINCE": _dated("SINCE", sent=False),
    "SENTBEFORE": _dated("BEFORE", sent=True),
    "SENTON": _dated("ON", sent=True),
    "SENTSINCE": _dated("SINCE", sent=True),
    "SAVEDBEFORE": _saved("BEFORE"),
    "SAVEDON": _saved("ON"),
    "SAVEDSINCE": _saved("SINCE"),
    "LARGER": lambda cursor: c.SizeKey(True, cursor.number(_NUMBER_MAX)),
    "SMALLER": lambda cursor: c.SizeKey(False, cursor.number(_NUMBER_MAX)),
    "UID": lambda cursor: c.NumbersKey(cursor.sequence_set(), by_uid=True),
    "MODSEQ": _modseq,
    "YOUNGER": _within(younger=True),
    "OLDER": _within(younger=False),
    "EMAILID": lambda cursor: c.ObjectKey(False, cursor.atom()),
    "THREADID": lambda cursor: c.ObjectKey(True, cursor.atom()),
}
