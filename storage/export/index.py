"""The index of an account's archive: JSON lines, in the order in which folders were made and UIDs ascend.

A line is a folder, a message of the folder above it, a message that could not be read, or one that went since the
archive was begun. A writer brings its lines to the disk in batches, after the files that they name; a line that a crash
tore is cut off. Readers take one line at a time and believe nothing: each field is checked for its type and its range.

Raises: InvalidInput (not an index that an export writes), OSError as the file system gives it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, BinaryIO

from storage.errors import InvalidInput
from storage.export.values import LINE_MAX, MESSAGE_MAX
from storage.values import KEYWORDS_PER_MAILBOX, UID_MAX

FLAG_NAMES = ("\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft")  # by the bits of SystemFlag

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_KEYWORD = re.compile(r'[^\x00-\x20\x7f-\U0010ffff(){%*"\\\]]{1,255}\Z')  # an atom (RFC 9051 §9), or it ends a reply
_USE = re.compile(r"\\[A-Za-z]{1,32}\Z")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NUMBER_MAX = (1 << 63) - 1
_ZONE_MAX = 24 * 60 - 1


@dataclass(frozen=True, slots=True)
class FolderLine:
    """A mailbox, before its messages."""

    mailbox: int  # its number in the account that was exported
    folder: str
    path: str  # a Maildir, or an mbox file
    uidvalidity: int
    uidnext: int
    special_use: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()  # in the order in which they were first used
    keep_days: int = 0
    read_only: bool = False  # the server writes it
    gone: int = 0  # when it was seen to be deleted, in Unix seconds; 0: it is there


@dataclass(frozen=True, slots=True)
class MessageLine:
    """A message in a folder; the same message in another folder has the same `email_id`."""

    uid: int
    file: str  # a Maildir's file, or the mbox
    offset: int  # in the mbox, where its From_ line begins
    octets: int  # of what stands for it in the archive
    file_sha256: str  # of these octets
    added: int  # octets of an mbox header that are ours: From_ line, status fields
    ended: bool  # an mbox needed a line end behind it, which is not its own
    crlf: bool  # line ends are LF there and CRLF in the message
    size: int  # of the message, as IMAP gives it
    sha256: str
    internal_date: int
    saved: int
    flags: int
    keywords: tuple[str, ...]
    email_id: str
    thread_id: str
    places: int  # in how many folders it stood
    internal_zone: int = 0  # minutes east of UTC in which IMAP tells the internal date

    @property
    def flag_names(self) -> list[str]:
        return [name for bit, name in enumerate(FLAG_NAMES) if self.flags >> bit & 1]


@dataclass(frozen=True, slots=True)
class LostLine:
    """A message that is not in the archive: expunged since an earlier run, or not readable where it was stored."""

    uid: int
    email_id: str
    reason: str  # gone, unreadable
    noticed: int


Line = FolderLine | MessageLine | LostLine

_KINDS: dict[str, type[Line]] = {"folder": FolderLine, "message": MessageLine, "lost": LostLine}
_OF_KIND = {kind: name for name, kind in _KINDS.items()}
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode
_LAYOUT = {kind: tuple(field.name for field in fields(kind)) for kind in _KINDS.values()}


def packed(line: Line) -> bytes:
    """The line as it is written, with its end."""
    kind = type(line)
    values: dict[str, Any] = {"kind": _OF_KIND[kind]}
    for name in _LAYOUT[kind]:
        values[name] = getattr(line, name)
    if isinstance(line, MessageLine):
        values["flags"] = line.flag_names
        if not line.offset:
            del values["offset"]
        for name in ("added", "ended", "internal_zone"):
            if not values[name]:
                del values[name]
    return _encode(values).encode("utf-8") + b"\n"


def parsed(octets: bytes) -> Line:
    """A line that was read."""
    try:
        values = json.loads(octets)
        kind = _KINDS[values.pop("kind")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InvalidInput("The index of the archive has a line that is none.") from None
    values = {name: value for name, value in values.items() if name in _LAYOUT[kind]}
    try:
        if kind is MessageLine:
            line: Line = _message(values)
        else:
            given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
            line = kind(**given)
    except (TypeError, ValueError, KeyError):
        raise InvalidInput("The index of the archive has a line that lacks something.") from None
    if not _CHECKS[kind](line):
        raise InvalidInput("The index of the archive has a line with a value that cannot be.")
    return line


def _message(values: dict[str, Any]) -> MessageLine:
    defaults = {"offset": 0, "added": 0, "ended": False}
    values = {**defaults, **values}
    values["flags"] = sum(1 << FLAG_NAMES.index(name) for name in set(values["flags"]))
    values["keywords"] = tuple(values["keywords"])
    return MessageLine(**values)


def _is_number(value: object, most: int = _NUMBER_MAX, least: int = 0) -> bool:
    return type(value) is int and least <= value <= most


def _is_text(value: object, most: int = 4000) -> bool:
    return isinstance(value, str) and len(value) <= most and (value.isascii() or _SURROGATE.search(value) is None)


def _are_words(value: object, most: int, pattern: re.Pattern[str]) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) <= most
        and all(isinstance(word, str) and pattern.match(word) is not None for word in value)
    )


def _folder_is_right(line: Any) -> bool:
    return (
        _is_number(line.mailbox, least=1)
        and _is_text(line.folder)
        and _is_text(line.path)
        and _is_number(line.uidvalidity)
        and _is_number(line.uidnext, UID_MAX + 1)
        and _are_words(line.special_use, 16, _USE)
        and _are_words(line.keywords, KEYWORDS_PER_MAILBOX, _KEYWORD)
        and _is_number(line.keep_days, 1 << 31, -10)
        and type(line.read_only) is bool
        and _is_number(line.gone)
    )


def _message_is_right(line: Any) -> bool:
    return (
        _is_number(line.uid, UID_MAX, 1)
        and _is_text(line.file)
        and _is_number(line.offset)
        and _is_number(line.octets, 2 * MESSAGE_MAX)
        and _is_number(line.size, MESSAGE_MAX)
        and _is_number(line.added, line.octets)
        and type(line.ended) is bool
        and type(line.crlf) is bool
        and all(isinstance(text, str) and _SHA256.match(text) for text in (line.sha256, line.file_sha256))
        and _is_number(line.internal_date, least=-_NUMBER_MAX)
        and _is_number(line.internal_zone, _ZONE_MAX, -_ZONE_MAX)
        and _is_number(line.saved, least=-_NUMBER_MAX)
        and _are_words(line.keywords, KEYWORDS_PER_MAILBOX, _KEYWORD)
        and _is_text(line.email_id, 255)
        and bool(line.email_id)
        and _is_text(line.thread_id, 255)
        and _is_number(line.places)
    )


def _lost_is_right(line: Any) -> bool:
    return (
        _is_number(line.uid, UID_MAX, 1)
        and _is_text(line.email_id, 255)
        and line.reason in ("gone", "unreadable")
        and _is_number(line.noticed)
    )


_CHECKS: Mapping[type[Line], Callable[[Any], bool]] = {
    FolderLine: _folder_is_right,
    MessageLine: _message_is_right,
    LostLine: _lost_is_right,
}


def lines(file: BinaryIO) -> Iterator[Line]:
    """The lines of an index, one after the other."""
    while octets := file.readline(LINE_MAX + 1):
        if not octets.endswith(b"\n"):
            raise InvalidInput("The index of the archive has a line without an end, or one that is too long.")
        yield parsed(octets)


def whole_lines(file: BinaryIO) -> Iterator[tuple[Line, int]]:
    """The lines of an index that is being written, each with the octet behind it, up to one that a crash tore."""
    end = 0
    while (octets := file.readline(LINE_MAX + 1)).endswith(b"\n"):
        try:
            line = parsed(octets)
        except InvalidInput:  # a power loss may leave octets that nobody wrote
            return
        end += len(octets)
        yield line, end


class Ahead:
    """The lines of an earlier index, taken folder by folder and message by message as another index is written."""

    def __init__(self, source: Iterator[Line]) -> None:
        self._source = source
        self._next = next(source, None)

    def folder(self, before: int) -> FolderLine | None:
        """The next folder whose mailbox has a lower number than `before`; what is left of the one at hand is passed."""
        while self._next is not None and not isinstance(self._next, FolderLine):
            self._advance()
        if self._next is None or self._next.mailbox >= before:
            return None
        return self._take_folder()

    def _take_folder(self) -> FolderLine:
        line = self._next
        assert isinstance(line, FolderLine)
        self._advance()
        return line

    def message(self, upto: int = UID_MAX) -> MessageLine | LostLine | None:
        """The next line of the folder at hand whose UID is not above `upto`."""
        line = self._next
        if line is None or isinstance(line, FolderLine) or line.uid > upto:
            return None
        self._advance()
        return line

    def _advance(self) -> None:
        self._next = next(self._source, None)


@dataclass(slots=True)
class Totals:
    """What the index names."""

    folders: int = 0
    messages: int = 0
    octets: int = 0  # of the messages, as IMAP counts them
    unreadable: int = 0
    gone: int = 0

    def count(self, line: Line) -> None:
        if isinstance(line, FolderLine):
            self.folders += not line.gone
        elif isinstance(line, MessageLine):
            self.messages += 1
            self.octets += line.size
        elif line.reason == "gone":
            self.gone += 1
        else:
            self.unreadable += 1
