"""The content of a MIME part without its transfer encoding, in pieces: a part is decoded only as far as it is read.

What comes out is what `storage.mime.transfer.decode_transfer` gives for the whole. uuencode, which that does not know,
is undone too, since mail programs do; an encoding that nobody knows is none.

Raises: Stop (from the budget). Standards: RFC 2045 §6.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator

from gateway.content_facts.budget import Budget
from gateway.content_facts.flow import PIECE, Octets, slices
from storage.mime.message import Part
from storage.mime.transfer import decode_base64, decode_transfer, is_known

UUENCODE = frozenset((b"x-uuencode", b"x-uue", b"uuencode", b"uue"))
HIDING = UUENCODE | {b"base64"}  # encodings in which nobody sees what a text is

_NO_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="))
_UU_BEGIN = re.compile(rb"begin [0-7]{3,4} ([^\r\n]{1,255})\r?\n")
_UU_LINE_MAX = 256
_UU_FILE = 1000  # what looking at a line that may begin a file costs


def is_encoding(encoding: bytes) -> bool:
    """Whether anybody knows it."""
    return is_known(encoding) or encoding in UUENCODE


def decoded(data: bytes, part: Part, budget: Budget) -> Iterator[Octets]:
    """The body of `part` in pieces."""
    start, end = part.body_start, part.end
    if part.encoding == b"base64":
        return _base64(data, start, end, budget)
    if part.encoding == b"quoted-printable":
        return _quoted_printable(data, start, end, budget)
    if part.encoding in UUENCODE:
        return _uuencoded(data, start, end, budget)
    return slices(data, start, end, budget)


def decoded_size(data: bytes, part: Part) -> int:
    """What `decoded` would give in all: exact for what is well formed, and found without decoding."""
    start, end = part.body_start, part.end
    size = end - start
    if part.encoding == b"base64":
        line_ends = data.count(b"\n", start, end) + data.count(b"\r", start, end)
        return (size - line_ends) // 4 * 3 - data.count(b"=", max(start, end - 4), end)
    return size


def uu_names(data: bytes, start: int, end: int, budget: Budget) -> Iterator[tuple[bytes, int]]:
    """The files that stand uuencoded in a text: their names, and where their lines begin."""
    at = data.find(b"begin ", start, end)
    while at >= 0:
        budget.spend(_UU_FILE)
        begin = _UU_BEGIN.match(data, at, end) if at == start or data[at - 1 : at] == b"\n" else None
        if begin is not None:
            yield begin[1], begin.end()
        at = data.find(b"begin ", at + 6, end)


def uudecoded(data: bytes, start: int, end: int, budget: Budget) -> Iterator[Octets]:
    """The file whose lines begin at `start`, up to its end or what is no such line."""
    found: list[bytes] = []
    size = 0
    while start < end:
        line_end = data.find(b"\n", start, min(end, start + _UU_LINE_MAX))
        if line_end < 0:
            line_end = min(end, start + _UU_LINE_MAX)
        try:
            octets = binascii.a2b_uu(data[start:line_end].rstrip(b"\r"))
        except binascii.Error:
            break
        budget.spend(2 * (line_end - start) + 100)
        start = line_end + 1
        if not octets:
            break
        found.append(octets)
        size += len(octets)
        if size >= PIECE:
            yield b"".join(found)
            found, size = [], 0
    if found:
        yield b"".join(found)


def _uuencoded(data: bytes, start: int, end: int, budget: Budget) -> Iterator[Octets]:
    """The first file in it; what has none is as it stands."""
    for _, lines in uu_names(data, start, end, budget):
        yield from uudecoded(data, lines, end, budget)
        return
    yield from slices(data, start, end, budget)


def _base64(data: bytes, start: int, end: int, budget: Budget) -> Iterator[Octets]:
    rest = b""  # letters that wait for the others of their group
    for piece in slices(data, start, end, budget):
        letters = rest + bytes(piece).translate(None, _NO_BASE64)
        # Groups of four are counted anew after padding, so what is cut off belongs to the last run.
        run = letters.rfind(b"=") + 1
        whole = len(letters) - (len(letters) - run) % 4
        rest = letters[whole:]
        body = letters[:whole]
        padded = body.rstrip(b"=")  # the usual end, which needs no search for others
        if octets := decode_base64(body if b"=" in padded else padded):
            yield octets
    if octets := decode_base64(rest):
        yield octets


def _quoted_printable(data: bytes, start: int, end: int, budget: Budget) -> Iterator[Octets]:
    """Cut after line ends; in a line without end, where no escape and no blank is cut."""
    while start < end:
        cut = min(start + PIECE, end)
        if cut < end:
            line_end = data.rfind(b"\n", start, cut)
            if line_end >= 0:
                cut = line_end + 1
            else:
                while cut > start and (data[cut - 1 : cut] in b" \t\r" or b"=" in data[max(start, cut - 3) : cut]):
                    cut -= 1
                cut = cut if cut > start else min(start + PIECE, end)
        budget.spend(2 * (cut - start))
        yield decode_transfer(data[start:cut], b"quoted-printable")
        start = cut
