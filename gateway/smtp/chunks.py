"""Reads the octets of a message that comes in BDAT chunks, and the argument of BDAT. Piece by piece, pure.

A chunk is as long as its command says, whatever is in it: nothing in it ends the message, and dots mean nothing. Lines
may be parted between chunks and pieces anywhere; the result is the same. A lone CR or LF, or a NUL, is noticed; with
`normalise` lone CRs and LFs become CRLF. A message that doesn't end with a line end gets one, as DATA would have forced
the sender to do (and as DKIM's canonical bodies have it, RFC 6376 §3.4.3).

Standards: RFC 3030 §2 (BDAT), RFC 5321 §2.3.8 (lines), RFC 2045 §2.8 (no NUL).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from gateway.smtp.data import has_bare_line_end, with_line_ends

_ARGUMENT: Final = re.compile(r"([0-9]{1,20})(?: +(LAST))? *\Z", re.ASCII | re.IGNORECASE)


class ChunkSize(NamedTuple):
    """What BDAT announces."""

    octets: int
    last: bool


def read_size(argument: str | None) -> ChunkSize | None:
    """The argument of BDAT; None if it cannot be read, and then nobody knows where the next command begins."""
    match = _ARGUMENT.match(argument or "")
    return ChunkSize(int(match[1]), match[2] is not None) if match else None


class ChunkReader:
    """One message. Feed it the octets of its chunks, then `end` it; what belongs to it goes to `take` in pieces."""

    __slots__ = ("_cr", "_ended", "_normalise", "_take", "bare_line_end", "nul")

    def __init__(self, take: Callable[[bytes], None], *, normalise: bool = False) -> None:
        self._take = take
        self._normalise = normalise
        self._cr = b""  # a CR whose LF may come with the next piece
        self._ended = True  # nothing follows the last line end
        self.bare_line_end = False
        self.nul = False

    def feed(self, piece: bytes) -> None:
        octets = self._cr + piece
        self._cr = b"\r" if octets.endswith(b"\r") else b""
        self._give(octets[:-1] if self._cr else octets)

    def end(self) -> None:
        """That was the last chunk."""
        held, self._cr = self._cr, b""
        self._give(held)
        if not self._ended:
            self._give(b"\r\n")

    def _give(self, octets: bytes) -> None:
        if not octets:
            return
        if b"\0" in octets:
            self.nul = True
        if self._normalise:
            octets = with_line_ends(octets)
        elif has_bare_line_end(octets):
            self.bare_line_end = True
        self._ended = octets.endswith(b"\r\n")
        self._take(octets)
