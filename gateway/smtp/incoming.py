"""Receives the octets of one message from the wire, after DATA or in BDAT chunks, into a Content.

What is announced or begun is read to its end even if it is refused, so the dialogue stays in step; nothing of it is
kept from the moment that it is refused. All of it takes the memory of a piece and of the Content.

Raises: Ended, where the wire does: lost, too slow, or the server stops.
Standards: RFC 5321 §4.1.1.4 and §4.5.3.2.5 (time between pieces), RFC 3030 §2.
"""

from __future__ import annotations

import asyncio

from gateway.smtp import replies
from gateway.smtp.chunks import ChunkReader, ChunkSize
from gateway.smtp.content import Content
from gateway.smtp.data import DataReader
from gateway.smtp.limits import Limits
from gateway.smtp.replies import SmtpReply, reply_for
from gateway.smtp.wire import Wire

_PIECE = 256 * 1024  # octets of a chunk that are taken at once


class Incoming:
    """One message while it arrives. `until` is the time of the loop at which the transaction is over."""

    def __init__(self, wire: Wire, content: Content, limits: Limits, until: float, *, normalise: bool) -> None:
        self._wire = wire
        self._limits = limits
        self._until = until
        self._normalise = normalise
        self._chunks: ChunkReader | None = None  # once a BDAT has come
        self._announced = 0  # octets of all chunks so far
        self.content = content

    async def data(self) -> SmtpReply | None:
        """The message after DATA, to its end; the reply, if its form alone refuses it."""
        reader = DataReader(self.content.write, normalise=self._normalise)
        wire = self._wire
        while not reader.done:
            _allow(wire, self._limits.data_timeout, self._until)
            wire.unread(reader.feed(await wire.chunk()))
        return self._refusal(reader)

    async def chunk(self, size: ChunkSize) -> SmtpReply | None:
        """A chunk of it, to its end; the reply, if the message is refused now. Then no other chunk may be given."""
        reader = self._chunks
        if reader is None:
            reader = self._chunks = ChunkReader(self.content.write, normalise=self._normalise)
        self._announced += size.octets
        if self._announced > self._limits.message_size:
            self.content.discard()
            await discard(self._wire, size.octets, self._limits, self._until)
            return replies.TOO_LARGE
        left = size.octets
        while left:
            _allow(self._wire, self._limits.data_timeout, self._until)
            piece = await self._wire.chunk(min(left, _PIECE))
            left -= len(piece)
            reader.feed(piece)
        if size.last:
            reader.end()
        return self._refusal(reader)

    def _refusal(self, reader: DataReader | ChunkReader) -> SmtpReply | None:
        if self.content.too_large:
            return replies.TOO_LARGE
        if reader.bare_line_end:
            return replies.BARE_LINE_END
        if reader.nul:
            return replies.NUL_OCTET
        return None if self.content.failed is None else reply_for(self.content.failed)


async def discard(wire: Wire, octets: int, limits: Limits, until: float) -> None:
    """Reads the octets of a chunk that is refused, and lets them go (RFC 3030 §2)."""
    while octets:
        _allow(wire, limits.data_timeout, until)
        octets -= len(await wire.chunk(min(octets, _PIECE)))


def _allow(wire: Wire, seconds: float, until: float) -> None:
    """The peer has this long for the next piece."""
    wire.allow(max(0.0, min(seconds, until - asyncio.get_running_loop().time())))
