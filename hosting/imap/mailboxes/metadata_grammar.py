"""GETMETADATA and SETMETADATA as values, the names of entries, and the option METADATA of LIST.

Options may stand before the mailbox, as the grammar has them, or behind it, as the examples do; several entries may
stand without parentheses, as in one example.

Standards: RFC 5464 §3.2 (names), §4.2, §4.3, §5; RFC 9590 §3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from hosting.imap.commands import Command
from hosting.imap.cursor import Cursor, Malformed
from storage.mail.annotations import is_entry

INFINITY: Final = 1 << 30
_MOST_ENTRIES = 100
_DEPTHS: Final = {"0": 0, "1": 1, "INFINITY": INFINITY}


@dataclass(frozen=True, slots=True)
class GetMetadata(Command):
    """`mailbox` is empty for the server; `entries` are as the client wrote them."""

    mailbox: str
    entries: tuple[str, ...]
    depth: int = 0
    max_size: int | None = None


@dataclass(frozen=True, slots=True)
class SetMetadata(Command):
    """`values` by name, in lower case; None removes."""

    mailbox: str
    values: dict[str, bytes | None] = field(repr=False)


def get_metadata(cursor: Cursor, utf8: bool) -> GetMetadata:
    cursor.space()
    options: dict[str, int] = {}
    if cursor.peek() == b"(":
        _options(cursor, options)
        cursor.space()
    mailbox = cursor.mailbox(utf8)
    cursor.space()
    if cursor.peek() == b"(" and cursor.text[cursor.at + 1 : cursor.at + 2] not in (b"/", b'"', b"{", b"~"):
        _options(cursor, options)
        cursor.space()
    found = entries(cursor)
    return GetMetadata(mailbox, found, options.get("DEPTH", 0), options.get("MAXSIZE"))


def _options(cursor: Cursor, options: dict[str, int]) -> None:
    cursor.expect(b"(")
    while True:
        word = cursor.word()
        if word in options:
            raise Malformed("An option stands there twice.")
        cursor.space()
        if word == "MAXSIZE":
            options[word] = cursor.number()
        elif word == "DEPTH":
            depth = _DEPTHS.get(cursor.word())
            if depth is None:
                raise Malformed("DEPTH is 0, 1 or infinity.")
            options[word] = depth
        else:
            raise Malformed("Unknown option of GETMETADATA.")
        if cursor.accept(b")"):
            return
        cursor.space()


def entries(cursor: Cursor) -> tuple[str, ...]:
    """Names of entries, with or without parentheses, each once."""
    found: dict[str, str] = {}
    closed = cursor.accept(b"(")
    while True:
        entry = _entry(cursor)
        found.setdefault(entry.lower(), entry)
        if len(found) > _MOST_ENTRIES:
            raise Malformed("Too many entries.")
        if closed and cursor.accept(b")"):
            break
        if not closed and cursor.at_end():
            break
        cursor.space()
    return tuple(found.values())


def set_metadata(cursor: Cursor, utf8: bool) -> SetMetadata:
    cursor.space()
    mailbox = cursor.mailbox(utf8)
    cursor.expect(b" (")
    values: dict[str, bytes | None] = {}
    while True:
        entry = _entry(cursor).lower()
        _check_settable(entry)
        cursor.space()
        values[entry] = _value(cursor)
        if len(values) > _MOST_ENTRIES:
            raise Malformed("Too many entries.")
        if cursor.accept(b")"):
            break
        cursor.space()
    return SetMetadata(mailbox, values)


def _entry(cursor: Cursor) -> str:
    name = cursor.astring().decode("latin-1")
    if not is_entry(name):
        raise Malformed("The name of an entry is not valid.")
    return name


def _check_settable(entry: str) -> None:
    parts = entry.split("/")[1:]
    if len(parts) < 2 or (parts[1] == "vendor" and len(parts) < 4):
        raise Malformed("The name of an entry has too few parts.")  # RFC 5464 §3.2


def _value(cursor: Cursor) -> bytes | None:
    if cursor.peek() in (b'"', b"{"):
        return cursor.string()
    if cursor.peek() == b"~":
        return cursor.literal(octets=True)  # literal8: NUL may be in it
    if cursor.word() != "NIL":
        raise Malformed("A value is a string or NIL.")
    return None
