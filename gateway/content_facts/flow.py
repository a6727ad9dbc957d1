"""Octets that are pulled piece by piece, so that most of a large thing is never decoded or unpacked.

A flow that cannot go on (damaged, too much work) ends, and `stopped` says why; nothing here raises.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.content_facts.attachment import Incomplete
from gateway.content_facts.budget import Budget, Stop

Octets = bytes | bytearray
FIRST = 8 * 1024  # octets of a first piece, which mostly is all that is looked at
PIECE = 64 * 1024


class Flow:
    __slots__ = ("_at", "_kept", "_pieces", "stopped", "taken")

    def __init__(self, pieces: Iterator[Octets]) -> None:
        self._pieces = pieces
        self._kept: Octets = b""
        self._at = 0  # what is before it in `_kept` was read
        self.taken = 0  # octets that came out of `pieces`, read or not
        self.stopped: Incomplete | None = None

    def peek(self, most: int) -> bytes:
        """The next octets, which stay."""
        if len(self._kept) - self._at < most:
            have = [self._kept[self._at :]]
            size = len(have[0])
            while size < most and (piece := self._next()) is not None:
                have.append(piece)
                size += len(piece)
            self._kept, self._at = b"".join(have), 0
        return bytes(self._kept[self._at : self._at + most])

    def read(self, most: int) -> bytes:
        """The next octets; fewer only at the end."""
        octets = self.peek(most)
        self._at += len(octets)
        return octets

    def skip(self, count: int) -> bool:
        """False if the end came first."""
        while True:
            have = len(self._kept) - self._at
            if have >= count:
                self._at += count
                return True
            count -= have
            piece = self._next()
            self._kept, self._at = piece or b"", 0
            if piece is None:
                return False

    def pieces(self) -> Iterator[Octets]:
        """All that is left."""
        if self._at < len(self._kept):
            rest, self._kept, self._at = self._kept[self._at :], b"", 0
            yield rest
        while (piece := self._next()) is not None:
            yield piece

    def part(self, size: int) -> Flow:
        """The next `size` octets as a flow of their own; read it, or `skip` it, before this one is used again."""
        return Flow(self._part(size))

    def _part(self, size: int) -> Iterator[Octets]:
        while size > 0 and (piece := self.read(min(size, PIECE))):
            size -= len(piece)
            yield piece

    def collect(self, budget: Budget) -> bytearray:
        """All that is left, held in memory: `budget.release(len(...))` when it is let go. Raises Stop."""
        whole = bytearray()
        try:
            for piece in self.pieces():
                budget.hold(len(piece))
                whole += piece
        except Stop:
            budget.release(len(whole))
            raise
        return whole

    def _next(self) -> Octets | None:
        if self.stopped is not None:
            return None
        try:
            piece = next(self._pieces, None)
        except Stop as stop:
            self.stopped = stop.reason
            return None
        self.taken += len(piece or b"")
        return piece


def slices(octets: Octets, start: int, end: int, budget: Budget) -> Iterator[Octets]:
    """[start, end) as it is. Raises Stop."""
    size = FIRST
    while start < end:
        piece = octets[start : min(start + size, end)]
        budget.spend(len(piece))
        yield piece
        start, size = start + size, PIECE
