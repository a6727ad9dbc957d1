"""How far a slow command is: an untagged OK every ten seconds, so that nobody takes the server for dead.

Standards: RFC 9585 (INPROGRESS).
"""

from __future__ import annotations

from hosting.imap.encode import quoted
from storage.clock import Clock

_EVERY = 10.0  # seconds; RFC 9585 §4 recommends 10 to 15


class Progress:
    """Of one command."""

    __slots__ = ("_clock", "_last", "_tag")

    def __init__(self, clock: Clock, tag: bytes) -> None:
        self._clock = clock
        self._tag = tag
        self._last = clock.monotonic()

    def told(self, done: int | None = None, goal: int | None = None) -> bytes:
        """What is to be said now, mostly nothing. `done` never exceeds `goal`."""
        now = self._clock.monotonic()
        if now - self._last < _EVERY:
            return b""
        self._last = now
        numbers = b"NIL NIL" if done is None else b"%d %b" % (done, b"NIL" if goal is None else b"%d" % goal)
        return b"* OK [INPROGRESS (%b %b)] Still at work.\r\n" % (quoted(self._tag), numbers)
