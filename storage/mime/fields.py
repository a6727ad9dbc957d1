"""Header fields as byte spans: where each begins, where its value begins, where it ends.

A line ends with LF (with or without CR before it); a bare CR is an ordinary octet. A header ends after its first
empty line. A line that begins with white space continues the field before it; a line without a colon is a field
whose name is the line and whose value is empty, so that every octet of a header belongs to exactly one field or to
the empty line.

Never fails; time and memory are linear, and at most `FIELDS_MAX` fields of a header are told apart.
Standards: RFC 5322 §2.2, RFC 9051 §6.4.5.1 (HEADER.FIELDS).
"""

from __future__ import annotations

import re
from typing import NamedTuple

FIELDS_MAX = 100_000
SAME_MAX = 100  # fields of one name whose values are read

# What Thunderbird lists folders with, except Received (which stands apart: clients differ about it).
LISTED = frozenset(
    b"from to cc bcc subject date message-id priority x-priority references newsgroups in-reply-to content-type "
    b"reply-to".split()
)

_FIELD = re.compile(
    rb"([^\n:]*+)(:?)"  # the name; a line without a colon ends here
    rb"[^\n]*+(?:\n[ \t][^\n]*+)*+\n?"  # the value with its continuation lines
)
_EMPTY_LINE = re.compile(rb"\n\r?\n")


class Field(NamedTuple):
    """One field: `name` in lower case, [start, end) with its line end, [value, end) what follows the colon."""

    name: bytes
    start: int
    value: int
    end: int


class Header:
    """The fields of one header inside `data`. `end` is where the body starts; `is_cut`: there may be further fields."""

    __slots__ = ("_first", "_joined", "data", "end", "fields", "is_cut", "start")

    def __init__(self, data: bytes, start: int, end: int, fields: list[Field], *, is_cut: bool = False) -> None:
        self.data = data
        self.start = start
        self.end = end
        self.fields = fields
        self.is_cut = is_cut
        self._first: dict[bytes, Field] | None = None
        self._joined: dict[bytes, bytes] = {}

    def first(self, name: bytes) -> Field | None:
        """The first field called `name` (lower case)."""
        if self._first is None:
            self._first = {field.name: field for field in reversed(self.fields)}
        return self._first.get(name)

    def raw(self, name: bytes) -> bytes | None:
        """The octets between the colon and the last line end of the first field called `name`."""
        field = self.first(name)
        return None if field is None else self.data[field.value : field.end]

    def value(self, name: bytes) -> bytes | None:
        """The unfolded value of the first field called `name`, or None without such a field."""
        field = self.first(name)
        return None if field is None else unfold(self.data[field.value : field.end])

    def values(self, name: bytes) -> list[bytes]:
        """The unfolded values of the first `SAME_MAX` fields called `name`, in order."""
        if self.first(name) is None:
            return []
        same = [field for field in self.fields if field.name == name]
        return [unfold(self.data[field.value : field.end]) for field in same[:SAME_MAX]]

    def joined(self, name: bytes) -> bytes:
        """The same as one list (RFC 5322 §4.5.3). Several who read a message ask for it."""
        text = self._joined.get(name)
        if text is None:
            text = self._joined[name] = b", ".join(self.values(name))
        return text


def unfold(raw: bytes) -> bytes:
    """The value without line ends and without the white space around it (RFC 5322 §2.2.3)."""
    raw = raw.strip(b" \t\r\n")
    if b"\n" in raw:
        raw = raw.replace(b"\r\n", b"").replace(b"\n", b"")
    return raw


def read_header(data: bytes, start: int = 0, end: int | None = None, *, most: int = FIELDS_MAX) -> Header:
    """The header that begins at `start`; it ends after its first empty line, at the latest at `end`.

    Of `most` fields at most: each takes some 300 octets of memory.
    """
    if end is None:
        end = len(data)
    return fields_between(data, start, header_end(data, start, end), most=most)


def header_end(data: bytes, start: int, end: int) -> int:
    """Where the body begins of a header that starts at `start`: after the first empty line, or `end`."""
    if data.startswith((b"\r\n", b"\n"), start, end):
        return data.index(b"\n", start) + 1
    found = _EMPTY_LINE.search(data, start, end)
    return found.end() if found else end


def fields_between(data: bytes, start: int, end: int, *, most: int = FIELDS_MAX) -> Header:
    """The header [start, end) whose end is known already."""
    fields: list[Field] = []
    for match in _FIELD.finditer(data, start, end):
        first, last = match.span()
        if first == last:
            break
        name = match[1]
        if not name.strip(b"\r"):
            if not match[2]:  # the empty line
                continue
        elif name[-1] in b" \t\r":
            name = name.rstrip(b" \t\r")
        fields.append(Field(name.lower(), first, match.end(2), last))
        if len(fields) >= most:
            break
    return Header(data, start, end, fields, is_cut=len(fields) >= most)


def select_fields(header: bytes, names: frozenset[bytes], *, negate: bool = False) -> bytes:
    """The fields called one of `names` (lower case) with their line ends, in order; or all others."""
    chosen: list[bytes] = []
    for match in _FIELD.finditer(header):
        name = match[1].rstrip(b" \t\r").lower()
        if (name in names) is not negate and (name or match[2]):
            chosen.append(match[0])
    return b"".join(chosen)


def listed_fields(header: Header) -> bytes:
    """The raw fields of `LISTED` in message order, each with its line end, without an empty line."""
    data = header.data
    if header.is_cut:
        return select_fields(data[header.start : header.end], LISTED)
    return b"".join([data[field.start : field.end] for field in header.fields if field.name in LISTED])


def received_fields(header: Header) -> tuple[bytes, bool]:
    """The raw Received fields, and whether all of them stand before every listed field."""
    data = header.data
    received: list[bytes] = []
    listed_seen = False
    before = True
    for field in header.fields:
        if field.name == b"received":
            received.append(data[field.start : field.end])
            before = before and not listed_seen
        elif not listed_seen and field.name in LISTED:
            listed_seen = True
    if header.is_cut:
        return select_fields(data[header.start : header.end], frozenset((b"received",))), False
    return b"".join(received), before
