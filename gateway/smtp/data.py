"""Reads the octets after DATA: finds the end, removes the dots, and notices what must be refused. Chunk by chunk, pure.

Only CRLF.CRLF ends a message; however the octets are split into chunks, the result is the same. A lone CR or LF, or a
NUL, is noticed and the reading goes on to the true end, so that nothing behind a false end is ever taken for a command.
Cost and memory are those of the chunk: a line without end costs no more than any other.

With `normalise`, for clients that are known to send them, lone CRs and LFs become CRLF and the lines that they end lose
their dots as others do. The end of the message is sought in what came over the wire, before any of that.

Standards: RFC 5321 §4.1.1.4 (only <CRLF>.<CRLF> ends), §4.5.2 (transparency), §2.3.8 (lines); RFC 2045 §2.8 (no NUL).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

_END: Final = b"\r\n.\r\n"
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")


class DataReader:
    """One message. Feed it chunks until `done`; what belongs to the message goes to `take` in pieces."""

    __slots__ = ("_begun", "_held", "_line_ended", "_normalise", "_take", "bare_line_end", "done", "nul")

    def __init__(self, take: Callable[[bytes], None], *, normalise: bool = False) -> None:
        self._take = take
        self._normalise = normalise
        # Octets that may be the beginning of the end. A message starts as if a line had just ended before it.
        self._held = b"\r\n"
        self._begun = False
        self._line_ended = False
        self.done = False
        self.bare_line_end = False
        self.nul = False

    def feed(self, chunk: bytes) -> bytes:
        """Reads on. Returns what follows the end of the message (commands sent ahead), empty until it is reached."""
        buffer = self._held + chunk
        end = buffer.find(_END)
        if end >= 0:
            self.done = True
            certain, self._held, rest = buffer[: end + 2], b"", buffer[end + len(_END) :]
        else:
            cut = len(buffer) - _undecided(buffer)
            certain, self._held, rest = buffer[:cut], buffer[cut:], b""
        if certain:
            if b"\0" in certain:
                self.nul = True
            if self._normalise:
                certain = self._with_line_ends(certain)
            elif has_bare_line_end(certain):
                self.bare_line_end = True
            text = certain.replace(b"\r\n.", b"\r\n")  # neither the end nor a line end is ever parted between chunks
            if not self._begun:
                self._begun, text = True, text[2:]
            if text:
                self._take(text)
        return rest

    def _with_line_ends(self, octets: bytes) -> bytes:
        """Lone CRs and LFs become CRLF. One that ends a piece leaves the next line's dot to the next piece."""
        if self._line_ended and octets.startswith(b"."):
            octets = octets[1:]
        self._line_ended = octets.endswith((b"\n", b"\r"))
        return with_line_ends(octets)


def has_bare_line_end(octets: bytes) -> bool:
    """Whether a CR or a LF stands alone."""
    pairs = octets.count(b"\r\n")
    return octets.count(b"\r") != pairs or octets.count(b"\n") != pairs


def with_line_ends(octets: bytes) -> bytes:
    """Every lone CR or LF, too, as CRLF."""
    return _LINE_END.sub(b"\r\n", octets) if has_bare_line_end(octets) else octets


def _undecided(buffer: bytes) -> int:
    """How many octets at the end of `buffer` may be the beginning of CRLF.CRLF."""
    for length in (4, 3, 2, 1):
        if buffer.endswith(_END[:length]):
            return length
    return 0
