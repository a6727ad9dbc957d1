"""Reads an mbox file: messages divided by From_ lines, one blank line before each.

A line of one or more ">" before "From " loses one ">" (mboxrd; the same for mboxo, which quotes once). Read and replied
marks come from Status and X-Status (mutt, pine, Dovecot) and X-Mozilla-Status (Thunderbird), keywords from X-Keywords
(Dovecot); the fields stay.
Memory: one message at a time; a longer one than `OCTETS_MAX` is handed out as Unreadable.
Standards: RFC 4155 and the mbox(5) manual.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from storage.archives.archive import OCTETS_MAX, Found, Unreadable, from_line_date, is_from_line, keywords_of
from storage.errors import InvalidInput
from storage.values import ANSWERED, DELETED, DRAFT, FLAGGED, KEYWORDS_PER_MAILBOX, SEEN

_LINE_MAX = 64 * 1024  # a longer line is read in pieces
_QUOTED = re.compile(rb">+From ")
_STATUS = re.compile(rb"^(x-)?status:([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_MOZILLA = re.compile(rb"^x-mozilla-status:[ \t]*([0-9a-f]{4})", re.IGNORECASE | re.MULTILINE)
_KEYWORDS = re.compile(rb"^x-keywords:([^\r\n]{0,20000})", re.IGNORECASE | re.MULTILINE)
_HEADER_END = re.compile(rb"\r?\n\r?\n")

_LETTERS = {ord("R"): SEEN, ord("A"): ANSWERED, ord("F"): FLAGGED, ord("D"): DELETED, ord("T"): DRAFT}
# nsMsgMessageFlags: read, replied, marked, expunged (deleted but not compacted yet).
_MOZILLA_BITS = ((0x1, SEEN), (0x2, ANSWERED), (0x4, FLAGGED), (0x8, DELETED))


class Mbox:
    """One mbox file; it has no folders."""

    def __init__(self, path: Path) -> None:
        """Raises InvalidInput if the file does not begin with a From_ line."""
        self._path = path
        with path.open("rb") as file:
            start = file.read(5)
        if start and start != b"From ":
            raise InvalidInput(f"{path.name} is not an mbox file: it does not begin with 'From '.")

    def folders(self) -> list[str]:
        return []

    def count(self) -> int:
        return sum(1 for is_divider, _ in self._lines() if is_divider)

    def messages(self) -> Iterator[Found | Unreadable]:
        number = 0
        divider = b""
        lines: list[bytes] = []
        size = 0
        for is_divider, line in self._lines():
            if is_divider:
                if number:
                    yield self._entry(number, divider, lines, size)
                number += 1
                divider, lines, size = line, [], 0
                continue
            size += len(line)
            if size <= OCTETS_MAX:
                lines.append(line)
        if number:
            yield self._entry(number, divider, lines, size)

    def _lines(self) -> Iterator[tuple[bool, bytes]]:
        """Lines (or pieces of very long ones), unquoted, each with whether it divides messages."""
        first = at_start = after_blank = True
        with self._path.open("rb") as file:
            while line := file.readline(_LINE_MAX):
                if at_start and after_blank and line.startswith(b"From "):
                    yield first or is_from_line(line), line
                elif at_start and _QUOTED.match(line):
                    yield False, line[1:]
                else:
                    yield False, line
                first = False
                after_blank = at_start and line in (b"\n", b"\r\n")
                at_start = line.endswith(b"\n")

    def _entry(self, number: int, divider: bytes, lines: list[bytes], size: int) -> Found | Unreadable:
        origin = f"{self._path.name}, message {number}"
        if size > OCTETS_MAX:
            return Unreadable(origin, f"it has {size} octets, more than {OCTETS_MAX}.")
        if len(lines) > 1 and lines[-1] in (b"\n", b"\r\n"):
            lines.pop()  # the blank line before the next From_ line is no part of the message
        octets = b"".join(lines)
        if not octets.strip():
            return Unreadable(origin, "it is empty.")
        end = _HEADER_END.search(octets)
        header = octets[: end.start()] if end else octets
        return Found("", origin, octets, _flags(header), _keywords(header), from_line_date(divider))


def _keywords(header: bytes) -> tuple[str, ...]:
    found = _KEYWORDS.search(header)
    return keywords_of(found[1].decode("utf-8", "replace").split()[:KEYWORDS_PER_MAILBOX]) if found else ()


def _flags(header: bytes) -> int:
    """The flags that status fields in the header stand for."""
    flags = 0
    for _, letters in _STATUS.findall(header):
        for letter in letters:
            flags |= _LETTERS.get(letter, 0)
    if mozilla := _MOZILLA.search(header):
        bits = int(mozilla[1], 16)
        for bit, flag in _MOZILLA_BITS:
            if bits & bit:
                flags |= flag
    return flags
