"""Reads a message into its tree of parts, each part a pair of byte spans and its Content-* fields.

One pass: the next boundary line of any open multipart is searched from where the last one ended, so every octet is
looked at once however deep or broken the structure is. Where many lines are nearly boundary lines, one compiled pattern
goes on with the search, however many multiparts are open. A part ends at the boundary line of *any* multipart around it
(RFC 2046 §5.1.2); the line end before that boundary line belongs to the boundary. A line is a boundary line when it
begins with the boundary (§5.1.1); of several that fit, the longest and then the innermost is taken. A header too
ends at such a line.

Never fails. Below `DEPTH_MAX` levels, and from `PARTS_MAX` parts on, what is left is one opaque part without
structure.
Standards: RFC 2045, RFC 2046, RFC 5322 §2, RFC 6532 §3.7 (message/global); read as Dovecot reads where mail is
broken.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import IntEnum

from storage.mime.fields import Header, fields_between, header_end
from storage.mime.parameters import Parameters, parse_disposition, parse_languages, parse_token, parse_type
from storage.values import ByteSpan

DEPTH_MAX = 100
PARTS_MAX = 10_000
BOUNDARY_MAX = 200  # RFC 2046 §5.1.1 allows 70

_PATIENCE = 1_000  # lines that are nearly boundary lines; looking at them costs as much as making a pattern
_ALIKE = 16  # octets of each boundary in that pattern


class Kind(IntEnum):
    """What stands in the body of a part: octets, parts, or one message."""

    LEAF = 0
    MULTIPART = 1
    MESSAGE = 2


@dataclass(slots=True)
class Part:
    """One part: where it stands, and its Content-* fields (RFC 9051 §7.5.2; types and names in lower case)."""

    start: int
    body_start: int = 0
    end: int = 0
    kind: Kind = Kind.LEAF
    encoding: bytes = b"7bit"
    lines: int = 0  # LFs in the body; counted for text and messages
    children: list[Part] = field(default_factory=list)  # of a multipart
    embedded: Part | None = None  # the message in a message/rfc822 part

    media_type: bytes = b"text"
    subtype: bytes = b"plain"
    params: Parameters = ()
    content_id: bytes | None = None
    description: bytes | None = None
    md5: bytes | None = None
    disposition: bytes | None = None
    disposition_params: Parameters = ()
    language: tuple[bytes, ...] = ()
    location: bytes | None = None
    fields: Header | None = None  # of the message itself and of embedded messages

    @property
    def header(self) -> ByteSpan:
        """The header with its empty line."""
        return ByteSpan(self.start, self.body_start)

    @property
    def body(self) -> ByteSpan:
        """The body, without the line end that belongs to the next boundary line."""
        return ByteSpan(self.body_start, self.end)

    def param(self, name: bytes) -> bytes | None:
        """The first parameter called `name` (lower case) of the Content-Type."""
        for key, value in self.params:
            if key == name:
                return value
        return None


@dataclass(frozen=True, slots=True)
class Message:
    """A message that was read: its octets, its header and its root part."""

    data: bytes
    root: Part
    header: Header

    @property
    def header_end(self) -> int:
        """Octets of the header with its empty line."""
        return self.header.end


def read_message(data: bytes) -> Message:
    """The structure of `data`, the whole octets of a message."""
    reader = _Reader(data)
    root = reader.read()
    assert root.fields is not None
    return Message(data, root, root.fields)


class _Boundaries:
    """The boundaries of the open multiparts, outermost first, and the search for the next line with one of them."""

    __slots__ = ("data", "levels", "misses", "needle", "patience", "pattern", "texts")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.texts: tuple[bytes, ...] = ()
        self.levels: tuple[int, ...] = ()  # where in the chain of open parts each one's multipart stands
        self.needle = b""
        self.pattern: re.Pattern[bytes] | None = None  # of these boundaries, once it is worth its making
        self.misses = 0  # lines with the needle that were no boundary lines of these
        self.patience = _PATIENCE  # rises with each pattern, so that multiparts that open and close cost few of them

    def push(self, text: bytes, level: int) -> None:
        self._set((*self.texts, text), (*self.levels, level))

    def keep(self, count: int) -> None:
        """Forgets all but the outermost `count`."""
        if count < len(self.texts):
            self._set(self.texts[:count], self.levels[:count])

    def _set(self, texts: tuple[bytes, ...], levels: tuple[int, ...]) -> None:
        self.texts = texts
        self.levels = levels
        self.needle = b"\n--" + _common_start(texts)
        self.pattern = None
        self.misses = 0

    def find(self, start: int, end: int) -> tuple[int, int] | None:
        """The first boundary line that begins in [start, end): its position, and the index of the boundary."""
        data, texts = self.data, self.texts
        if not texts:
            return None
        at = max(start - 1, 0)  # the LF before the line
        while (at := self._nearly(at, end)) >= 0:
            if at + 1 >= end:
                return None
            if len(texts) == 1:
                return at + 1, 0
            if data.startswith(texts, at + 3):
                fits = [index for index, text in enumerate(texts) if data.startswith(text, at + 3)]
                return at + 1, max(fits, key=lambda index: (len(texts[index]), index))
            at += 1
            self.misses += 1
        return None

    def _nearly(self, at: int, end: int) -> int:
        """The LF, from `at` on, before a line that may be a boundary line; -1 if none begins before `end`."""
        if self.pattern is None:
            if self.misses < self.patience:
                return self.data.find(self.needle, at, end + len(self.needle) - 1)
            self.pattern = _pattern(self.texts)
            self.patience += _PATIENCE
        found = self.pattern.search(self.data, at, end + 2 + _ALIKE)
        return -1 if found is None else found.start()


def _common_start(texts: tuple[bytes, ...]) -> bytes:
    """What all of `texts` begin with."""
    if not texts:
        return b""
    first, last = min(texts), max(texts)
    for length, (one, other) in enumerate(zip(first, last, strict=False)):
        if one != other:
            return first[:length]
    return first


def _pattern(texts: Collection[bytes]) -> re.Pattern[bytes]:
    """The beginning of a line with one of `texts`, as far as `_ALIKE` octets of each tell; it never goes back."""
    return re.compile(b"\n--" + _alternatives({text[:_ALIKE] for text in texts}))


def _alternatives(texts: Collection[bytes]) -> bytes:
    """A regular expression for any of `texts`, each octet of which is compared once."""
    if b"" in texts:
        return b""  # whatever follows
    below: dict[bytes, set[bytes]] = {}
    for text in texts:
        below.setdefault(text[:1], set()).add(text[1:])
    branches = [re.escape(octet) + _alternatives(rest) for octet, rest in below.items()]
    return branches[0] if len(branches) == 1 else b"(?:" + b"|".join(branches) + b")"


class _Reader:
    """The state of reading one message: the chain of open parts from the root to the innermost."""

    __slots__ = ("boundaries", "chain", "count", "data", "next_empty", "size", "with_lines")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.chain: list[Part] = []
        self.boundaries = _Boundaries(data)
        self.count = 0
        self.next_empty = -1
        self.with_lines: list[Part] = []

    def read(self) -> Part:
        root = self._open(0, is_message=True, parent=None)
        position: int | None = root.body_start
        while position is not None:
            position = self._advance(position)
        self._close(0, self.size)
        _count_lines(self.data, self.with_lines)
        return root

    def _advance(self, position: int) -> int | None:
        """Goes on from `position`, where the body of the innermost part begins or goes on; None at the end."""
        innermost = self.chain[-1]
        if innermost.kind is Kind.MESSAGE and innermost.embedded is None:
            innermost.embedded = self._open(position, is_message=True, parent=innermost)
            return innermost.embedded.body_start
        found = self.boundaries.find(position, self.size)
        if found is None:
            return None
        line, index = found
        level = self.boundaries.levels[index]
        text_end = line + 2 + len(self.boundaries.texts[index])
        self._close(level + 1, self._before_line_end(line))
        line_end = self.data.find(b"\n", text_end) + 1
        if self.data.startswith(b"--", text_end):
            self.boundaries.keep(index)
            return line_end or None
        self.boundaries.keep(index + 1)
        if not line_end:
            return None
        multipart = self.chain[-1]
        child = self._open(line_end, is_message=False, parent=multipart)
        multipart.children.append(child)
        return child.body_start

    def _before_line_end(self, line: int) -> int:
        """Where the line end before `line` begins: it belongs to the boundary."""
        return line - 2 if self.data.startswith(b"\r\n", line - 2) else line - 1

    def _open(self, start: int, *, is_message: bool, parent: Part | None) -> Part:
        """Reads the header at `start` and makes its part the innermost one."""
        self.count += 1
        if self.count >= PARTS_MAX:
            self.boundaries.keep(0)
        header = fields_between(self.data, start, self._header_end(start))
        part = Part(start)
        boundary = _set_content(part, header, in_digest=parent is not None and parent.subtype == b"digest")
        if part.kind is not Kind.LEAF and (len(self.chain) >= DEPTH_MAX - 1 or self.count >= PARTS_MAX):
            part.kind = Kind.LEAF
            part.media_type, part.subtype, part.params = b"application", b"octet-stream", ()
        if part.kind is Kind.MULTIPART and boundary:
            self.boundaries.push(boundary[:BOUNDARY_MAX], len(self.chain))
        elif part.kind is Kind.MESSAGE or part.media_type == b"text":
            self.with_lines.append(part)
        if header.end > start and self.data.startswith(b"--", header.end):
            header.end = self._without_empty_line(header.end)
        part.body_start = header.end
        if is_message:
            part.fields = header
        self.chain.append(part)
        return part

    def _header_end(self, start: int) -> int:
        if self.data.startswith((b"\r\n", b"\n"), start):
            end = self.data.index(b"\n", start) + 1
        else:
            if self.next_empty <= start:
                # Looked for once: a message without empty lines and with many parts stays linear.
                self.next_empty = header_end(self.data, start, self.size)
            end = self.next_empty
        found = self.boundaries.find(start, end)
        if found is not None:
            return max(start, self._before_line_end(found[0]))
        return end

    def _without_empty_line(self, end: int) -> int:
        """`end` of a header, before its empty line if a boundary line of a multipart around the part follows at once.

        RFC 2046 §5.1.1: that line end is the boundary's. A multipart's own boundary, pushed already, begins its body.
        """
        found = self.boundaries.find(end, end + 1)
        if found is None or self.boundaries.levels[found[1]] == len(self.chain):
            return end
        return self._before_line_end(end)

    def _close(self, level: int, end: int) -> None:
        """Ends the parts of the chain from `level` on at `end`, which may lie in the line before the innermost one."""
        end = max(end, self.chain[-1].body_start)
        for part in self.chain[level:]:
            part.end = end
        del self.chain[level:]


def _set_content(part: Part, header: Header, *, in_digest: bool) -> bytes | None:
    """Fills in what the Content-* fields say; the boundary if the part is a multipart with one."""
    boundary = None
    value = header.value(b"content-type")
    if value is not None:
        media_type, subtype, part.params = parse_type(value)
        boundary = part.param(b"boundary") if media_type == b"multipart" else None
        if boundary and not subtype:
            subtype = b"mixed"
        if media_type and subtype:  # RFC 2045 §5.2: what is no type is text/plain
            part.media_type, part.subtype = media_type, subtype
        if part.media_type == b"multipart":
            part.kind = Kind.MULTIPART
        elif part.media_type == b"message" and part.subtype in (b"rfc822", b"global"):
            part.kind = Kind.MESSAGE
    elif in_digest:  # RFC 2046 §5.1.5
        part.media_type, part.subtype, part.kind = b"message", b"rfc822", Kind.MESSAGE
    if (value := header.value(b"content-transfer-encoding")) is not None:
        part.encoding = parse_token(value) or part.encoding
    if (value := header.value(b"content-disposition")) is not None:
        disposition, part.disposition_params = parse_disposition(value)
        part.disposition = disposition or None
    if (value := header.value(b"content-language")) is not None:
        part.language = parse_languages(value)
    part.content_id = header.value(b"content-id")
    part.description = header.value(b"content-description")
    part.md5 = header.value(b"content-md5")
    part.location = header.value(b"content-location")
    return boundary


def _count_lines(data: bytes, parts: list[Part]) -> None:
    """Counts every line once, also those of messages inside messages."""
    marks = sorted({mark for part in parts for mark in (part.body_start, part.end)})
    lines: dict[int, int] = {}
    total = previous = 0
    for mark in marks:
        total += data.count(b"\n", previous, mark)
        lines[mark] = total
        previous = mark
    for part in parts:
        part.lines = lines[part.end] - lines[part.body_start]
