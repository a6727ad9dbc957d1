"""The arguments of FETCH: items, sections, modifiers.

Standards: RFC 9051 §6.4.5, RFC 3516 (BINARY), RFC 8514 §4.2 (SAVEDATE), RFC 8970 §6 (PREVIEW),
RFC 7162 §3.1.4 and §3.2.6 (CHANGEDSINCE, VANISHED), RFC 9394 (PARTIAL), RFC 8474 §5.3 (ids).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, cast

from hosting.imap.commands import Fetch, FetchItem, FetchName, Section, SectionText
from hosting.imap.cursor import Cursor, Malformed
from hosting.imap.decoder import Frame
from hosting.imap.searching.partial_grammar import partial

_NAME = re.compile(rb"[A-Za-z0-9.]+")
_PART = re.compile(rb"[1-9]\d{0,8}(?:\.[1-9]\d{0,8})*")
_SECTION_TEXT = re.compile(rb"[A-Za-z.]+")
_PARTIAL = re.compile(rb"<(\d{1,19})(?:\.(\d{1,19}))?>")
_TO_THE_END = (1 << 63) - 1
_LAZY = re.compile(rb" \(LAZY(?: LAZY){0,9}\)", re.IGNORECASE)
_DEEPEST = 100
_MOST_ITEMS = 200
_MOST_FIELDS = 500
_SHORT = 2000  # octets of arguments that are remembered

_SIMPLE: Final = frozenset(
    {
        "UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "MODSEQ", "EMAILID", "THREADID",
        "SAVEDATE",
    }
)  # fmt: skip
_FAST = ("FLAGS", "INTERNALDATE", "RFC822.SIZE")
_MACROS: Final[dict[str, tuple[str, ...]]] = {
    "FAST": _FAST,
    "ALL": (*_FAST, "ENVELOPE"),
    "FULL": (*_FAST, "ENVELOPE", "BODY"),
}


def fetch(cursor: Cursor, by_uid: bool) -> Fetch:
    cursor.space()
    numbers = cursor.sequence_set()
    cursor.space()
    rest = cursor.text[cursor.at :]
    if b"{" in rest or len(rest) > _SHORT:  # of a literal the octets are not in the text
        items, changed_since, vanished, window = _arguments(cursor)
    else:
        items, changed_since, vanished, window = _known(rest)
        cursor.at = len(cursor.text)
    if vanished and (changed_since is None or not by_uid):
        raise Malformed("VANISHED needs UID FETCH and CHANGEDSINCE.")  # RFC 7162 §3.2.6
    if window is not None and not by_uid:
        raise Malformed("PARTIAL needs UID FETCH.")  # RFC 9394 §3.3
    return Fetch(numbers, items, by_uid, changed_since, vanished, window)


def item_list(cursor: Cursor) -> tuple[FetchItem, ...]:
    """Items behind their opening parenthesis, for the commands that say what to tell of new messages (RFC 5465 §8)."""
    items: list[FetchItem] = []
    while True:
        items.append(_item(cursor))
        if cursor.accept(b")"):
            return tuple(dict.fromkeys(items))
        cursor.space()
        if len(items) > _MOST_ITEMS:
            raise Malformed("Too many items.")


Arguments = tuple[tuple[FetchItem, ...], int | None, bool, tuple[int, int] | None]


@lru_cache(maxsize=256)
def _known(text: bytes) -> Arguments:
    """Clients ask for the same items all the time."""
    cursor = Cursor(Frame(text), 1)
    arguments = _arguments(cursor)
    cursor.end()
    return arguments


def _arguments(cursor: Cursor) -> Arguments:
    """Items and modifiers."""
    items: tuple[FetchItem, ...]
    if cursor.accept(b"("):
        items = item_list(cursor)
    else:
        start = cursor.at
        macro = _MACROS.get(_name(cursor))
        if macro is not None and not cursor.peek().strip():
            items = tuple(FetchItem(cast(FetchName, name)) for name in macro)
        else:
            cursor.at = start
            items = (_item(cursor),)
    return (items, *_modifiers(cursor))


def _modifiers(cursor: Cursor) -> tuple[int | None, bool, tuple[int, int] | None]:
    changed_since, vanished, window = None, False, None
    if cursor.accept(b" ("):
        while True:
            modifier = cursor.word()
            if modifier == "CHANGEDSINCE":
                cursor.space()
                changed_since = cursor.number((1 << 63) - 1)
            elif modifier == "VANISHED":
                vanished = True
            elif modifier == "PARTIAL" and window is None:
                cursor.space()
                window = partial(cursor)
            else:
                raise Malformed("Unknown modifier of FETCH.")
            if cursor.accept(b")"):
                break
            cursor.space()
    return changed_since, vanished, window


def _name(cursor: Cursor) -> str:
    match = _NAME.match(cursor.text, cursor.at)
    if match is None:
        raise Malformed("Expected an item of FETCH.")
    cursor.at = match.end()
    return match[0].decode("ascii").upper()


def _item(cursor: Cursor) -> FetchItem:
    name = _name(cursor)
    if name in _SIMPLE:
        return FetchItem(cast(FetchName, name))
    if name == "PREVIEW":
        if (lazy := _LAZY.match(cursor.text, cursor.at)) is not None:
            cursor.at = lazy.end()  # previews are stored, so none is ever late (RFC 8970 §4.1)
        return FetchItem("PREVIEW")
    if name in ("BODY", "BODY.PEEK"):
        if cursor.peek() != b"[":
            if name == "BODY":
                return FetchItem("BODY")
            raise Malformed("Expected a section.")
        return FetchItem("SECTION", section(cursor), peek=name == "BODY.PEEK")
    if name in ("BINARY", "BINARY.PEEK"):
        return FetchItem("BINARY", section(cursor), peek=name == "BINARY.PEEK")
    if name == "BINARY.SIZE":
        return FetchItem("BINARY.SIZE", section(cursor, partial=False))
    if name == "RFC822":
        return FetchItem("RFC822", Section(), peek=False)
    if name == "RFC822.HEADER":
        return FetchItem("RFC822.HEADER", Section(text="HEADER"))
    if name == "RFC822.TEXT":
        return FetchItem("RFC822.TEXT", Section(text="TEXT"), peek=False)
    raise Malformed("Unknown item of FETCH.")


def section(cursor: Cursor, *, partial: bool = True) -> Section:
    """What stands between the brackets of BODY[…], and what follows them.

    BINARY[…] takes the same: RFC 3516 has part numbers alone, other servers have all of it.
    """
    cursor.expect(b"[")
    part = _part(cursor)
    text: SectionText = ""
    fields: tuple[bytes, ...] = ()
    if cursor.peek() != b"]":
        if part:
            cursor.expect(b".")
        match = _SECTION_TEXT.match(cursor.text, cursor.at)
        word = match[0].decode("ascii").upper() if match else ""
        if word not in ("HEADER", "HEADER.FIELDS", "HEADER.FIELDS.NOT", "TEXT", "MIME"):
            raise Malformed("Unknown section.")
        assert match is not None
        cursor.at = match.end()
        text = cast(SectionText, word)
        if text == "MIME" and not part:
            raise Malformed("MIME needs a part number.")
        if text.startswith("HEADER.FIELDS"):
            cursor.space()
            fields = _fields(cursor)
    cursor.expect(b"]")
    return Section(part, text, fields, _partial(cursor) if partial else None)


def _part(cursor: Cursor) -> tuple[int, ...]:
    match = _PART.match(cursor.text, cursor.at)
    if match is None:
        return ()
    cursor.at = match.end()
    part = tuple(int(number) for number in match[0].split(b"."))
    if len(part) > _DEEPEST:
        raise Malformed("The part number is too deep.")
    return part


def _partial(cursor: Cursor) -> tuple[int, int] | None:
    """First octet and length. Without a length all that follows, as Dovecot reads it; RFC 9051 §9 has both."""
    if cursor.peek() != b"<":
        return None
    match = _PARTIAL.match(cursor.text, cursor.at)
    length = _TO_THE_END if match is None or match[2] is None else int(match[2])
    if match is None or length == 0:
        raise Malformed("The partial range is not valid.")
    cursor.at = match.end()
    return int(match[1]), length


def _fields(cursor: Cursor) -> tuple[bytes, ...]:
    cursor.expect(b"(")
    fields: list[bytes] = []
    while True:
        name = cursor.astring()
        if not name or not name.isascii() or any(octet <= 32 or octet in b':"\\()' for octet in name):
            raise Malformed("A header field's name is not valid.")
        fields.append(name)
        if cursor.accept(b")"):
            return tuple(fields)
        cursor.space()
        if len(fields) > _MOST_FIELDS:
            raise Malformed("Too many header fields.")
