"""Address lists of header fields, tolerant of what mail really has in them.

Names and local parts come out without quotes and comments, otherwise as the octets of the message (encoded words
stay encoded). A comment after an address without a name is its name ("joe@example.test (Joe)"). What can't be read
up to the next comma is passed over and what was understood before it kept; a quote or comment without an end is taken
for a blank.

Never fails; linear time; at most `ADDRESSES_MAX` addresses of the first `OCTETS_MAX` octets are read.
Standards: RFC 5322 §3.4 and §4.4, RFC 6532 §3.2, RFC 9051 §7.5.2 (groups, addr-host).
"""

from __future__ import annotations

import re
from typing import NamedTuple

ADDRESSES_MAX = 10_000
OCTETS_MAX = 1 << 18

_ATEXT = rb"[^\x00-\x20()<>\[\]:;@\\,.\"\x7f]"
_DOT_ATOM = rb"(?:" + _ATEXT + rb"|\.)++"
_LWSP = rb"[ \t\r\n]*+"
# What nearly all addresses look like: Name <a@b>, "Name" <a@b>, <a@b>, a@b; up to the comma or the end.
_USUAL = re.compile(
    _LWSP + rb"(?:"
    rb'(?:"([^"\\\r\n]*+)"[ \t]*+|(' + _DOT_ATOM + rb"(?: " + _DOT_ATOM + rb")*+)[ \t]*+)?+"
    rb"<(" + _DOT_ATOM + rb")@(" + _DOT_ATOM + rb")>"
    rb"|(" + _DOT_ATOM + rb")@(" + _DOT_ATOM + rb"))" + _LWSP + rb"(?:,|\Z)"
)
_BLANK = re.compile(_LWSP)
_ATOMS = re.compile(rb"(?:" + _ATEXT + rb"|\.)*+")
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_LITERAL = re.compile(rb"\[[^\[\]\\<>,\"]*+\]")
_COMMENT_PIECE = re.compile(rb"[^()\\]++|\\.|[()]", re.DOTALL)
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_FOLD = re.compile(rb"\r?\n")
_COMMA = re.compile(rb",")
_COMMA_OR_GROUP_END = re.compile(rb"[,;]")
_ANGLE_OR_COMMA = re.compile(rb"[>,]")


class Address(NamedTuple):
    """An address as ENVELOPE has it.

    A group begins with `host` None and its name as `mailbox`, and ends with all None.
    """

    name: bytes | None
    route: bytes | None
    mailbox: bytes | None
    host: bytes | None


GROUP_END = Address(None, None, None, None)


def parse_addresses(value: bytes, limit: int = ADDRESSES_MAX) -> list[Address]:
    """The addresses of an unfolded or folded field value, in order; not many more than `limit`."""
    found: list[Address] = []
    value = value[:OCTETS_MAX]
    position, size = 0, len(value)
    scanner: _Scanner | None = None
    while position < size and len(found) < limit:
        usual = _USUAL.match(value, position)
        if usual is not None:
            quoted, name, mailbox, host, bare_mailbox, bare_host = usual.groups()
            if quoted is not None:
                name = quoted.strip(b" \t") or None
            found.append(Address(name, None, mailbox or bare_mailbox, host or bare_host))
            position = usual.end()
        else:
            scanner = scanner or _Scanner(value)
            position = scanner.read_address(position, found)
    return found


class _Scanner:
    """Reads one address or group with RFC 5322's whole grammar, comments and obsolete forms included."""

    __slots__ = ("comment", "comments", "position", "quotes", "size", "value")

    def __init__(self, value: bytes) -> None:
        self.value = value
        self.position = 0
        self.size = len(value)
        self.comment = b""  # the last one; empty: none
        # An opening "(" or quote without its end is passed over, and then nothing behind it is looked through again.
        self.comments = True
        self.quotes = True

    def read_address(self, position: int, found: list[Address]) -> int:
        """Adds the address or group at `position` to `found`; the position after its comma."""
        self.position = position
        self._skip_blank()
        if self._peek() not in b",;":
            self._read_group_or_mailbox(found)
        self._pass_over(_COMMA)
        return self.position + 1

    def _read_group_or_mailbox(self, found: list[Address]) -> None:
        start = self.position
        if self._peek() not in b"<.":
            name = self._phrase()
            if self._peek() == b":":
                self.position += 1
                self._read_group(name, found)
                return
        self.position = start
        self._read_mailbox(found)

    def _read_group(self, name: bytes, found: list[Address]) -> None:
        found.append(Address(None, None, name, None))
        while self.position < self.size and len(found) < ADDRESSES_MAX:
            self._skip_blank()
            if self._peek() == b";":
                self.position += 1
                break
            if self._peek() not in b",":
                self._read_mailbox(found)
            self._pass_over(_COMMA_OR_GROUP_END)
            if self._peek() == b",":
                self.position += 1
        found.append(GROUP_END)
        self._skip_blank()

    def _read_mailbox(self, found: list[Address]) -> None:
        start = self.position
        name: bytes | None = None
        if self._peek() not in b"<.":
            name = self._phrase().strip(b" \t") or None
        if self._peek() == b"<" and self.value[start : start + 1] != b".":
            self.position += 1
            route, mailbox, host = self._angle_address()
        else:
            phrase, self.position = name, start
            self.comment = b""
            route, (mailbox, host) = None, self._addr_spec()
            name = self.comment or None
            if host is None and phrase and (b" " in phrase or self._peek() not in b",;"):  # words without an address
                name, mailbox = phrase, b""
        found.append(Address(name, route, mailbox or b"MISSING_MAILBOX", host or b"MISSING_DOMAIN"))

    def _angle_address(self) -> tuple[bytes | None, bytes, bytes | None]:
        """What stands between < and >: [route:] local-part@domain."""
        self._skip_blank()
        route = None
        if self._peek() == b"@":
            route = self._route()
        mailbox, host = self._addr_spec()
        if self._peek() != b">":
            host = host or b"SYNTAX_ERROR"
            self._pass_over(_ANGLE_OR_COMMA)
        if self._peek() == b">":
            self.position += 1
            self._skip_blank()
        return route, mailbox, host

    def _route(self) -> bytes:
        domains: list[bytes] = []
        while self._peek() in b"@," and self.position < self.size:
            if self._peek() == b"@":
                domains.append(b"@" + self._domain())
            else:
                self.position += 1
            self._skip_blank()
        if self._peek() == b":":
            self.position += 1
            self._skip_blank()
        return b",".join(domains)

    def _addr_spec(self) -> tuple[bytes, bytes | None]:
        """local-part@domain; the domain is None where there is no "@"."""
        mailbox = self._dotted(quotes=True)
        return mailbox, self._domain() if self._peek() == b"@" else None

    def _domain(self) -> bytes:
        self.position += 1  # the @
        self._skip_blank()
        if self._peek() != b"[":
            return self._dotted(quotes=False)
        literal = _LITERAL.match(self.value, self.position)
        if literal is None:
            return b""
        self.position = literal.end()
        self._skip_blank()
        return literal[0]

    def _dotted(self, *, quotes: bool) -> bytes:
        """Words with dots between them; blanks and comments around dots are dropped (obs-local-part, obs-domain)."""
        words: list[bytes] = []
        while True:
            if quotes and self._peek() == b'"':
                word = self._quoted_string()
            else:
                atoms = _ATOMS.match(self.value, self.position)
                assert atoms is not None
                word = atoms[0]
                self.position = atoms.end()
            self._skip_blank()
            words.append(word)
            if not word or not (word.endswith(b".") or self._peek() == b"."):
                return b"".join(words)

    def _phrase(self) -> bytes:
        """Words, one space between them (also where several blanks or a comment stand)."""
        words: list[bytes] = []
        while self.position < self.size:
            if self._peek() == b'"':
                words.append(self._quoted_string())
            else:
                atoms = _ATOMS.match(self.value, self.position)
                assert atoms is not None
                if not atoms[0]:
                    break
                words.append(atoms[0])
                self.position = atoms.end()
            self._skip_blank()
        return b" ".join([word for word in words if word])

    def _quoted_string(self) -> bytes:
        string = _QUOTED.match(self.value, self.position)
        if string is None:
            self.quotes = False
            return b""
        self.position = string.end()
        text = _FOLD.sub(b"", string[1]) if b"\n" in string[1] else string[1]
        return _ESCAPE.sub(rb"\1", text) if b"\\" in text else text

    def _skip_blank(self) -> None:
        """Passes over blanks, comments, and quotes that have no end."""
        while True:
            blank = _BLANK.match(self.value, self.position)
            assert blank is not None
            self.position = blank.end()
            if self._peek() == b"(":
                if not self.comments or not self._skip_comment():
                    self.comments = False
                    self.position += 1
            elif self._peek() == b'"' and not self.quotes:
                self.position += 1
            else:
                return

    def _skip_comment(self) -> bool:
        """Passes over the comment that begins here and remembers it; False if it has no end."""
        depth = 0
        start = self.position + 1
        for piece in _COMMENT_PIECE.finditer(self.value, self.position):
            if piece[0] == b"(":
                depth += 1
            elif piece[0] == b")":
                depth -= 1
                if depth == 0:
                    text = self.value[start : piece.start()]
                    self.comment = (_ESCAPE.sub(rb"\1", text) if b"\\" in text else text).strip(b" \t\r\n")
                    self.position = piece.end()
                    return True
        return False

    def _pass_over(self, stops: re.Pattern[bytes]) -> None:
        """Goes to the next place that `stops` matches, or to the end."""
        stop = stops.search(self.value, self.position)
        self.position = stop.start() if stop else self.size

    def _peek(self) -> bytes:
        """The octet at the position, b"" at the end (which is `in` every bytes, as an end should be)."""
        return self.value[self.position : self.position + 1]
