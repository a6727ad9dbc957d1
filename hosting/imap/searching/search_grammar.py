"""Search programs: the keys of SEARCH, SORT, THREAD and ESEARCH as a tree, with their charsets.

Nesting is bounded, so that no recursion here or over the tree runs deep.
Standards: RFC 9051 §6.4.4, RFC 3501 §6.4.4 (RECENT, OLD, NEW), RFC 4731, RFC 5182, RFC 5032, RFC 5256, RFC 5466,
RFC 6203, RFC 7162 §3.1.5, RFC 8474 §6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from hosting.imap import commands as c
from hosting.imap.cursor import Cursor, Malformed
from hosting.imap.decoder import Frame
from hosting.imap.searching import search_commands as sc
from hosting.imap.searching.return_grammar import return_options, sources
from storage.values import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN

_CHARSETS: Final = {
    "US-ASCII": "utf-8", "ASCII": "utf-8", "UTF-8": "utf-8", "UTF8": "utf-8",
    **{f"ISO-8859-{part}": f"iso8859-{part}" for part in (*range(1, 12), *range(13, 17))},
    **{f"WINDOWS-{page}": f"cp{page}" for page in range(1250, 1259)},
    "KOI8-R": "koi8-r", "KOI8-U": "koi8-u", "ISO-2022-JP": "iso2022_jp", "SHIFT_JIS": "shift_jis", "EUC-JP": "euc_jp",
    "GB2312": "gb2312", "GBK": "gbk", "GB18030": "gb18030", "BIG5": "big5", "EUC-KR": "euc_kr",
}  # fmt: skip
CHARSETS_TOLD: Final = " ".join(name for name in _CHARSETS if name not in ("ASCII", "UTF8")).encode("ascii")
_SORT_KEYS: Final = frozenset(
    {"ARRIVAL", "CC", "DATE", "DISPLAYFROM", "DISPLAYTO", "FROM", "RELEVANCY", "SIZE", "SUBJECT", "TO"}
)
_ALGORITHMS: Final[dict[str, Literal["ORDEREDSUBJECT", "REFERENCES", "REFS"]]] = {
    "ORDEREDSUBJECT": "ORDEREDSUBJECT",
    "REFERENCES": "REFERENCES",
    "REFS": "REFS",
}
_MOST_KEYS = 1000
_NUMBER_MAX = (1 << 63) - 1
_FILTER_MAX = 64 * 1024  # octets of a filter


def search(cursor: Cursor, by_uid: bool, nesting: int) -> sc.Search:
    cursor.space()
    return _search(cursor, by_uid, nesting)


def multisearch(cursor: Cursor, utf8: bool, nesting: int) -> sc.MultiSearch:
    """ESEARCH (RFC 7377 §4)."""
    cursor.space()
    chosen: tuple[sc.Source, ...] = (sc.Source("SELECTED"),)
    if _follows(cursor, b"IN "):
        chosen = sources(cursor, utf8)
        cursor.space()
    return sc.MultiSearch(chosen, _search(cursor, True, nesting))


def _search(cursor: Cursor, by_uid: bool, nesting: int) -> sc.Search:
    returned, partial = None, None
    items: tuple[c.FetchItem, ...] = ()
    if _follows(cursor, b"RETURN "):
        returned, partial, items = return_options(cursor)
        cursor.space()
    known = True
    if _follows(cursor, b"CHARSET "):
        known = _charset(cursor)
        cursor.space()
    key = _program(cursor, nesting)
    if returned and "RELEVANCY" in returned:
        _require_fuzzy(key)
    return sc.Search(key, by_uid, returned, known, partial, items)


def sort(cursor: Cursor, by_uid: bool, nesting: int) -> sc.Sort:
    cursor.space()
    returned, partial = None, None
    items: tuple[c.FetchItem, ...] = ()
    if _follows(cursor, b"RETURN "):
        returned, partial, items = return_options(cursor)
        cursor.space()
    cursor.expect(b"(")
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
    key = _program(cursor, nesting)
    if (returned and "RELEVANCY" in returned) or any(word == "RELEVANCY" for word, _reverse in order):
        _require_fuzzy(key)
    return sc.Sort(tuple(order), key, by_uid, known, returned, partial, items)


def thread(cursor: Cursor, by_uid: bool, nesting: int) -> sc.Thread:
    cursor.space()
    algorithm = _ALGORITHMS.get(cursor.word())
    if algorithm is None:
        raise Malformed("Unknown thread algorithm.")
    cursor.space()
    known = _charset(cursor)
    cursor.space()
    return sc.Thread(algorithm, _program(cursor, nesting), by_uid, known)


def criteria(value: bytes, nesting: int) -> sc.Key:
    """The search that a filter is (RFC 5466 §3.1). Raises Malformed."""
    if b"\0" in value or len(value) > _FILTER_MAX:
        raise Malformed("A filter is no search.")
    cursor = Cursor(Frame(value), _MOST_KEYS)
    key = _program(cursor, nesting)
    cursor.end()
    return key


def _follows(cursor: Cursor, word: bytes) -> bool:
    """Moves over a word, with the space behind it, if it comes next."""
    if cursor.text[cursor.at : cursor.at + len(word)].upper() != word:
        return False
    cursor.at += len(word)
    return True


def _charset(cursor: Cursor) -> bool:
    """Strings that follow are in this charset; whether it is known."""
    codec = _CHARSETS.get(cursor.astring().decode("ascii", "replace").upper())
    cursor.charset = codec or "latin-1"  # of an unknown one nothing is read: the answer is BADCHARSET
    return codec is not None


def _require_fuzzy(key: sc.Key) -> None:
    """RFC 6203 §4: RELEVANCY only with FUZZY; a filter may have one."""
    todo = [key]
    while todo:
        match todo.pop():
            case sc.FuzzyKey() | sc.FilterKey():
                return
            case sc.AllKeys(keys):
                todo += keys
            case sc.NotKey(inner):
                todo.append(inner)
            case sc.EitherKey(left, right):
                todo += (left, right)
    raise Malformed("RELEVANCY needs FUZZY.")


def _program(cursor: Cursor, nesting: int) -> sc.Key:
    """Keys up to the end of the command, all of which must match."""
    keys = [_key(cursor, nesting)]
    while cursor.accept(b" ") and not cursor.at_end():
        keys.append(_key(cursor, nesting))
        if len(keys) > _MOST_KEYS:
            raise Malformed("Too many search keys.")
    return keys[0] if len(keys) == 1 else sc.AllKeys(tuple(keys))


def _key(cursor: Cursor, nesting: int) -> sc.Key:
    if nesting <= 0:
        raise Malformed("The search is nested too deeply.")
    if cursor.accept(b"("):
        keys = [_key(cursor, nesting - 1)]
        while not cursor.accept(b")"):
            cursor.space()
            keys.append(_key(cursor, nesting - 1))
            if len(keys) > _MOST_KEYS:
                raise Malformed("Too many search keys.")
        return keys[0] if len(keys) == 1 else sc.AllKeys(tuple(keys))
    next_octet = cursor.peek()
    if next_octet.isdigit() or next_octet in (b"*", b"$"):
        return sc.NumbersKey(cursor.sequence_set(), by_uid=False)
    word = cursor.word()
    if (fixed := _FIXED.get(word)) is not None:
        return fixed
    if (argument := _ARGUMENT.get(word)) is not None:
        cursor.space()
        return argument(cursor)
    cursor.space()
    if word == "NOT":
        return sc.NotKey(_key(cursor, nesting - 1))
    if word == "FUZZY":
        return sc.FuzzyKey(_key(cursor, nesting - 1))
    if word == "OR":
        left = _key(cursor, nesting - 1)
        cursor.space()
        return sc.EitherKey(left, _key(cursor, nesting - 1))
    raise Malformed("Unknown search key.")


def _needle(field: str) -> Callable[[Cursor], sc.Key]:
    return lambda cursor: sc.TextKey(field, cursor.text_of(cursor.astring()))


def _filter(cursor: Cursor) -> sc.Key:
    if cursor.charset != "utf-8":  # RFC 5466 §3.1
        raise Malformed("[BADCHARSET (US-ASCII UTF-8)] A filter is in UTF-8.")
    name = cursor.atom()
    if "/" in name:
        raise Malformed("A filter's name has no '/'.")
    return sc.FilterKey(name)


def _header(cursor: Cursor) -> sc.Key:
    name = cursor.text_of(cursor.astring()).lower()
    cursor.space()
    return sc.TextKey(name, cursor.text_of(cursor.astring()), header=True)


def _modseq(cursor: Cursor) -> sc.Key:
    if cursor.peek() == b'"':  # an entry name and type: per-flag modseqs, which we keep per message (RFC 7162 §3.1.5)
        cursor.string()
        cursor.space()
        if cursor.word() not in ("PRIV", "SHARED", "ALL"):
            raise Malformed("Unknown entry type.")
        cursor.space()
    return sc.ModSeqKey(cursor.number(_NUMBER_MAX))


def _keyword(is_set: bool) -> Callable[[Cursor], sc.Key]:
    return lambda cursor: sc.KeywordKey(cursor.flag().decode("ascii"), is_set)


def _within(younger: bool) -> Callable[[Cursor], sc.Key]:
    def parse(cursor: Cursor) -> sc.Key:
        seconds = cursor.number()
        if seconds == 0:
            raise Malformed("The interval must not be zero.")
        return sc.WithinKey(younger, seconds)

    return parse


def _dated(kind: str, sent: bool) -> Callable[[Cursor], sc.Key]:
    return lambda cursor: sc.DateKey(kind, cursor.date(), sent)  # type: ignore[arg-type]


def _saved(kind: str) -> Callable[[Cursor], sc.Key]:
    return lambda cursor: sc.SavedKey(kind, cursor.date())  # type: ignore[arg-type]


_FIXED: Final[dict[str, sc.Key]] = {
    "ALL": sc.AllKeys(),
    "SAVEDATESUPPORTED": sc.AllKeys(),  # RFC 8514 §4.3: of every mailbox here
    "ANSWERED": sc.FlagKey(ANSWERED, True),
    "DELETED": sc.FlagKey(DELETED, True),
    "DRAFT": sc.FlagKey(DRAFT, True),
    "FLAGGED": sc.FlagKey(FLAGGED, True),
    "SEEN": sc.FlagKey(SEEN, True),
    "UNANSWERED": sc.FlagKey(ANSWERED, False),
    "UNDELETED": sc.FlagKey(DELETED, False),
    "UNDRAFT": sc.FlagKey(DRAFT, False),
    "UNFLAGGED": sc.FlagKey(FLAGGED, False),
    "UNSEEN": sc.FlagKey(SEEN, False),
    "RECENT": sc.RecentKey("RECENT"),
    "OLD": sc.RecentKey("OLD"),
    "NEW": sc.RecentKey("NEW"),
}

_ARGUMENT: Final[dict[str, Callable[[Cursor], sc.Key]]] = {
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
    "LARGER": lambda cursor: sc.SizeKey(True, cursor.number(_NUMBER_MAX)),
    "SMALLER": lambda cursor: sc.SizeKey(False, cursor.number(_NUMBER_MAX)),
    "UID": lambda cursor: sc.NumbersKey(cursor.sequence_set(), by_uid=True),
    "MODSEQ": _modseq,
    "FILTER": _filter,
    "YOUNGER": _within(younger=True),
    "OLDER": _within(younger=False),
    "EMAILID": lambda cursor: sc.ObjectKey(False, cursor.atom()),
    "THREADID": lambda cursor: sc.ObjectKey(True, cursor.atom()),
}
