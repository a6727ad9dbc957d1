"""Lines that are longer than SMTP carries, found and folded; and lines of quoted-printable. Pure.

A folded line goes on after CRLF and white space: in a header that changes nothing (RFC 5322 §2.2.3) where the line had
white space; where it had none, and in text that cannot be encoded, a space is the price. UTF-8 is never cut in the
middle of a character.

Standards: RFC 5321 §4.5.3.1.6, RFC 5322 §2.1.1 and §2.2.3, RFC 2045 §6.7.
"""

from __future__ import annotations

import binascii
import re

LINE_MAX = 998  # octets without CRLF
QUOTED_MAX = 76  # RFC 2045 §6.7 (5)

_LONG = re.compile(rb"[^\r\n]{%d,}" % (LINE_MAX + 1))
_INDENT = re.compile(rb"[ \t]+")
_TO_WRAP = re.compile(rb"(?m)^--[^\r\n]*|^[^\r\n]{%d,}" % (QUOTED_MAX + 1))
_TO_QUOTE = re.compile(rb"(?m)^[^\r\n]*[\x80-\xff][^\r\n]*|^[^\r\n]{%d,}" % (LINE_MAX + 1))
# What in a line has to be escaped, after the escapes and soft breaks that are there: 8-bit octets, and "=" that begins
# nothing. A doubled one is read as one by those who forgive it.
_UNQUOTED = re.compile(rb"=[0-9A-Fa-f]{2}|=\Z|==?|[\x80-\xff]")


def has_long_line(content: bytes, start: int = 0, end: int | None = None) -> bool:
    """Looks at one octet in a thousand: where the next line end is, from as far as it may be."""
    if end is None:
        end = len(content)
    position = start
    while end - position > LINE_MAX:
        last = content.rfind(b"\n", position, min(position + LINE_MAX + 2, end))
        if last < 0:
            break
        position = last + 1
    else:
        return False
    line_end = content.find(b"\r\n", position, end)
    return (end if line_end < 0 else line_end) - position > LINE_MAX


def fold(text: bytes) -> bytes:
    """`text` with every line that is too long folded, at white space if there is any."""
    return _LONG.sub(lambda match: _folded(match[0]), text)


def _folded(line: bytes) -> bytes:
    pieces: list[bytes] = []
    last = len(line.rstrip(b" \t"))  # white space at the end goes with what it stands behind
    start, space = 0, b""
    while len(space) + len(line) - start > LINE_MAX:
        end = start + LINE_MAX - len(space)
        indent = _INDENT.match(line, start, end)
        behind = (start if indent is None else indent.end()) + 1
        cut = max(line.rfind(b" ", behind, end + 1), line.rfind(b"\t", behind, end + 1))
        if start < cut < last:
            pieces.append(space + line[start:cut])
            space = b""
        else:
            cut = end
            while cut > end - 4 and line[cut] & 0xC0 == 0x80:
                cut -= 1
            pieces.append(space + line[start:cut])
            space = b" "
        start = cut
    return b"\r\n".join((*pieces, space + line[start:]))


def quoted(text: bytes) -> bytes:
    """`text`, with CRLF line ends, in quoted-printable. No line of it begins like a boundary."""
    encoded = binascii.b2a_qp(text, quotetabs=False, istext=True, header=False)
    if b"\n" not in text:  # nothing told it which line ends we use
        encoded = encoded.replace(b"\n", b"\r\n")
    # What binascii leaves too long are lines that end in an escaped blank.
    return _TO_WRAP.sub(lambda match: _wrapped(match[0]), encoded)


def requoted(encoded: bytes) -> bytes:
    """Quoted-printable `encoded` in short lines of ASCII; it stands for the same octets."""
    return _TO_QUOTE.sub(lambda match: _wrapped(_UNQUOTED.sub(_escape, match[0].rstrip(b" \t"))), encoded)


def _escape(match: re.Match[bytes]) -> bytes:
    found = match[0]
    is_sound = len(found) == 3 or (found == b"=" and match.end() == len(match.string))
    return found if is_sound else b"=%02X" % found[0]


def _wrapped(line: bytes) -> bytes:
    """A line of quoted-printable in several with soft breaks between them; none begins with "--"."""
    pieces: list[bytes] = []
    position = 0
    while True:
        start = b""
        if line.startswith(b"--", position):
            start = b"=2D"
            position += 1
        room = QUOTED_MAX - len(start)
        if len(line) - position <= room:
            pieces.append(start + line[position:])
            return b"=\r\n".join(pieces)
        cut = position + room - 1
        if line[cut - 1 : cut] == b"=":
            cut -= 1
        elif line[cut - 2 : cut - 1] == b"=":
            cut -= 2
        pieces.append(start + line[position:cut])
        position = cut
