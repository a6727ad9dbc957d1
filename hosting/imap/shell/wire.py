"""What arrives on a connection, as events of the decoder, and what is sent, as octets: compressed or not.

Memory is bounded by what arrived and one piece of what it inflates to: the next one comes out when somebody asks.

Standards: RFC 4978 §3, RFC 8437 §4.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from hosting.imap.decoder import Decoder, Frame, Prompt, Refusal
from hosting.imap.effects import Compress, EndCompression, Secure
from hosting.imap.limits import Limits
from hosting.imap.shell.deflate import Broken, Deflated, Inflated

_BROKEN: Final = Refusal(b"", b"[CLIENTBUG] What arrived is not compressed as it has to be.", close=True)

_Event = TypeVar("_Event")


class Wire:
    __slots__ = ("_decoder", "_in", "_out")

    def __init__(self, limits: Limits) -> None:
        self._decoder = Decoder(limits)
        self._in: Inflated | None = None  # while the connection is compressed
        self._out: Deflated | None = None

    def feed(self, octets: bytes) -> None:
        if self._in is None:
            self._decoder.feed(octets)
        else:
            self._in.feed(octets)

    def whole(self, octets: bytes) -> Frame | None:
        """What arrived as a command, if it is one by itself; None: `feed` it."""
        return self._decoder.whole(octets) if self._in is None else None

    def next_frame(self, is_late: Callable[[], bool]) -> Frame | Prompt | Refusal | None:
        """The next event; None: more has to arrive, or it is late and `is_behind`."""
        return self._decoder.next_frame() if self._in is None else self._next(self._decoder.next_frame, is_late)

    def next_line(self) -> bytes | Refusal | None:
        """One line by itself; the limits of the decoder make this end soon."""
        return self._next(self._decoder.next_line, lambda: False)

    def _next(self, take: Callable[[], _Event | None], is_late: Callable[[], bool]) -> _Event | Refusal | None:
        while True:
            event = take()
            if event is not None or self._in is None:
                return event
            if is_late():  # asked before a piece comes out: one that did may be all that the client sent
                return None
            try:
                piece = self._in.next_piece()
            except Broken:
                return _BROKEN
            if not piece:
                return None
            self._decoder.feed(piece)

    @property
    def is_behind(self) -> bool:
        """Something compressed has arrived that was not looked at."""
        return self._in is not None and self._in.waiting > 0

    @property
    def unread(self) -> int:
        """Octets that arrived and wait."""
        return self._decoder.buffered + (self._in.waiting if self._in is not None else 0)

    @property
    def at_rest(self) -> bool:
        """Nothing has arrived of another command."""
        return not self.unread and self._decoder.at_rest

    @property
    def is_compressed(self) -> bool:
        return self._in is not None

    def change(self, layer: Secure | Compress | EndCompression) -> bytes:
        """A layer begins or ends between what was written and what follows; what has to be sent for that."""
        if isinstance(layer, Secure):
            self.discard()
        elif isinstance(layer, Compress):
            self.compress()
        else:
            return self.end_compression()
        return b""

    def discard(self) -> None:
        """Forgets what arrived: it was not protected, and what follows is."""
        self._decoder.discard()

    def signed_in(self, is_signed_in: bool) -> None:
        """Decides how large literals may be."""
        self._decoder.signed_in = is_signed_in

    def pack(self, octets: bytes) -> bytes:
        return octets if self._out is None else self._out.pack(octets)

    def compress(self) -> None:
        """From here on, in both directions."""
        self._in, self._out = Inflated(), Deflated()
        self._in.feed(self._decoder.remainder())

    def end_compression(self) -> bytes:
        """The opposite; what has to be sent for it."""
        came, sent = self._in, self._out
        if came is None or sent is None:
            return b""
        self._in = self._out = None
        self._decoder.feed(came.remainder())
        return sent.end()

    def rest(self) -> None:
        """Nothing was heard for a while: keep nothing that can be made again."""
        if self._in is not None and self._out is not None:
            self._in.rest()
            self._out.rest()
